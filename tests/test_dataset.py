"""Rows from every format, and how they are divided."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ftui.dataset import DatasetSource, Rows, SplitSettings
from ftui.dataset.delimited import is_table
from ftui.dataset.hub import is_hub_id, read_hub, sentence
from ftui.dataset.rows import BATCH
from ftui.errors import UserError

PAIRS = [{"q": "Odd?", "a": "Yes"}, {"q": "Even, “naïve”?", "a": "No\nnever"}]
TURNS = [{"role": "user", "content": "Kilos?"}, {"role": "assistant", "content": "412.", "weight": 1}]


@pytest.fixture
def load(tmp_path):
    """Writes a file and loads it."""

    def load(content: str | bytes, name: str, **settings) -> Rows:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return DatasetSource(path=str(path), **settings).load()

    return load


def as_csv(delimiter: str) -> str:
    lines = [["q", "a"], *([row["q"], row["a"]] for row in PAIRS)]
    return "\r\n".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)


def as_lines(rows: list) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


# formats


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_table_is_read_whatever_its_delimiter_and_encoding(load, delimiter, encoding):
    assert list(load(as_csv(delimiter).encode(encoding), "x.csv")) == PAIRS


QUOTES = {
    "doubled": ('q,a\n"say ""hi"", you","1"\n', "x.csv"),
    "doubled, with words of LaTeX": ('q,a\n"\\frac{1}{2} ""hi"", you","1"\n"x\\",y\n', "x.csv"),
    "with a backslash": ('q,a\n"say \\"hi\\", you","1"\n', "x.csv"),
    "with a backslash, semicolons": ('q;a\n"say \\"hi\\", you";"1"\n', "x.csv"),
    "behind a blank": ('"q", "a"\n"say ""hi"", you", "1"\n', "x.csv"),
    "single": ("'q','a'\n'say \"hi\", you','1'\n", "x.csv"),
    "not used": ('q\ta\n"hi" she said, you\t1\nsay "hi", you\t1\n', "x.tsv"),
}


@pytest.mark.parametrize(("content", "name"), QUOTES.values(), ids=QUOTES)
def test_quotes_are_read_as_they_are_written(load, content, name):
    rows = load(content, name)
    assert rows.columns == ("q", "a") and rows.problems == ()
    assert '"hi"' in rows[0]["q"] and rows[0]["q"].endswith(", you") and rows[0]["a"] == "1"
    assert [row["q"] for row in rows if "\\" in row["q"]] == (
        ['\\frac{1}{2} "hi", you', "x\\"] if "frac" in content else []
    )
    assert any("with a backslash" in note for note in rows.notes) is ('\\"hi' in content)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ('question,answer\n"a, b",c\n"x\ny",d', True),
        ("a\tb\n1\t2", True),
        ("q;a\n1,5;2", True),
        ("Hello, world\nHow are you?", False),
        ("just\ntext", False),
    ],
)
def test_a_table_is_told_from_text(text, is_one):
    assert is_table(text) is is_one


def test_a_guessed_encoding_is_said(load):
    assert "was read as cp1252" in load(as_csv(",").encode("cp1252"), "x.csv").notes[0]
    assert load(as_csv(","), "x.csv").notes == ()


def test_csv_cells_stay_text(load):
    assert load("a,b,c,d,e\n007,NA,None,,1e5\n", "x.csv")[0] == {
        "a": "007",
        "b": "NA",
        "c": "None",
        "d": "",
        "e": "1e5",
    }


def test_a_csv_of_one_column_may_hold_commas(load):
    assert list(load("text\nHello, world\nOne, two, three\n", "x.csv")) == [
        {"text": "Hello, world"},
        {"text": "One, two, three"},
    ]


def test_ragged_lines_are_reported_with_their_number(load):
    rows = load('a,b\n1,"x\ny"\n2\n3,4,5\n6,7,\n\n8,9\n', "x.csv")
    assert [row["a"] for row in rows] == ["1", "6", "8"]
    assert [str(problem) for problem in rows.problems] == [
        "x.csv, line 4: it has 1 cells, and the header names 2 columns.",
        "x.csv, line 5: it has 3 cells, and the header names 2 columns.",
    ]


def test_a_badly_quoted_line_is_reported_and_the_next_is_read(load):
    rows = load('a,b\n"x"y,1\nz,2\n', "x.csv")
    assert list(rows) == [{"a": "z", "b": "2"}]
    assert rows.problems[0].number == 2 and "quote" in rows.problems[0].reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", json.dumps(PAIRS, indent=1)),
        ("list.jsonl", json.dumps(PAIRS)),
        ("lines.jsonl", as_lines(PAIRS)),
        ("lines.json", as_lines(PAIRS)),
        ("lines.ndjson", "\ufeff" + "\n\n" + as_lines(PAIRS) + "\n\n"),
        ("wrapped.json", json.dumps({"version": "1", "data": PAIRS})),
        ("wrapped.json", json.dumps({"anything": PAIRS})),
        ("viewer.json", json.dumps({"rows": [{"row_idx": 0, "row": row, "truncated_cells": []} for row in PAIRS]})),
        ("columns.json", json.dumps({key: [row[key] for row in PAIRS] for key in ("q", "a")})),
        ("pandas.json", json.dumps({key: {str(i): row[key] for i, row in enumerate(PAIRS)} for key in ("q", "a")})),
        ("packed.jsonl.gz", gzip.compress(as_lines(PAIRS).encode())),
        ("packed.csv.gz", gzip.compress(as_csv(";").encode())),
    ],
)
def test_json_is_read_however_it_is_arranged(load, name, content):
    rows = load(content, name)
    assert list(rows) == PAIRS
    assert rows.problems == ()


def test_one_object_is_one_row(load):
    assert list(load(json.dumps({"q": "x", "tags": [{"t": 1}]}), "x.json")) == [{"q": "x", "tags": [{"t": 1}]}]
    assert list(load(json.dumps({"messages": TURNS}), "x.json")) == [{"messages": TURNS}]


def test_a_list_of_texts_is_a_column_of_texts(load):
    assert list(load('["one", "two"]', "x.json")) == [{"text": "one"}, {"text": "two"}]


def test_utterances_cut_into_pieces_become_text_intent_and_slots(load):
    def said(*pieces: tuple[str, str | None]) -> dict:
        return {"data": [{"text": text} | ({"entity": name} if name else {}) for text, name in pieces]}

    document = {
        "Play": [
            said(("Play ", None), ("it", "song"), (" by ", None), ("Ann", "artist"), (" and ", None), ("Bo", "artist"))
        ],
        "Stop": [said(("Stop!", None))],
    }
    assert list(load(json.dumps(document), "x.json")) == [
        {"text": "Play it by Ann and Bo", "intent": "Play", "slots": {"song": "it", "artist": ["Ann", "Bo"]}},
        {"text": "Stop!", "intent": "Stop", "slots": {}},
    ]


def test_broken_json_lines_are_reported_with_their_number(load):
    rows = load('{"a": 1}\n\n{"a": 2\n[3]\n{}\n{"a": 5}\n', "x.jsonl")
    assert [row["a"] for row in rows] == [1, 5]
    assert [(problem.file, problem.number) for problem in rows.problems] == [
        ("x.jsonl", 3),
        ("x.jsonl", 4),
        ("x.jsonl", 5),
    ]


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {"context": "C", "qas": [{"id": "1", "question": "Q", "answers": [{"text": "A", "answer_start": 0}]}]}
            ],
        }
    ],
}


@pytest.mark.parametrize("records", [None, "data.paragraphs.qas"])
def test_nested_records_carry_what_stands_above_them(load, records):
    row = {"title": "T", "context": "C", "id": "1", "question": "Q", "answers": [{"text": "A", "answer_start": 0}]}
    assert list(load(json.dumps(SQUAD), "x.json", records=records)) == [row]


def test_records_choose_among_several_lists(load):
    document = json.dumps({"train": PAIRS[:1], "test": PAIRS[1:]})
    assert list(load(document, "x.json", records="test")) == PAIRS[1:]
    with pytest.raises(UserError, match="several lists of records: train, test"):
        load(document, "x.json")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"version": "1", "faq": PAIRS}, "faq"),
        ({"status": 200, "result": {"total": 2, "items": PAIRS}}, "result.items"),
        ({"id": 1, "messages": TURNS}, None),
        ({"id": 1, "answers": [{"text": "a"}]}, None),
    ],
)
def test_where_an_object_may_hold_the_rows_a_note_says_how_to_name_them(load, document, place):
    rows = load(json.dumps(document), "x.json")
    assert list(rows) == [document]
    assert [note.split("“")[1].split("”")[0] for note in rows.notes] == ([place] if place else [])
    assert place is None or list(load(json.dumps(document), "x.json", records=place)) == PAIRS


@pytest.mark.parametrize(
    ("unit", "texts"),
    [("line", ["One", "two.", "Three."]), ("paragraph", ["One\ntwo.", "Three."]), ("file", ["One\ntwo.\n\n\nThree."])],
)
def test_plain_text_has_a_row_a_line_a_paragraph_or_a_file(load, unit, texts):
    assert [row["text"] for row in load("One\r\ntwo.\r\n\r\n\r\nThree.\r\n", "x.txt", text_unit=unit)] == texts


def test_parquet_and_arrow_give_rows_without_invented_keys(tmp_path):
    calls = [[{"name": "f", "on": True}], [{"name": "g", "level": 3}]]
    table = pa.table({"calls": calls, "n": [1, None], "s": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "x.parquet")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("x.parquet", "x.arrow", "stream.arrow"):
        rows = DatasetSource(path=str(tmp_path / name)).load()
        assert list(rows) == [{"calls": calls[0], "n": 1, "s": "x"}, {"calls": calls[1], "n": None, "s": "y"}]


REPORTS = {
    "a title": ([["Report 2024"], ["text", "answer", "n"], ["a", "b", 1], ["c", "d", 2]], 2),
    "a title and a blank line": ([["Report 2024"], [], ["text", "answer"], ["a", "b"]], 3),
    "a title of two lines": ([["Report"], ["of 2024"], [], ["text", "answer"], ["a", None], ["c", "d"]], 4),
    "no title": ([["text", "answer"], ["a", "b"]], None),
    "a header with a gap": ([["text", None, "answer"], ["a", "b", "c"], ["d", "e", "f"]], None),
    "an index without a name": ([[None, "text"], ["0", "a"], ["1", "b"]], None),
    "one column": ([["text"], ["a"], ["b"]], None),
    "a column that few rows fill": ([["text", "answer"], ["a", "b"], ["c", "d", "!"], ["e", "f"]], None),
}


@pytest.mark.parametrize(("lines", "found"), REPORTS.values(), ids=REPORTS)
def test_the_header_of_a_sheet_is_found_below_a_title(tmp_path, lines, found):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for number, line in enumerate(lines, 1):
        for place, cell in enumerate(line, 1):
            book.active.cell(number, place, cell)
    book.save(tmp_path / "x.xlsx")
    rows = DatasetSource(path=str(tmp_path / "x.xlsx")).load()
    names = [cell or f"column_{place}" for place, cell in enumerate(lines[(found or 1) - 1], 1)]
    assert list(rows.columns) == names and rows[0][names[0]] == lines[found or 1][0]
    said = f"x.xlsx: the header was found in line {found}; the lines above it are left out."
    assert list(rows.notes) == ([said] if found else [])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_header_of_a_csv_is_found_below_a_title(load, delimiter):
    table = "text,answer,n\na,b,1\nc,d,2\n".replace(",", delimiter)
    for title, line in (("Report 2024,,\n".replace(",", delimiter), 2), ("Report 2024\n\n", 3)):
        rows = load(title + table, "x.csv")
        assert list(rows) == [{"text": "a", "answer": "b", "n": "1"}, {"text": "c", "answer": "d", "n": "2"}]
        assert rows.notes == (f"x.csv: the header was found in line {line}; the lines above it are left out.",)
    rows = load("# exported\n# on Monday\n" + table, "x.csv")
    assert rows.columns == ("text", "answer", "n") and "found in line 3" in rows.notes[0]
    assert load("text\n\nOh, well\nNo, I said, no\n", "x.csv").columns == ("text",)


def test_a_sheet_is_read_from_its_first_row_that_is_not_empty(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for cells in ([], ["text", "n"], ["=1+1", 7], [None, None], ["007", None], ["a", "b", "c"]):
        book.active.append(cells)
    book.active["A3"].data_type = "s"
    book.create_sheet("other").append(["only"])
    book["other"].append(["x"])
    book.save(tmp_path / "x.xlsx")
    rows = DatasetSource(path=str(tmp_path / "x.xlsx")).load()
    assert list(rows) == [{"text": "=1+1", "n": 7}, {"text": "007", "n": None}]
    assert [str(problem) for problem in rows.problems] == [
        "x.xlsx, row 6: it has 3 cells, and the header names 2 columns."
    ]
    others = DatasetSource(path=str(tmp_path / "x.xlsx"), sheet="other").load()
    assert list(others) == [{"only": "x"}] and others.notes == ()
    assert "2 sheets; “Sheet” was read" in DatasetSource(path=str(tmp_path / "x.xlsx")).load().notes[0]
    with pytest.raises(UserError, match="no sheet “none”. Its sheets are: Sheet, other"):
        DatasetSource(path=str(tmp_path / "x.xlsx"), sheet="none").load()
    book.create_sheet("cover", 0).append(["Read me first"])
    book.save(tmp_path / "x.xlsx")
    with pytest.raises(
        UserError, match="not one row to read here. x.xlsx has 3 sheets; “cover” was read. Name another"
    ):
        DatasetSource(path=str(tmp_path / "x.xlsx")).load()


# many files


def test_a_folder_a_pattern_and_a_list_are_one_data_set(load, tmp_path):
    load('{"n": "b"}', "deep/er/b.json")
    load('{"n": "a"}', "deep/a.json")
    load("notes", "deep/README.md")
    load('{"n": "hidden"}', "deep/.cache/c.json")
    folder = DatasetSource(path=str(tmp_path / "deep")).load()
    assert [row["n"] for row in folder] == ["a", "b"]
    assert folder.notes == ("Left out of “deep”, as they are no data: README.md.",)
    assert [row["n"] for row in DatasetSource(path=str(tmp_path / "deep/**/*.json")).load()] == ["a", "b"]
    assert len(DatasetSource(path=(str(tmp_path / "deep/a.json"), str(tmp_path / "deep/a.json"))).load()) == 2


def test_a_folder_of_several_kinds_asks_for_one(load, tmp_path):
    load("a\n1\n", "mixed/x.csv")
    load('{"a": "1"}', "mixed/x.json")
    with pytest.raises(UserError, match=r"holds 1 .csv and 1 .json files. Choose one kind"):
        DatasetSource(path=str(tmp_path / "mixed")).load()


@pytest.mark.true
def test_ten_thousand_small_files_are_read(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number:05}.json").write_text(json.dumps({"n": str(number)}))
    rows = DatasetSource(path=str(tmp_path)).load()
    assert len(rows) == 10_000 and rows[9_999] == {"n": "9999"}


def test_samples_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("a\n1\n")
    assert len(DatasetSource(path="mine.csv").load()) == 1
    with pytest.raises(UserError, match="test_dataset.py is of no kind that ftui reads"):
        DatasetSource(path="tests/test_dataset.py").load()


# rows


def test_irregular_values_come_back_as_they_were():
    rows = [
        {"m": TURNS, "x": 1, "big": 2**80},
        {"m": [{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": None}], "x": "one"},
        {"m": json.dumps(TURNS), "x": [1, "a", None], "extra": {"b": 1, "a": 2}},
    ]
    assert [{key: value for key, value in row.items() if value is not None} for row in Rows.gather(rows)] == rows
    assert list(Rows.gather(rows)[2]["extra"]) == ["b", "a"]


def test_types_may_change_between_batches():
    rows = [{"v": "text"}] * BATCH + [{"v": 7, "w": "new"}] * 3
    loaded = Rows.gather(rows)
    assert [loaded[i] for i in (0, BATCH - 1, BATCH, -1)] == [{"v": "text", "w": None}] * 2 + [{"v": 7, "w": "new"}] * 2


def test_rows_behave_like_a_read_only_list():
    rows = Rows.gather([{"n": number} for number in range(5_000)])
    assert len(rows) == 5_000 and rows.columns == ("n",)
    assert [row["n"] for row in rows] == list(range(5_000))
    assert [row["n"] for row in rows.take([4_999, 0, 7])] == [4_999, 0, 7]
    assert rows.head(2) == [{"n": 0}, {"n": 1}]
    with pytest.raises(IndexError):
        rows[5_000]


def test_a_limit_stops_the_reading(load):
    rows = load('{"a": 1}\n' * 3 + "broken", "x.jsonl", limit=2)
    assert len(rows) == 2 and rows.problems == ()


def test_the_hash_does_not_depend_on_the_format(load, tmp_path):
    pq.write_table(pa.Table.from_pylist(PAIRS), tmp_path / "x.parquet")
    hashes = {
        load(as_csv(";").encode("utf-16"), "x.csv").sha256,
        load(as_lines(PAIRS), "x.jsonl").sha256,
        load(json.dumps([dict(reversed(row.items())) for row in PAIRS]), "x.json").sha256,
        DatasetSource(path=str(tmp_path / "x.parquet")).load().sha256,
        Rows.gather(PAIRS).sha256,
    }
    assert len(hashes) == 1
    assert Rows.gather([{"q": "é", "n": 1}]).sha256.startswith("fdc110efadcf794e")
    assert Rows.gather(PAIRS[::-1]).sha256 not in hashes


# the Hub


@pytest.mark.parametrize("path", ["owner/name", "b-mc2/sql-create-context", "a/b.c_d"])
def test_hub_ids_are_known_by_their_form(path):
    assert is_hub_id(path)


@pytest.mark.parametrize(
    "path", ["name", "a/b/c", "../name", "a/..", "-a/b", "a/b\n", "a b/c", "a/b--c", "https://x/y", "a/é"]
)
def test_other_words_are_no_hub_ids(path):
    assert not is_hub_id(path)


@pytest.mark.parametrize("limit", [None, 1])
def test_hub_labels_become_words_and_json_becomes_values(tmp_path, monkeypatch, limit):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"]), "meta": datasets.Json()}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0], "meta": [{"x": 1}, [2]]}, features=features)
    (tmp_path / "hub").mkdir()
    data.to_parquet(tmp_path / "hub" / "train.parquet")
    rows = Rows.gather(read_hub(str(tmp_path / "hub"), None, "train", None, limit), limit)
    assert (
        list(rows)
        == [{"text": "a", "label": "good", "meta": {"x": 1}}, {"text": "b", "label": "bad", "meta": [2]}][:limit]
    )
    assert "names of the labels" in rows.notes[0]
    with pytest.raises(UserError, match="has no split “nope”. There are: 'train'"):
        Rows.gather(read_hub(str(tmp_path / "hub"), None, "nope", None, None))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "Check the network"),
        (RuntimeError("403 Client Error. Access to dataset a/b is restricted"), "gated or private"),
        (RuntimeError("Dataset 'a/b' is a gated dataset on the Hub"), "gated or private"),
        (RuntimeError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."), "There is no data set a/b"),
        (ValueError("Unknown split \"dev\". Should be one of ['train', 'test']."), "There are: 'train', 'test'."),
        (ValueError("Config name is missing. Please pick one among the available configs: ['en', 'es']"), "'en', 'es'"),
        (RuntimeError("Dataset scripts are no longer supported, but found b.py"), "never runs such code"),
        (OSError("odd thing hf_abcdefghijklmnop"), "cannot be loaded: OSError: odd thing"),
        (OSError("no space in /root/.cache/hub/x.arrow left"), "OSError: no space in x.arrow left"),
    ],
)
def test_each_failure_of_the_hub_has_its_sentence_and_no_token(error, words):
    said = sentence(error, "a/b", "dev")
    assert words in said and "hf_abc" not in said


# the split


def numbered(count: int, **columns) -> Rows:
    return Rows.gather(
        [{"n": str(number)} | {key: make(number) for key, make in columns.items()} for number in range(count)]
    )


def test_a_split_is_the_same_on_every_machine():
    split = SplitSettings(validation=3, test=0.2).apply(numbered(20))
    assert (split.test, split.validation) == ([4, 5, 14, 19], [9, 13, 15])
    assert sorted(split.train + split.validation + split.test) == list(range(20))
    assert split.train == sorted(split.train)
    assert SplitSettings(validation=3, test=0.2).apply(numbered(20)).test == split.test
    assert SplitSettings(validation=3, test=0.2, seed=7).apply(numbered(20)).test != split.test


@pytest.mark.parametrize(
    ("said", "count"), [("0.2", 20), ("2e-1", 20), ("20%", 20), ("7", 7), (7.0, 7), ("", 0), (0, 0), ("10:25", 15)]
)
def test_a_side_may_be_said_in_many_ways(said, count):
    assert len(SplitSettings(validation=said, test=0).apply(numbered(100)).validation) == count


@pytest.mark.parametrize("said", [-1, 1.0, 1.5, "-0.1", "25:10", "5:5", True, None, float("nan"), [1]])
def test_an_impossible_side_is_refused(said):
    with pytest.raises(ValidationError):
        SplitSettings(validation=said)


def test_equal_rows_land_on_one_side():
    rows = Rows.gather([{"q": str(number % 30)} for number in range(90)])
    split = SplitSettings(validation=0.2, test=0.2).apply(rows)
    sides = [{rows[number]["q"] for number in side} for side in (split.train, split.validation, split.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert len(split.test) == 18 and len(split.validation) == 18


def test_rows_that_differ_only_in_what_is_not_learned_land_on_one_side():
    rows = numbered(90, q=lambda n: f"question {n % 30}")
    assert rows.columns == ("n", "q")
    split = SplitSettings(validation=0.2, test=0.2).apply(rows, ["q"])
    sides = [{rows[number]["q"] for number in side} for side in (split.train, split.validation, split.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert SplitSettings().apply(rows, ["n"]).test == SplitSettings().apply(rows).test, "others stay as they were"


def test_a_group_lands_on_one_side_and_rows_without_one_are_free():
    rows = numbered(100, author=lambda n: f"author {n % 10}" if n < 50 else None)
    split = SplitSettings(validation=0.2, test=0.2, group="author").apply(rows)
    for author in range(10):
        inside = [
            bool({number for number in range(50) if number % 10 == author} & set(side))
            for side in (split.train, split.validation, split.test)
        ]
        assert sum(inside) == 1
    assert len(split.test) == 20 and 0 < len([number for number in split.test if number >= 50]) < 20


def test_every_side_has_the_same_mixture_of_labels():
    rows = numbered(1_000, label=lambda n: "rare" if n % 10 == 0 else "common")
    split = SplitSettings(stratify="label").apply(rows)
    for side in (split.validation, split.test):
        assert sum(rows[number]["label"] == "rare" for number in side) == 10


def test_ranges_are_taken_as_they_are():
    split = SplitSettings(validation="101:201", test="201:301").apply(numbered(301))
    assert (split.train, split.validation, split.test) == (
        list(range(101)),
        list(range(101, 201)),
        list(range(201, 301)),
    )


def test_a_range_leaves_the_rest_to_the_draw():
    split = SplitSettings(validation="0:10", test=0.5).apply(numbered(30))
    assert split.validation == list(range(10)) and len(split.test) == 10 and len(split.train) == 10
    assert not set(split.test) & set(split.validation)


def test_rows_of_a_file_are_appended(load, tmp_path):
    load('{"n": "x"}\n{"n": "y"}', "valid.jsonl")
    split = SplitSettings(validation=str(tmp_path / "valid.jsonl"), test=2).apply(numbered(10))
    assert split.validation == [10, 11] and len(split.test) == 2 and len(split.train) == 8
    assert [split.rows[number]["n"] for number in split.validation] == ["x", "y"]
    assert max(split.train + split.test) < 10


def test_a_column_may_decide():
    rows = numbered(6, where=lambda n: ["train", "Training", "dev", "valid", "test", "TEST"][n])
    split = SplitSettings(column="where").apply(rows)
    assert (split.train, split.validation, split.test) == ([0, 1], [2, 3], [4, 5])


@pytest.mark.parametrize(
    ("settings", "count", "words"),
    [
        ({}, 1, "cannot be divided"),
        ({}, 2, "cannot be divided"),
        ({"test": 10}, 10, "leaves none to train on"),
        ({"validation": 6, "test": 6}, 10, "No row is left|cannot be divided"),
        ({"test": "5:20"}, 10, "goes beyond the 10 rows"),
        ({"test": "0:5", "validation": "4:8"}, 10, "share 1 rows"),
        ({"test": "0:10"}, 10, "cannot be divided|No row is left"),
        ({"stratify": "label"}, 10, "column “label”, which is not there"),
        ({"column": "n"}, 10, "Row 1 says “0”"),
        ({"column": "fold"}, 10, "Row 1 says “0”"),
        ({"validation": "nothing.jsonl"}, 10, "no file or folder “nothing.jsonl”"),
    ],
)
def test_an_impossible_split_is_a_sentence(settings, count, words):
    with pytest.raises(UserError, match=words):
        SplitSettings(**settings).apply(numbered(count, fold=lambda number: number % 3))


def test_three_rows_can_be_divided():
    split = SplitSettings().apply(numbered(3))
    assert [len(side) for side in (split.train, split.validation, split.test)] == [1, 1, 1]


def test_rows_are_found_by_what_stands_in_any_cell_whatever_its_type():
    rows = Rows.gather(
        [
            {"text": "A Harbor.", "turns": [{"role": "user", "content": 'Say "sí"\nnow'}]},
            {"text": None, "turns": None},
            {"text": "none", "turns": [{"role": "user", "content": "harbor"}]},
        ]
    )
    assert rows.containing("harbor") == [0, 2]
    assert rows.containing('"sí"\nnow') == [0]
    assert rows.containing("no such text") == [] and rows.containing("NONE") == [2]


def test_settings_that_choose_nothing_in_these_rows_are_told_and_those_that_do_are_not(tmp_path):
    (tmp_path / "a.csv").write_text("q,a\n1,2\n3,4\n")
    every = {"records": "data", "sheet": "Two", "split": "train[:1]", "name": "main", "revision": "abc"}
    rows = DatasetSource(path=str(tmp_path / "a.csv"), **every).load()
    assert len(rows) == 2
    assert [note.split()[0] for note in rows.notes] == [f"dataset.{key}" for key in every]
    assert "“train[:1]” was not used" in rows.notes[2]
    (tmp_path / "a.json").write_text('{"data": [{"q": 1}], "other": []}')
    assert DatasetSource(path=str(tmp_path / "a.json"), records="data", split="train").load().notes == ()
