"""The prepared rows in the shapes of others: what is written is what is learned, and read back it is the same again."""

from __future__ import annotations

import json

import pytest

from ftui.config import RunConfig
from ftui.dataset import DatasetSource, Rows
from ftui.encoding import Encoded, Encoding
from ftui.errors import UserError
from ftui.examples import Examples, prepare
from ftui.models import load_tokenizer
from ftui.shapes import SHAPES, write_parts
from ftui.template import propose


@pytest.fixture(scope="module")
def encoding(tiny_model) -> Encoding:
    return Encoding(load_tokenizer(tiny_model))


@pytest.fixture
def prepared(values, encoding):
    def prepare_rows(rows: list[dict], **template) -> Examples:
        values["template"] = template
        values["split"] = {"validation": 0.2, "test": 0, "seed": 1}
        return prepare(RunConfig.parse(values), encoding, Rows.gather(rows))

    return prepare_rows


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


def pairs():
    return [{"q": f"What is {i}? “{{{{q}}}}”", "a": f"It is {i}.\nSurely."} for i in range(20)]


def chats():
    call = {"type": "function", "function": {"name": "look", "arguments": {"place": "harbor", "times": 2}}}
    return [
        {
            "messages": [
                turn("system", "Be brief."),
                turn("user", f"Who is {i}?"),
                turn("assistant", "", tool_calls=[call]),
                turn("tool", "nobody"),
                turn("assistant", "Nobody.", weight=0),
                turn("user", "Sure?"),
                turn("assistant", "Yes.", reasoning_content="I looked."),
            ],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        }
        for i in range(20)
    ]


def said_again(paths, encoding) -> list[Encoded]:
    """The tokens and labels of the written files, as ftui reads and maps them by itself."""
    encoded = []
    for path in paths:
        rows = DatasetSource(path=str(path)).load()
        template = propose(rows).template
        encoded += encoding.encode([template.render(row) for row in rows], 128)
    return encoded


def said(examples) -> list[Encoded]:
    return [example.encoded for part in examples.parts.values() for example in part]


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_read_back_are_learned_the_same(shape, prepared, encoding, tmp_path):
    examples = prepared(pairs(), prompt="{{q}}", completion="{{a}}")
    written = write_parts(examples, shape, tmp_path)
    assert [path.name for path in written.paths] == ["train.jsonl", "validation.jsonl"]
    assert (written.rows, written.left_out) == (20, [])
    assert said_again(written.paths, encoding) == said(examples)


@pytest.mark.parametrize("shape", ["openai", "sharegpt"])
def test_conversations_keep_tools_calls_weights_and_reasoning(shape, prepared, encoding, tmp_path):
    examples = prepared(chats(), messages="messages", tools="tools")
    written = write_parts(examples, shape, tmp_path)
    assert said_again(written.paths, encoding) == said(examples)


def test_openai_gets_arguments_as_text_and_an_id_for_each_call(prepared, tmp_path):
    written = write_parts(prepared(chats(), messages="messages", tools="tools"), "openai", tmp_path)
    row = json.loads(written.paths[0].read_text().splitlines()[0])
    (call,) = row["messages"][2]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "harbor", "times": 2} and call["id"]


def test_one_row_with_a_system_prompt_makes_all_prompts_lists_of_messages(prepared, encoding, tmp_path):
    rows = [{**row, "s": "Be brief." if place == 7 else ""} for place, row in enumerate(pairs())]
    examples = prepared(rows, system="{{s}}", prompt="{{q}}", completion="{{a}}")
    written = write_parts(examples, "prompt-completion", tmp_path)
    rows = [json.loads(line) for path in written.paths for line in path.read_text().splitlines()]
    assert {type(row["prompt"]) for row in rows} == {list}
    assert said_again(written.paths, encoding) == said(examples)


def test_text_read_back_is_learned_the_same(prepared, encoding, tmp_path):
    examples = prepared([{"t": f"It is {i}.\nSurely."} for i in range(20)], text="t")
    assert said_again(write_parts(examples, "prompt-completion", tmp_path).paths, encoding) == said(examples)


def test_earlier_answers_in_a_prompt_are_not_learned_when_read_back(prepared, encoding, tmp_path):
    turns = [turn("user", "Who?"), turn("assistant", "Nobody.", weight=0), turn("user", "Sure?")]
    rows = [{"messages": [*turns, turn("assistant", f"Yes, {i}.")]} for i in range(20)]
    examples = prepared(rows, messages="messages")
    assert said_again(write_parts(examples, "prompt-completion", tmp_path).paths, encoding) == said(examples)


def test_what_a_shape_cannot_say_is_counted_by_its_rows(prepared, tmp_path):
    plain = [{"messages": [turn("user", f"Who is {i}?"), turn("assistant", "I.")], "tools": None} for i in range(20)]
    examples = prepared([*plain, *chats()[:3]], messages="messages", tools="tools")
    written = write_parts(examples, "alpaca", tmp_path)
    assert sorted(written.left_out) == [20, 21, 22] and written.rows == 20
    assert "3 rows" in written.sentence


def test_where_nothing_can_be_said_the_shape_is_refused(prepared, tmp_path):
    with pytest.raises(UserError, match="Not one of these rows can be said as alpaca"):
        write_parts(prepared(chats(), messages="messages", tools="tools"), "alpaca", tmp_path)
