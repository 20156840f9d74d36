"""JSON and JSON lines, told apart by what is inside, not by the file's ending."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ftui.dataset.rows import BrokenRow, Note
from ftui.dataset.textfile import TextFile
from ftui.errors import UserError

MAX_DEPTH = 200  # Python's own limit is near 1,000 calls, and whoever reads the rows needs some of them
_WRAPPERS = {"data", "rows", "records", "examples", "items", "samples", "instances", "entries", "train"}
_CONVERSATIONS = {
    "messages",
    "conversations",
    "conversation",
    "contents",
    "turns",
    "dialogue",
    "dialog",
    "chat",
    "tools",
    "functions",
}
_NESTED = ("paragraphs", "qas")  # SQuAD: data[].paragraphs[].qas[]
_BLANK = re.compile(r"\s*")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(file: TextFile, records: str | None) -> Iterator[dict | BrokenRow | Note]:
    """Rows of a list, of a record list inside an object, of columns, or of one object a line."""
    lines = file.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))
    with file.open() as stream:
        start = stream.read(10_000).lstrip()[:1]
        stream.seek(0)
        if lines and start != "[" and not records:
            yield from _lines(stream, file.name)
            return
        text = stream.read()
    if start == "[" and not records:
        yield from _list(text, file.name)
        return
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if not (error.msg == "Extra data" and start == "{" and not records):
            raise UserError(
                f"{file.name}, line {error.lineno}: this is not valid JSON ({_complaint(error)}). Mend it there."
            ) from None
        yield from _lines(iter(text.splitlines()), file.name)
        return
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file.name} cannot be read: {_complaint(error)}.") from None
    odd = _is_odd(text)
    number = 0
    for value in _records(document, records, file.name):
        if isinstance(value, Note):
            yield value
        else:
            number += 1
            yield _row(value, odd, file.name, number, "row")


def _lines(stream: Iterator[str], name: str) -> Iterator[dict | BrokenRow]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield BrokenRow(name, number, f"it is not valid JSON ({_complaint(error)}).")
        else:
            yield _row(value, _is_odd(line), name, number, "line")


def _list(text: str, name: str) -> Iterator[dict | BrokenRow]:
    """The elements of a JSON list one by one, so that a long list is never in memory twice."""
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    number = 0
    try:
        while (position := _BLANK.match(text, position).end()) < len(text) and text[position] != "]":
            start = position
            value, position = decoder.raw_decode(text, start)
            number += 1
            yield _row(value, _is_odd(text[start:position]), name, number, "row")
            position = _BLANK.match(text, position).end()
            if text[position : position + 1] == ",":
                position += 1
            elif text[position : position + 1] != "]":
                raise json.JSONDecodeError("there should be a comma or ]", text, position)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else text.count("\n", 0, position) + 1
        raise UserError(
            f"{name}, line {line}, after {number} rows: this is not valid JSON ({_complaint(error)}). Mend it there."
        ) from None
    if position >= len(text):
        raise UserError(f"{name} ends in the middle of its list, after {number} rows. Is it cut off?")
    if rest := text[position + 1 :].strip():
        raise UserError(
            f"{name}: after the list there is more ({rest[:20]}…). Put one object on each line, or all into one list."
        )


def _complaint(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} levels"
    return (
        f"{error.msg}, character {error.colno}"
        if isinstance(error, json.JSONDecodeError)
        else "a number has too many digits"
    )


def _is_odd(text: str) -> bool:
    """Whether what was read from this text may be too deep or hold half a character: most text says at once that it does not."""
    return text.count("{") + text.count("[") > MAX_DEPTH or bool(_HALF.search(text))


def _row(value: object, odd: bool, name: str, number: int, unit: str) -> dict | BrokenRow:
    if (
        isinstance(value, dict)
        and isinstance(value.get("row"), dict)
        and value.keys() <= {"row_idx", "row", "truncated_cells"}
    ):
        value = value["row"]  # as the Hub's viewer hands rows out
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict) or not value:
        what = "empty" if value == {} else f"a {type(value).__name__}"
        return BrokenRow(name, number, f"a row must be an object with columns, and this is {what}.", unit)
    if odd and _depth(value) > MAX_DEPTH:
        return BrokenRow(name, number, f"it is nested deeper than {MAX_DEPTH} levels.", unit)
    if odd and not _is_whole(value):
        return BrokenRow(name, number, "it holds half a character (\\ud800 to \\udfff), which no text can hold.", unit)
    return value


def _is_whole(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth


def _records(document: object, path: str | None, name: str) -> Iterator[object]:
    """The rows inside a document: at `path`, or where such files usually have them; a Note where they may be elsewhere."""
    if path:
        yield from _walk(document, path.split("."), None, name)
    elif not isinstance(document, dict):
        yield document
    elif _are_intents(document):
        yield from (_utterance(each["data"], intent) for intent, said in document.items() for each in said)
    elif found := _record_key(document, name):
        steps = [found]
        inner = document[found][0]
        for step in _NESTED:
            if _is_records(inner.get(step)):
                steps.append(step)
                inner = inner[step][0]
        yield from _walk(document, steps, None, name)
    elif columns := _columns(document):
        yield from (dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True))
    else:
        for place in _lists_of_records(document):
            yield Note(
                f"A JSON object is one row. If the rows are those of its list “{place}”, name it under Record list (dataset.records)."
            )
        yield document


def _lists_of_records(document: dict) -> Iterator[str]:
    """Where several records stand that may be the rows, as `records` names the place. Turns of a conversation are none."""
    inner = [
        (f"{key}.{name}", name, each)
        for key, value in document.items()
        if isinstance(value, dict)
        for name, each in value.items()
    ]
    for place, key, value in [*((key, key, value) for key, value in document.items()), *inner]:
        if _is_records(value) and len(value) > 1 and key.lower() not in _CONVERSATIONS:
            yield place


def _record_key(document: dict, name: str) -> str | None:
    lists = [key for key, value in document.items() if _is_records(value) and key.lower() not in _CONVERSATIONS]
    usual = [key for key in lists if key.lower() in _WRAPPERS]
    if len(usual) == 1 and len(lists) == 1 or len(document) == 1 and lists:
        return lists[0]
    if usual:
        raise UserError(f"{name} holds several lists of records: {', '.join(lists)}. Set “records” to the one to read.")
    return None


def _is_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _are_intents(document: dict) -> bool:
    """Snips: `{intent: [{"data": [{"text": …, "entity"?: …}]}]}`, a sentence cut into pieces, some of them slots."""
    return bool(document) and all(
        _is_records(said) and all(_is_records(each.get("data")) and all(map(_is_piece, each["data"])) for each in said)
        for said in document.values()
    )


def _is_piece(piece: dict) -> bool:
    return isinstance(piece.get("text"), str) and piece.keys() <= {"text", "entity", "slot_name"}


def _utterance(pieces: list[dict], intent: str) -> dict:
    """The sentence whole, its intent, and what fills its slots: a list where a slot is filled more than once."""
    slots: dict[str, str | list[str]] = {}
    for piece in pieces:
        if name := piece.get("slot_name") or piece.get("entity"):
            before = slots.get(name)
            slots[name] = (
                piece["text"] if before is None else [*([before] if isinstance(before, str) else before), piece["text"]]
            )
    return {"text": "".join(piece["text"] for piece in pieces), "intent": intent, "slots": slots}


def _columns(document: dict) -> list[list] | None:
    """`{"column": [...]}`, or `{"column": {"0": ...}}` as pandas writes it."""
    values = list(document.values())
    if (
        values
        and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values)
        and all(key.isdigit() for key in values[0])
    ):
        return [list(value.values()) for value in values]
    one_length = all(isinstance(value, list) for value in values) and len({len(value) for value in values}) == 1
    conversation = len(values) == 1 and next(iter(document)).lower() in _CONVERSATIONS
    return values if one_length and not conversation else None


def _walk(value: object, steps: list[str], carried: dict | None, name: str) -> Iterator[object]:
    """What lies at the end of the steps, each with the plain fields of the records on the way to it.

    `carried` is None outside the first list: what stands there is about the file, not about a record.
    """
    if isinstance(value, list):
        for each in value:
            yield from _walk(each, steps, carried or {}, name)
    elif not steps:
        yield {**(carried or {}), **value} if isinstance(value, dict) else value
    elif not isinstance(value, dict) or steps[0] not in value:
        keys = f" The keys there are: {', '.join(list(value)[:20])}." if isinstance(value, dict) else ""
        raise UserError(f"{name}: “records” asks for “{steps[0]}”, which is not there.{keys}")
    else:
        plain = {key: each for key, each in value.items() if not isinstance(each, dict | list)}
        yield from _walk(value[steps[0]], steps[1:], None if carried is None else {**carried, **plain}, name)
