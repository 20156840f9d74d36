"""The mapping by click: what is clicked is written, what is written is shown, and both survive YAML."""

import pytest

from ftui.config import RunConfig
from ftui.template import PromptTemplate
from ftui.template.mapping import PARTS, ROLES, roles_in, with_role

EMPTY = dict.fromkeys(PARTS, "")
CONTEXT = {
    "system": "Be {{mood}}.",
    "prompt": "[[{{page}}\n\n]]{{q}}",
    "completion": "It is {{a}}.",
    "reasoning": "{{why}}",
}

SNIPS = '{"intent": "{{intent}}", "slots": {{slots}}}'


def clicked(*roles: tuple[str, str], parts=EMPTY) -> dict:
    for role, column in roles:
        parts = with_role(parts, role, column)
    return {part: written for part, written in parts.items() if written}


def shown(**parts) -> dict:
    return {role: column for role, column in roles_in(parts).items() if column}


@pytest.mark.parametrize(
    ("parts", "roles"),
    [
        (CONTEXT, {"system": "mood", "question": "q", "context": "page", "answer": "a", "reasoning": "why"}),
        ({"prompt": "{{i}}[[\n\n{{n}}]]", "completion": "{{o}}"}, {"question": "i", "context": "n", "answer": "o"}),
        ({"prompt": "{{ q }}", "completion": "{{a.text[0]}}"}, {"question": "q", "answer": "a.text[0]"}),
        (
            {"messages": "m", "tools": "t", "completion": "{{c[0].content}}"},
            {"messages": "m", "tools": "t", "answer": "c[0].content"},
        ),
        ({"prompt": "{{q}}", "completion": "{{a}}", "history": "h"}, {"question": "q", "answer": "a", "history": "h"}),
        (
            {"prompt": "{{title}}: {{parts}}[[\n{{page}}]]", "completion": SNIPS},
            {"question": "title + parts", "context": "page", "answer": "intent + slots"},
        ),
        ({"text": "note"}, {"text": "note"}),
        ({"text": "# {{title}}\n{{note}}"}, {"text": "title + note"}),
        ({"text": "### {{note}}"}, {"text": "note"}),
        ({"prompt": "Say something.", "completion": "{{{{x}}"}, {}),
        ({"prompt": "{{", "completion": None}, {}),
    ],
)
def test_the_roles_are_read_from_what_is_written(parts, roles):
    assert shown(**parts) == roles


def test_columns_are_put_in_place_by_clicking():
    assert clicked(("question", "q"), ("answer", "a")) == {"prompt": "{{q}}", "completion": "{{a}}"}
    assert clicked(("question", "q"), ("context", "c"), ("answer", "a"), ("system", "s"), ("reasoning", "r")) == {
        "system": "{{s}}",
        "prompt": "[[{{c}}\n\n]]{{q}}",
        "completion": "{{a}}",
        "reasoning": "{{r}}",
    }
    assert clicked(("messages", "m"), ("tools", "t")) == {"messages": "m", "tools": "t"}


def test_clicking_keeps_the_text_around_a_column():
    parts = with_role(with_role(CONTEXT, "context", "other"), "answer", "b")
    assert parts["prompt"] == "[[{{other}}\n\n]]{{q}}" and parts["completion"] == "It is {{b}}."
    assert with_role({"prompt": "Tweet: {{ t }}\nMood:"}, "question", "text")["prompt"] == "Tweet: {{text}}\nMood:"
    assert with_role({"prompt": "Look."}, "question", "text")["prompt"] == "Look.\n{{text}}"


def test_where_several_columns_play_a_role_a_click_loses_none_of_them():
    parts = {"prompt": "{{text}}", "completion": SNIPS}
    for shown_already in ("intent", "slots", "intent + slots"):
        assert with_role(parts, "answer", shown_already)["completion"] == SNIPS
    joined = with_role(parts, "answer", "id")
    assert joined["completion"] == SNIPS + "\n{{id}}" and roles_in(joined)["answer"] == "intent + slots + id"
    assert with_role(parts, "answer", "")["completion"] == '{"intent": "", "slots": }'
    assert (
        with_role({"prompt": "[[{{a}}]][[{{b}}]]{{q}}"}, "context", "c")["prompt"]
        == "[[{{c}}\n\n]][[{{a}}]][[{{b}}]]{{q}}"
    )
    assert with_role({"prompt": "{{q}}? Again: {{ q }}"}, "question", "r")["prompt"] == "{{r}}? Again: {{r}}"
    assert with_role({"text": "# {{note}}"}, "text", "# {{body}}")["text"] == "# {{body}}"


def test_a_role_that_is_taken_away_leaves_the_rest():
    assert with_role(CONTEXT, "context", "")["prompt"] == "{{q}}"
    assert with_role(CONTEXT, "question", None)["prompt"] == "[[{{page}}\n\n]]"
    assert with_role({"history": "h", "prompt": "{{q}}"}, "history", "")["history"] == ""


@pytest.mark.parametrize(
    ("role", "left"),
    [
        ("messages", {"system": "Be {{mood}}.", "completion": "It is {{a}}.", "reasoning": "{{why}}", "messages": "x"}),
        ("text", {"text": "x"}),
    ],
)
def test_a_role_ends_what_does_not_go_with_it(role, left):
    assert clicked((role, "x"), parts=CONTEXT) == left
    PromptTemplate(**clicked((role, "x"), parts=CONTEXT))
    back = clicked(("question", "q"), ("answer", "a"), parts=clicked((role, "x")))
    assert back == {"prompt": "{{q}}", "completion": "{{a}}"}


@pytest.mark.parametrize(
    "parts",
    [
        CONTEXT,
        {"messages": "m", "tools": "t"},
        {"text": "note"},
        {"text": "# {{title}}\n{{note}}"},
        {"prompt": "{{text}}", "completion": SNIPS},
        {"prompt": "{{q}}", "completion": "{{a}}", "history": "h"},
    ],
)
def test_what_was_clicked_comes_back_from_yaml(parts):
    config = RunConfig.parse({"base_model": "starter", "dataset": {"path": "x.csv"}, "template": parts})
    again = RunConfig.from_yaml(config.to_yaml()).template.model_dump()
    assert roles_in(again) == roles_in(parts)
    for role, column in roles_in(again).items():
        if column:  # clicking what is shown already changes nothing
            assert clicked((role, column), parts=again) == {part: again[part] for part in PARTS if again[part]}


def test_every_field_of_a_template_is_a_part_and_every_part_can_be_clicked():
    assert set(PARTS) == set(PromptTemplate.model_fields)
    assert {ROLES.get(role, role) for role in roles_in(EMPTY)} == set(PARTS)
