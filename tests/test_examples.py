"""Rows become examples: what is used, what is left out and why, and that every row is one or the other."""

from __future__ import annotations

import pytest

from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.encoding import IGNORED, Encoding
from ftui.errors import UserError
from ftui.examples import PARTS, prepare
from ftui.models import load_tokenizer


@pytest.fixture(scope="module")
def encoding(tiny_model) -> Encoding:
    return Encoding(load_tokenizer(tiny_model))


def test_every_row_is_used_in_one_part_or_left_out_with_its_number(values, encoding):
    rows = Rows.gather([{"text": f"What is {i}?", "answer": "" if i in (3, 8) else f"It is {i}."} for i in range(20)])
    found = prepare(RunConfig.parse(values), encoding, rows)
    used = [example.row for part in PARTS for example in getattr(found, part)]
    assert sorted([*used, *(left.row for left in found.left_out)]) == list(range(20))
    assert sorted(left.row for left in found.left_out) == [3, 8]
    assert all("answer" in left.reason for left in found.left_out)
    assert "Left out: 2 rows (4, 9); first reason" in " ".join(found.notes())


def test_a_row_whose_answer_would_be_cut_away_is_left_out_and_says_how_long_it_is(values, encoding):
    rows = [{"text": "word " * (400 if i == 5 else 2), "answer": f"answer {i}"} for i in range(20)]
    found = prepare(RunConfig.parse(values), encoding, Rows.gather(rows))
    (left,) = found.left_out
    assert left.row == 5
    assert "behind max_length (128 tokens)" in left.reason
    assert found.cut == []


def test_a_row_that_loses_only_its_end_is_used_and_counted(values, encoding):
    rows = [{"text": "Say it.", "answer": f"{i} " + "word " * (400 if i == 5 else 2)} for i in range(20)]
    found = prepare(RunConfig.parse(values), encoding, Rows.gather(rows))
    assert found.cut == [5] and found.left_out == []
    assert "the end is cut off: 1 row (6)." in " ".join(found.notes())


def test_by_default_only_answers_are_learned_and_on_wish_everything(values, encoding):
    rows = Rows.gather([{"text": f"What is {i}?", "answer": f"It is {i}."} for i in range(20)])
    answers = prepare(RunConfig.parse(values), encoding, rows).train[0].encoded
    values["training"] |= {"completion_only_loss": False}
    everything = prepare(RunConfig.parse(values), encoding, rows).train[0].encoded
    assert answers.input_ids == everything.input_ids == everything.labels
    assert IGNORED in answers.labels and answers.trained < everything.trained


def test_when_no_row_can_be_used_the_first_reason_is_told(values, encoding):
    rows = Rows.gather([{"text": f"What is {i}?", "answer": ""} for i in range(20)])
    found = prepare(RunConfig.parse(values), encoding, rows)
    with pytest.raises(UserError, match=r"No row is left to train on: 20 of 20 rows.*row \d+: .*answer"):
        found.check_trainable()


def test_a_template_that_does_not_fit_the_columns_is_told_before_any_row_is_read(values, encoding):
    values["template"] |= {"prompt": "{{txt}}"}
    with pytest.raises(UserError, match="txt.*text"):
        prepare(RunConfig.parse(values), encoding, Rows.gather([{"text": "a", "answer": "b"}] * 12))


def test_the_same_seed_gives_the_same_rows_in_each_part(values, encoding):
    rows = Rows.gather([{"text": f"What is {i}?", "answer": f"It is {i}."} for i in range(40)])
    first, second = (prepare(RunConfig.parse(values), encoding, rows).split_json() for _ in range(2))
    assert first == second and len(first["sha256"]) == 64
