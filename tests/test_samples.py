"""The sample data sets: made again they are the same, and every row is what `samples/README.md` promises."""

import csv
import json
import re
import runpy
import sqlite3
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent.parent / "samples"
COUNTS = {"tickets.jsonl": 400, "schemas.jsonl": 400, "labels.csv": 480, "voice.jsonl": 240}
PROBLEMS = {"late delivery", "damaged", "wrong item", "missing part", "double charge", "no refund"}


def rows_of(name: str) -> list[dict]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if name.endswith(".csv") else [json.loads(line) for line in file]


def input_of(row: dict) -> str:
    """What a model is given: everything but the answer."""
    if "messages" in row:
        return " ".join(message["content"] for message in row["messages"] if message["role"] == "user")
    return " ".join(value for column, value in row.items() if column not in ("json", "sql", "label"))


def test_making_the_samples_again_gives_the_same_bytes(tmp_path):
    runpy.run_path(str(SAMPLES / "make_samples.py"))["main"](tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(COUNTS)
    for name in COUNTS:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), f"{name} is not what the script makes."


@pytest.mark.parametrize("name", COUNTS)
def test_no_two_inputs_of_a_file_are_near_copies(name):
    inputs = [input_of(row) for row in rows_of(name)]
    assert len(inputs) == COUNTS[name]
    words = [set(re.findall(r"\w+", text.lower())) for text in inputs]
    near_copies = [
        (inputs[one], inputs[other])
        for one, other in combinations(range(len(words)), 2)
        if len(words[one] & words[other]) > 0.9 * len(words[one] | words[other])
    ]
    assert near_copies == []


def test_every_ticket_has_one_compact_answer_that_its_mail_decides():
    values = Counter()
    for row in rows_of("tickets.jsonl"):
        assert list(row) == ["text", "json"]
        answer = json.loads(row["json"])
        assert list(answer) == ["product", "order", "problem", "urgency"]
        assert row["json"] == json.dumps(answer, separators=(",", ":"))
        assert re.findall(r"\b[A-Z]-\d{4}\b", row["text"]) == [answer["order"]]
        assert answer["product"] in row["text"]
        assert 18 <= len(row["text"].split()) <= 60
        values.update([answer["problem"], answer["urgency"]])
    assert set(values) == PROBLEMS | {"high", "normal", "low"}
    assert min(values.values()) >= 50


def test_a_ticket_names_only_its_own_product():
    rows = rows_of("tickets.jsonl")
    products = {json.loads(row["json"])["product"] for row in rows}
    for row in rows:
        assert [product for product in products if product in row["text"]] == [json.loads(row["json"])["product"]]


def test_every_query_runs_on_its_schema_and_answers_one_question_only():
    rows = rows_of("schemas.jsonl")
    for row in rows:
        assert list(row) == ["question", "schema", "sql"]
        database = sqlite3.connect(":memory:")
        database.executescript(row["schema"])
        assert database.execute(row["sql"]).description, row["sql"]
        database.close()
    assert len({row["sql"] for row in rows}) == len({row["question"] for row in rows}) == len(rows)


def test_what_a_query_compares_with_stands_in_its_question():
    for row in rows_of("schemas.jsonl"):
        for text, number in re.findall(r"'([^']+)'|[<>] (\d+)", row["sql"]):
            assert (text or number) in row["question"], row


def test_the_twelve_labels_are_balanced_and_their_texts_are_short():
    rows = rows_of("labels.csv")
    assert {tuple(row) for row in rows} == {("text", "label")}
    counts = Counter(row["label"] for row in rows)
    assert len(counts) == 12
    assert set(counts.values()) == {40}
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)?", label) for label in counts)
    assert [row["text"] for row in rows if not 6 <= len(row["text"].split()) <= 25] == []


def test_every_chat_alternates_and_ends_with_a_short_signed_reply():
    with_system = 0
    for row in rows_of("voice.jsonl"):
        roles = [message["role"] for message in row["messages"]]
        if roles[0] == "system":
            with_system += 1
            roles = roles[1:]
        assert roles in [["user", "assistant"] * turns for turns in (2, 3, 4)]
        replies = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        assert all(reply.endswith(" Keep the lamp lit.") and len(reply.split()) <= 30 for reply in replies), replies
    assert with_system == COUNTS["voice.jsonl"] / 2


def test_the_boat_to_an_island_always_sails_on_the_same_day():
    days = {}
    for row in rows_of("voice.jsonl"):
        replies = " ".join(message["content"] for message in row["messages"] if message["role"] == "assistant")
        for island, day in re.findall(r" to ([\w ]+) every (\w+day)", replies):
            days.setdefault(island, set()).add(day)
    assert len(days) == 5
    assert all(len(day) == 1 for day in days.values()), days


def test_no_text_has_a_hole_where_a_slot_or_a_choice_was():
    for name in COUNTS:
        for row in rows_of(name):
            texts = [message["content"] for message in row["messages"]] if "messages" in row else list(row.values())[:1]
            assert [text for text in texts if re.search(r"[\[\]{}|]|  | [.,;!?]|^\s|\s$", text)] == []
