"""What stands in the texts: marks of other formats, broken letters, other scripts and languages, secrets and personal data.

No message repeats what was found: a report is shown to others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from ftui.dataset import Rows
from ftui.doctor.problem import FEW, Problem, leave_out_few, mend_texts, warning
from ftui.doctor.survey import Survey
from ftui.encoding import Encoding

_FORMATTED = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|\[/?INST\]|<<SYS>>|<\|(?:user|assistant|system)\|>"
    r"|^###\s*(?:Instruction|Response|Input|Assistant|Human|Question|Answer)s?\b|^(?:Human|Assistant|USER|ASSISTANT):\s",
    re.MULTILINE,
)

# What RE2 finds in all texts at once, so that Python's slower patterns see only the few that may hold something.
_MAYBE_SECRET = (
    r"AKIA|ASIA|gh[pousr]_|github_pat_|hf_|sk-|xox|AIza|glpat-|eyJ|PRIVATE KEY"
    r"|(?i:password|passwd|secret|api[_-]?key|access[_-]?token)"
)
_MAYBE_PERSONAL = r"@|[A-Z]{2}\d{2}[ ]?[A-Z0-9]{4}|(?:\d[ .()/-]{0,2}){9}"

# UTF-8 that was read as cp1252: a lead byte as a letter, followed by what its continuation bytes look like.
_CONTINUED = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"[Â-ß][{_CONTINUED}]|[à-ï][{_CONTINUED}]{{2}}|[ð-ô][{_CONTINUED}]{{3}}")

_SECRET = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{22,}|\bhf_[A-Za-z]{30,}\b"
    r"|\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}|\bxox[abeoprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bglpat-[\w-]{20}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|(?i:\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)[\"']?\s*[:=]\s*[\"'](?!your|my|the|some|<|\*|x{3}|pass|secret|example))[^\"'\s]{8,}(?=[\"'])"
)

_EMAIL = re.compile(
    r"\b[\w.+-]{1,64}@(?!(?:example|domain|company|your\w*)\.|[\w.-]*\.(?:example|invalid|test)\b)[\w-]+(?:\.[\w-]+)+\b",
    re.ASCII,
)
_PHONE = re.compile(
    r"(?<![\w+.,-])(?:(?:\(?\+\d{1,3}|(?<!\d )00[1-9]\d{0,2} )[ .()/-]{0,2}(?:\d[ .()/-]{0,2}){6,12}\d"
    r"|\(\d{3}\) ?\d{3}[ -]\d{4}|[2-9]\d{2}[-. ][2-9]\d{2}[-. ]\d{4})(?![\w-])"
)
# As people write them at home, without a country: longer than a date, and cut otherwise than prices and order numbers.
_NATIONAL = re.compile(
    r"(?<![\w+.,/$€£#-])(?<![$€£#] )(?:"
    r"0[1-9]([ .-])\d\d(?:\1\d\d){3}"  # France
    r"|(?:\(0[1-9]\d{1,4}\) ?|0[1-9]\d{1,4}(?: ?/ ?|[ -]))"  # Germany, United Kingdom: an area, then the number
    r"(?:\d{6,8}|\d{3,4}[ -]\d{3,4}|\d{2,4}(?:[ -]\d{2,3}){2,3}|\d{3,6}-\d{1,4})"
    r"|0[2-9] \d{4} \d{4}"
    r"|(?:[67]\d\d|9[1-9]\d) \d{3} (?!000)\d{3}"  # Spain
    r"|[6-9]\d\d([ -])\d\d\2\d\d\2\d\d|9\d([ -])\d{3}\3\d\d\3\d\d"
    r"|01[567]\d{8,9}|07\d{9}|0[67]\d{8}|\d{9,12}"
    r")(?![\w-]|[.,/]\d| ?[€$£%]| (?:EUR|USD|GBP|[Ee]uros?|dollars?|pounds?|people|inhabitants|habitantes|personas|Einwohner|km|kg|m²)\b)"
)
_TOLD_AS_PHONE = re.compile(
    r"\b(?:tel\b|tele(?:ph|f)o|teléf|tél\b|télép|phone|mobile?\b|móvil|movil\b|handy\b|fax\b|whatsapp|cell\b)",
    re.IGNORECASE,
)
_TOLD_AS_OTHER = re.compile(
    r"(?:#|\b(?:isbn|ean|upc|issn|doi|ids?|ref|sku|vat|ust|order|invoice|receipt|tracking|serial|article|ticket|customer"
    r"|bestell|rechnung|auftrag|artikel|kunden|sendung|pedido|factura|referencia|commande|facture|référence)\w*)"
    r"[\W_]*(?:(?:numbers?|nummer|número|numero|no|nr|id)\b[\W_]*)?$",
    re.IGNORECASE,
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(
    r"(?<![\w.-])(?:[3-6]\d{12,18}|[3-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5})(?![\w-])"
)

_SCRIPTS = {
    "Cyrillic": re.compile(r"[\u0400-\u052f]"),
    "Greek": re.compile(r"[\u0370-\u03ff]"),
    "Arabic": re.compile(r"[\u0600-\u06ff\u0750-\u077f]"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]"),
    "Devanagari": re.compile(r"[\u0900-\u097f]"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]"),
    "Chinese or Japanese": re.compile(r"[\u3040-\u30ff\u3400-\u9fff]"),
    "Korean": re.compile(r"[\uac00-\ud7af\u1100-\u11ff]"),
    "Latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
}
_FOREIGN = r"[\x{0370}-\x{1fff}\x{3040}-\x{d7af}]"  # what RE2 finds of all scripts but Latin
_STRAY = re.compile(r"[\u0400-\u052f\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# Who is asked of languages may well answer in their letters.
_OF_LANGUAGES = re.compile(
    r"translat|tradu[cz]|übersetz|languages?\b|idioma|kanji|pinyin|alphabet|chin[ae]|chino|japan|japón|korea|corean|russ?i|ruso|arab|árab|hebr|hindi|thai",
    re.IGNORECASE,
)
_DISGUISED = re.compile(r"[a-z][\u0430-\u044f]|[\u0430-\u044f][a-z]", re.IGNORECASE)


def look_at_content(encoding: Encoding, rows: Rows, survey: Survey) -> Iterator[Problem]:
    where = _search(survey)
    tokens = [str(token) for token in encoding.tokenizer.all_special_tokens if token]
    specials = re.compile("|".join(map(re.escape, tokens)) or "(?!)")
    found = where("|".join(re.sub(r"([^\w\s])", r"\\\1", token) for token in tokens), specials.search) if tokens else []
    yield from warning(
        "special_tokens_in_data",
        found,
        "{rows}: the text holds special tokens of the model. They are learned as plain text and never obeyed; remove them if they are left over.",
        mend_texts(rows, found, "Remove special tokens", lambda text: specials.sub("", text)),
    )
    twice = "{rows}: the text is already formatted for a model, so the format would be learned twice. Split it into prompt and answer."
    once = (
        "{rows}: the text is already formatted for a model and is learned as it stands, its marks among it. "
        "Unless it will be asked in just that way, split it into prompt and answer."
    )
    found = where(f"(?m){_FORMATTED.pattern}", _FORMATTED.search)
    yield from warning("already_formatted", found, twice if survey.is_chat.any() else once)
    found = where(f"\ufffd|{_MOJIBAKE.pattern}", has_mojibake)
    yield from warning(
        "mojibake",
        found,
        "{rows}: letters are broken, such as “Ã©” for “é”; the file was once read in a wrong encoding.",
        mend_texts(rows, found, "Mend the letters", without_mojibake),
    )
    yield from _scripts(rows, survey)
    yield from _languages(rows, survey)
    found = where(_MAYBE_SECRET, _SECRET.search)
    yield from warning(
        "secrets",
        found,
        "{rows}: there seem to be passwords or keys. A tuned model can repeat them to anybody: replace them, and revoke those that are real.",
        mend_texts(rows, found, "Replace secrets", lambda text: _SECRET.sub("[secret]", text)),
    )
    found = where(_MAYBE_PERSONAL, has_personal_data)
    yield from warning(
        "personal_data",
        found,
        "{rows}: there seem to be e-mail addresses, phone, account or card numbers. Replace them unless you may use them.",
        mend_texts(rows, found, "Replace personal data", without_personal_data),
    )


def _search(survey: Survey) -> Callable[[str, Callable[[str], object]], list[int]]:
    """A function that gives the numbers of the rows in whose texts an RE2 pattern finds something that a check confirms."""
    import pyarrow.compute as pc

    columns = survey.spoken

    def where(pattern: str, confirms: Callable[[str], object]) -> list[int]:
        found = {
            place
            for column in columns
            for place in pc.indices_nonzero(pc.match_substring_regex(column, pattern)).to_pylist()
            if confirms(column[place].as_py())
        }
        return survey.numbers(sorted(found))

    return where


# broken letters


def has_mojibake(text: str) -> bool:
    return not text.isascii() and ("\ufffd" in text or without_mojibake(text) != text)


def without_mojibake(text: str) -> str:
    return text if text.isascii() else _MOJIBAKE.sub(_mended, text)


def _mended(match: re.Match[str]) -> str:
    try:
        return b"".join(_byte(letter) for letter in match[0]).decode("utf-8")
    except UnicodeDecodeError:
        return match[0]


def _byte(letter: str) -> bytes:
    try:
        return letter.encode("cp1252")
    except UnicodeEncodeError:
        return letter.encode("latin-1")


# scripts and languages


def _scripts(rows: Rows, survey: Survey) -> Iterator[Problem]:
    """Rows in another script than nearly all others, with words that mix look-alike letters, or whose answer slips into another."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.binary_join_element_wise(survey.asked, survey.answers, pa.scalar("\n", pa.large_string()))
    foreign = pc.match_substring_regex(texts, _FOREIGN).to_numpy()
    counts: Counter[str] = Counter()
    counts["Latin"] = int(pc.sum(pc.match_substring_regex(texts, "[A-Za-zÀ-ɏ]")).as_py() or 0)
    odd: list[tuple[int, str | None, bool]] = []
    for place in foreign.nonzero()[0]:
        text = texts[int(place)].as_py()
        script = _script(text)
        if script != "Latin":
            counts[script] += 1
            counts["Latin"] -= bool(_SCRIPTS["Latin"].search(text))
        odd.append((int(place), script, bool(_DISGUISED.search(text))))
    usual = counts.most_common(1)[0][0]
    other = {place for place, script, _ in odd if script != usual}
    if usual != "Latin":
        latin = pc.match_substring_regex(texts, "[A-Za-zÀ-ɏ]").to_numpy() & ~foreign
        other |= set(latin.nonzero()[0].tolist())
    disguised = {place for place, _, is_disguised in odd if is_disguised}
    if usual == "Latin":
        strayed = {place for place, script, _ in odd if script == usual and _strays(survey, place)}
        if len(strayed) < FEW * len(survey):  # where more do, that is how the data is meant
            other |= strayed
            counts.update(_script("".join(_STRAY.findall(survey.answer(place)))) for place in strayed)
    numbers = survey.numbers(sorted(other | disguised))
    others = ", ".join(script for script, count in counts.items() if script != usual and count) or "look-alike letters"
    fix = leave_out_few(rows, numbers, "other letters")
    yield from warning(
        "mixed_scripts",
        numbers,
        f"{{rows}}: not in {usual} letters like the others, or with other letters among them ({others}). "
        + ("Leave out what does not belong here." if fix else "See whether that is meant."),
        fix,
    )


def _strays(survey: Survey, place: int) -> bool:
    """Whether the answer has letters that the prompt neither has nor asks for, as models of several languages slip."""
    asked = survey.asked[place].as_py()
    return bool(_STRAY.search(survey.answer(place))) and not (_STRAY.search(asked) or _OF_LANGUAGES.search(asked))


def _script(text: str) -> str:
    """The script of most letters; a Latin name or command in a Cyrillic text does not make it Latin."""
    counts = {script: len(letters.findall(text)) for script, letters in _SCRIPTS.items()}
    return max(counts, key=counts.__getitem__)


def _languages(rows: Rows, survey: Survey) -> Iterator[Problem]:
    """Rows in another language than most, or, where several are usual, answers in another one than their prompt."""
    odd: set[int] = set()
    said = []
    usual = {}
    for side, languages in (("prompts", survey.asked_in), ("answers", survey.answered_in)):
        counts = Counter(language for language in languages if language)
        if len(counts) < 2:
            continue
        usual[side] = counts.most_common(1)[0][0]
        odd |= {place for place, language in enumerate(languages) if language and language != usual[side]}
        said += [
            f"{count:,} {side if count > 1 else side[:-1]} in {language}"
            for language, count in counts.most_common(4)[1:]
        ]
    numbers = survey.numbers(sorted(odd))
    few = len(numbers) < 0.2 * len(survey)
    fix = leave_out_few(rows, numbers, "another language")
    yield from warning(
        "mixed_languages",
        numbers,
        f"{{rows}}: {', '.join(said)}, while most are in {' and '.join(dict.fromkeys(usual.values()))}. "
        + ("Leave out what is not meant." if fix else "See whether that is meant."),
        fix,
    )
    pairs = [
        (place, pair[0] == pair[1])
        for place, pair in enumerate(zip(survey.asked_in, survey.answered_in, strict=True))
        if all(pair)
    ]
    others = [place for place, is_same in pairs if not is_same]
    if not few and len(others) < 0.2 * len(pairs):
        numbers = survey.numbers(others)
        yield from warning(
            "answer_language",
            numbers,
            "{rows}: the answer is in another language than its prompt, unlike in the other rows.",
            leave_out_few(rows, numbers, "answers in another language"),
        )


# personal data


def has_personal_data(text: str) -> bool:
    return any(True for _ in _personal(text))


def without_personal_data(text: str) -> str:
    for start, end, what in sorted(_personal(text), reverse=True):
        text = text[:start] + f"[{what}]" + text[end:]
    return text


def _personal(text: str) -> Iterator[tuple[int, int, str]]:
    """Where something personal stands, without overlap, and what it is."""
    taken: list[tuple[int, int]] = []
    for what, pattern, holds in (
        ("e-mail", _EMAIL if "@" in text else None, None),
        ("account number", _IBAN, _is_iban),
        ("card number", _CARD, _is_card),
        ("phone number", _PHONE, None),
        ("phone number", _NATIONAL, _is_national),
    ):
        for match in pattern.finditer(text) if pattern else ():
            if (holds is None or holds(match)) and all(
                match.end() <= start or end <= match.start() for start, end in taken
            ):
                taken.append(match.span())
                yield *match.span(), what


def _is_iban(match: re.Match[str]) -> bool:
    compact = match[0].replace(" ", "")
    return 15 <= len(compact) <= 34 and int("".join(str(int(each, 36)) for each in compact[4:] + compact[:4])) % 97 == 1


def _is_card(match: re.Match[str]) -> bool:
    """Luhn's check digit."""
    digits = [int(each) for each in reversed(match[0]) if each.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_national(match: re.Match[str]) -> bool:
    """By its length, and by what is said before it; in one piece only mobile numbers speak for themselves."""
    digits = [int(each) for each in match[0] if each.isdigit()]
    before = match.string[max(0, match.start() - 24) : match.start()]
    if not 9 <= len(digits) <= 12 or len(set(digits)) < 3:
        return False
    if _TOLD_AS_PHONE.search(before):
        return True
    in_one_piece = match[0].isdigit()
    is_mobile = re.match(r"01[567]|07\d{9}|0[67]\d{8}$", match[0])
    is_isbn = len(digits) == 10 and sum((10 - place) * digit for place, digit in enumerate(digits)) % 11 == 0
    return not _TOLD_AS_OTHER.search(before) and not (in_one_piece and (is_isbn or not is_mobile))
