"""Data that nobody should have uploaded: each gets a sentence or is read within bounds, and no sentence tells a path of this machine."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ftui.dataset import DatasetSource, Rows
from ftui.errors import UserError
from ftui.settings import checked
from ftui.template import PromptTemplate


def zipped(**parts: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


WIDE = ",".join(f"c{number}" for number in range(5_000))

REFUSED = [
    ("an empty file", "x.csv", b"", "x.csv is empty"),
    ("only blanks", "x.jsonl", b" \n\n ", "x.jsonl is empty"),
    ("an empty Parquet file", "x.parquet", b"", "x.parquet is empty"),
    ("a header without rows", "x.csv", b"a,b\n", "not one row"),
    ("an empty list", "x.json", b"[]", "not one row to read here. Choose a file with rows"),
    ("a Parquet file without rows", "x.parquet", parquet(pa.table({"a": pa.array([], pa.string())})), "not one row"),
    ("a zip named .csv", "x.csv", zipped(a=b"1"), "ZIP archive or an Office file"),
    ("a gzip named .csv", "x.csv", gzip.compress(b"a\n1"), "packed with gzip. Give it the ending .gz"),
    ("Parquet named .csv", "x.csv", parquet(pa.table({"a": [1]})), "Parquet file. Give it the ending .parquet"),
    ("a PDF named .txt", "x.txt", b"%PDF-1.7 ...", "not text but a PDF"),
    ("an image named .json", "x.json", b"\x89PNG\r\n\x1a\n", "an image"),
    ("a program named .csv", "x.csv", b"\x7fELF\x02\x01\x01", "a program"),
    ("NUL bytes in a table", "x.csv", b"a,b\n1,2\n3,\x004\n", "x.csv, line 3: there is a NUL byte"),
    ("NUL bytes in JSON", "x.jsonl", b'{"a": "\x00"}', "line 1: there is a NUL byte"),
    ("UTF-16 that is cut", "x.csv", "a,b\n1,2".encode("utf-16")[:-1], "claims to be UTF-16, but is not"),
    ("a damaged gzip", "x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-12], "damaged"),
    ("no gzip at all", "x.csv.gz", b"a,b\n1,2\n", "damaged"),
    ("two columns of one name", "x.csv", b"text,label,text\n1,2,3\n", "“text” as the name of columns 1 and 3"),
    (
        "two columns of one name in Parquet",
        "x.parquet",
        parquet(pa.table([[1], [2]], names=["a", "a"])),
        "Two columns are called “a”",
    ),
    ("5,000 columns", "x.csv", f"{WIDE}\n{WIDE}\n".encode(), "5,000 columns; at most 1,000"),
    (
        "5,000 columns in Parquet",
        "x.parquet",
        parquet(pa.table({f"c{n}": [1] for n in range(5_000)})),
        "5,000 columns; at most 1,000",
    ),
    (
        "other keys in every row",
        "x.jsonl",
        b"\n".join(b'{"k%d": 1}' % n for n in range(1_500)),
        "1,500 columns; at most 1,000",
    ),
    ("a header of nothing", "x.csv", b",,,\n1,2,3\n", "line 1: the first line must name the columns"),
    (
        "a quote that never closes",
        "x.csv",
        b'a,b\n1,2\n"3,4\n5,6\n',
        "x.csv, line 3: a quote opens there and never closes",
    ),
    ("a cell above 10 MB", "x.csv", b"a,b\n1," + b"x" * 10_000_100, "line 2: a cell is larger than 10 MB"),
    ("a value above 10 MB", "x.jsonl", b'{"a": "' + b"x" * 10_000_100 + b'"}', "cell of 10 MB"),
    ("only ragged lines", "x.csv", b"a,b\n1\n2\n", "not one row to read here. The first problem: x.csv, line 2"),
    ("only broken lines", "x.jsonl", b"nope\nno\n", "The first problem: x.jsonl, line 1"),
    ("JSON cut in the middle", "x.json", b'[{"a": 1},\n{"a": 2},\n', "ends in the middle of its list, after 2 rows"),
    ("JSON with a mistake", "x.json", b'[{"a": 1},\n{"a" 2}]', "x.json, line 2, after 1 rows: this is not valid JSON"),
    ("JSON with a comma missing", "x.json", b'[{"a": 1}\n{"a": 2}]', "there should be a comma"),
    ("two lists in one file", "x.json", b'[{"a": 1}]\n[{"a": 2}]', "after the list there is more"),
    ("an object with a mistake", "x.json", b'{"a": 1,\n"b": }', "line 2: this is not valid JSON"),
    ("a web page named .json", "x.json", b"<!DOCTYPE html>", "line 1: this is not valid JSON"),
    ("a number alone", "x.json", b"7", "a row must be an object"),
    ("JSON nested 100,000 deep", "x.json", b"[" * 100_000, "nested deeper"),
    ("an object nested 100,000 deep", "x.json", b'{"a":' * 100_000, "nested deeper"),
    ("a line nested 100,000 deep", "x.jsonl", b'{"a":' + b"[" * 100_000, "nested deeper"),
    ("a row nested 300 deep", "x.jsonl", b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper"),
    ("half a character", "x.jsonl", b'{"a": "\\ud800"}', "half a character"),
    ("a number of 5,000 digits", "x.jsonl", b'{"a": ' + b"9" * 5_000 + b"}", "too many digits"),
    ("text named .parquet", "x.parquet", b"PAR1 is what it says", "not a Parquet file"),
    ("a cut Parquet file", "x.parquet", parquet(pa.table({"a": ["x" * 999] * 99}))[:-40], "not a Parquet file"),
    ("text named .arrow", "x.arrow", b"ARROW1 is what it says", "not an Arrow file"),
    ("text named .xlsx", "x.xlsx", b"hello", "not an Excel workbook"),
    ("a zip named .xlsx", "x.xlsx", zipped(a=b"1"), "not an Excel workbook"),
    (
        "a sheet that unpacks to 300 MB",
        "x.xlsx",
        zipped(**{f"p{n}": bytes(50_000_000) for n in range(6)}),
        "unpacks to more than 250 MB",
    ),
    ("a pickle", "x.pkl", b"\x80\x04.", "of no kind that ftui reads"),
    ("an archive", "x.zip", zipped(a=b"1"), "of no kind that ftui reads"),
    ("no ending", "data", b"a,b\n1,2", "of no kind that ftui reads"),
]


@pytest.mark.parametrize(
    ("name", "content", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_file_that_cannot_be_used_gets_a_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        DatasetSource(path=str(tmp_path / name)).load()
    assert words in str(error.value) and name in str(error.value)
    assert str(tmp_path) not in str(error.value) and "Traceback" not in str(error.value)
    assert str(error.value)[-1] in ".?)" and len(str(error.value)) < 400


READ = [
    ("formula cells", "x.csv", b"a\n=HYPERLINK(1)\n", [{"a": "=HYPERLINK(1)"}]),
    ("special tokens", "x.csv", b"a\n<|im_end|>\n", [{"a": "<|im_end|>"}]),
    ("placeholders in cells", "x.csv", b"a,b\n{{b}},x\n", [{"a": "{{b}}", "b": "x"}]),
    ("right-to-left, emoji, joiners", "x.csv", "a\nשלום 👩‍👩‍👧\u202e\n".encode(), [{"a": "שלום 👩‍👩‍👧\u202e"}]),
    (
        "line separators that are no line ends",
        "x.jsonl",
        '{"a": "x\u2028y\x85"}\n{"a": "z"}'.encode(),
        [{"a": "x\u2028y\x85"}, {"a": "z"}],
    ),
    ("one row", "x.csv", b"a,b\n1,2", [{"a": "1", "b": "2"}]),
    ("old Mac line ends", "x.csv", b"a,b\r1,2\r3,4\r", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
    (
        "a column that calls itself ours",
        "x.parquet",
        parquet(pa.table({"a": ["{no"]}, schema=pa.schema([pa.field("a", pa.string(), metadata={"ftui": "json"})]))),
        [{"a": "{no"}],
    ),
    ("a pair of halves", "x.jsonl", b'{"a": "\\ud83d\\ude00"}', [{"a": "😀"}]),
    (
        "a number beyond 64 bits",
        "x.jsonl",
        b'{"a": 123456789012345678901234567890}',
        [{"a": 123456789012345678901234567890}],
    ),
    ("keys of Python objects", "x.jsonl", b'{"__class__": "x", "self": "y"}', [{"__class__": "x", "self": "y"}]),
    (
        "a row nested 100 deep",
        "x.jsonl",
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        [{"a": json.loads("[" * 100 + "]" * 100)}],
    ),
]


@pytest.mark.parametrize(("name", "content", "rows"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_an_odd_file_is_read_as_it_is(tmp_path, name, content, rows):
    (tmp_path / name).write_bytes(content)
    loaded = DatasetSource(path=str(tmp_path / name)).load()
    assert list(loaded) == rows
    assert len(loaded.sha256) == 64


def test_infinite_and_missing_numbers_are_read(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": NaN, "b": Infinity}')
    row = DatasetSource(path=str(tmp_path / "x.jsonl")).load()[0]
    assert row["a"] != row["a"] and row["b"] == float("inf")


NOWHERE = [
    "", " ", "../x.csv", "a/../../x.csv", "..", "..\\x.csv", "a\0b.csv", "a\nb.csv", "~", "-rf", "CON", "%2e%2e/x.csv", "x" * 300 + ".csv",
    "nothing.csv", "no/such/folder/", "*.nothing", "[", "/dev/zero", "/proc/self/environ", "https://example.com/x.csv", (),
]  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_leads_nowhere_gets_a_sentence(path):
    with pytest.raises(UserError) as error:
        checked(DatasetSource, {"path": path}).load()
    assert str(error.value).endswith(".")


def test_a_link_out_of_a_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "more.csv").write_text("a\nsecret\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "own.csv").write_text("a\nopen\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "links").symlink_to(tmp_path / "secrets")
    rows = DatasetSource(path=str(folder)).load()
    assert list(rows) == [{"a": "open"}]
    assert rows.notes == ("link.csv was left out: it is a link that leads out of the folder.",)


def test_an_empty_folder_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no file that ftui reads"):
        DatasetSource(path=str(tmp_path)).load()


def test_more_broken_lines_than_can_be_shown_stop_the_reading(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' + "broken\n" * 10_001)
    with pytest.raises(UserError, match="More than 10,000 rows cannot be read. The first: x.jsonl, line 2"):
        DatasetSource(path=str(tmp_path / "x.jsonl")).load()


@pytest.mark.true
@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz"])
def test_a_bomb_is_refused_within_bounded_memory(tmp_path, kind):
    path = tmp_path / f"bomb.{kind}"
    if kind == "parquet":
        cell = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
        pq.write_table(pa.table({"a": cell}), path, compression="zstd", store_schema=False)
    else:
        path.write_bytes(gzip.compress(b'{"a": 1}') + gzip.compress(bytes([32]) * 100_000_000, 1) * 10)
    assert path.stat().st_size < 6_000_000
    code = f"""
import resource
from ftui.dataset import DatasetSource
from ftui.errors import UserError
from ftui.settings import checked
try:
    DatasetSource(path={str(path)!r}).load()
except UserError as error:
    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000, sep="|")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    said, megabytes = done.stdout.split("|")
    assert "1 GB" in said
    assert int(megabytes) < 1_700


def test_the_core_of_the_data_set_imports_nothing_heavy():
    code = "import sys, ftui.dataset, ftui.template; print([m for m in ('pyarrow', 'pandas', 'datasets', 'torch', 'gradio', 'openpyxl') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    assert done.stdout.strip() == "[]"


ROW = {"a": "text", "list": "[" * 100_000, "blob": b"\x00\x01", "long": "x" * 9_000_000, "code": "__import__('os')"}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("{{a.__class__}}", "which holds plain text"),
        ("{{__class__}}", "no column “__class__”"),
        ("{{a|upper}}", "no column “a|upper”"),
        ("{{a[999999999999]}}", "which holds plain text"),
        ("{{list[0]}}", "which holds plain text"),
        ("{{code[0]}}", "which holds plain text"),
        ("{{blob}}", "binary data"),
        ("{{long}}", "grows above 1,000,000 characters"),
        ("{{a}}" * 10_000 + "{{long}}" * 1_000, "grows above 1,000,000 characters"),
        ("[[{{a}}{{nothing}}]]", "no column “nothing”"),
    ],
)
def test_a_hostile_template_gets_a_sentence(prompt, words):
    with pytest.raises(UserError, match=words.replace("|", r"\|")):
        PromptTemplate(prompt=prompt, completion="x").render(ROW)


@pytest.mark.parametrize("prompt", ["{{" * 29_999, "{{a", "{{}}", "[[" * 20_000 + "{{", "{{a}}" * 20_000])
def test_a_template_that_cannot_be_read_is_refused_at_once(prompt):
    with pytest.raises(ValidationError):
        PromptTemplate(prompt=prompt, completion="x")


@pytest.mark.parametrize(
    "prompt", ["[[" * 32_000, "[[{{a}}" * 9_000, "{% for i in range(10**9) %}{{a}}", "${a} {0.__class__} %s"]
)
def test_an_odd_template_is_plain_text(prompt):
    content = PromptTemplate(prompt=prompt, completion="x").render({"a": "v"})[0]["content"]
    assert content == prompt.replace("{{a}}", "v")
    assert PromptTemplate(prompt="{{" * 30_000, completion="x").render({})[0]["content"] == "{{" * 15_000


def test_a_hostile_conversation_in_json_text_gets_a_sentence():
    with pytest.raises(UserError, match="plain text"):
        PromptTemplate(messages="m").render({"m": "[" * 100_000})


def test_rows_that_only_differ_in_type_are_not_the_same():
    hashes = {Rows.gather([{"a": value}]).sha256 for value in (1, "1", 1.0, True, [1], {"a": 1})}
    assert len(hashes) == 6
