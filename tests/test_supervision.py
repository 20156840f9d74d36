"""The supervision view: the rows that the trainer gets, in the order that was asked for, and those it does not get."""

from __future__ import annotations

import re

import pytest

from ftui.check import Look, look
from ftui.config import RunConfig
from ftui.ui.language import Voice
from ftui.ui.supervision import chosen_rows, rows_html
from tests import tiny

ENGLISH = Voice(None)


@pytest.fixture
def found(values, tmp_path) -> Look:
    rows = [{"text": f"What is {i}?", "answer": f"It is {'very ' * i}so."} for i in range(18)]
    rows += [{"text": "long " * 200, "answer": "Behind the cut."}, {"text": "Nothing?", "answer": ""}]
    values["dataset"] = {"path": str(tiny.write_rows(tmp_path / "rows.jsonl", rows))}
    return look(RunConfig.parse(values), report=lambda _: None)


def settings(values, **changed):
    return RunConfig.parse({**values, "training": {**values["training"], **changed}}).training


def test_rows_come_in_the_order_that_was_asked_for(found):
    assert chosen_rows(found, "order", "") == list(range(18))
    assert chosen_rows(found, "longest", "")[:3] == [17, 16, 15]
    assert chosen_rows(found, "order", "what is 7") == [7]
    assert sorted(chosen_rows(found, "left", "")) == [18, 19]


def shown_kinds(html: str) -> set[str]:
    """What becomes of the tokens of the rows, the legend aside."""
    return set(re.findall(r"<span class='token (\w+)", html.partition("</p>")[2]))


def test_a_row_that_is_left_out_shows_why_and_what_can_be_shown(found, values):
    html = rows_html(found, [18, 19], 0, settings(values), ENGLISH)
    assert "behind max_length (128 tokens)" in html and "The completion is empty" in html
    assert shown_kinds(html) == {"context", "cut"}


def test_where_everything_is_learned_everything_is_shown_so(found, values):
    assert shown_kinds(rows_html(found, [3], 0, settings(values), ENGLISH)) == {"context", "learned"}
    everything = settings(values, completion_only_loss=False)
    assert shown_kinds(rows_html(found, [3], 0, everything, ENGLISH)) == {"learned"}


def test_a_letter_of_several_tokens_is_shown_once_with_all_their_ids(values, tmp_path):
    rows = [{"text": "Was ist 日?", "answer": f"Ü {i}"} for i in range(18)]
    values["dataset"] = {"path": str(tiny.write_rows(tmp_path / "rows.jsonl", rows))}
    found = look(RunConfig.parse(values), report=lambda _: None)
    html = rows_html(found, [0], 0, settings(values), ENGLISH)
    assert "\ufffd" not in html and re.search(r"title='\d+ \+ \d+: [^>]*>Ü</span>", html)
    views = found.encoding.explain(found.examples.messages(0))
    inside = next(number for number, view in enumerate(views) if view.text == "Ü")
    cut = rows_html(found, [0], 0, settings(values, max_length=inside), ENGLISH)
    assert re.search(r"token cut' title='\d+ \(learned\) \+ \d+ \(cut off\): ", cut), "the cut goes through the letter"
