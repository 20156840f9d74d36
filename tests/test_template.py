"""The template language, conversations in every dress, chat turns, and what a data set is taken for."""

import json

import pytest
from pydantic import ValidationError

from ftui.dataset import Rows
from ftui.errors import UserError
from ftui.template import PromptTemplate, propose


def prompt_of(prompt: str, row: dict) -> str:
    return PromptTemplate(prompt=prompt, completion="x").render(row)[0]["content"]


def conversation(turns: object, **row) -> list[dict]:
    return PromptTemplate(messages="messages").render({"messages": turns, **row})


GUANACO = "### Human: Kilos?### Assistant: 412.### Human: And now?### Assistant: 411."
HH = "\n\nHuman: Kilos?\n\nAssistant: 412."
ASK = {"role": "user", "content": "Kilos?"}
ANSWER = {"role": "assistant", "content": "412."}


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{{a}}", {"a": "x"}, "x"),
        ("{{ a }}", {"a": "x"}, "x"),
        ("{{Título de la receta}}", {"Título de la receta": "Gazpacho"}, "Gazpacho"),
        ("{{a.b}}", {"a": {"b": "path"}}, "path"),
        ("{{a.b}}", {"a": {"b": "path"}, "a.b": "column"}, "column"),
        ("{{a.b.c}}", {"a.b": {"c": "deep"}, "a": "shallow"}, "deep"),
        ("{{a.text[0]}}", {"a": {"text": ["Ana"]}}, "Ana"),
        ("{{a.text[0]}}", {"a": '{"text": ["Ana"]}'}, "Ana"),
        ("{{a[1]}}", {"a": "['salt', 'oil']"}, "oil"),
        ("{{a.steps[*]}}", {"a": {"steps": ["4*2 is 8.", {"k": 1}]}}, '4*2 is 8.\n{"k":1}'),
        ("{{a[*]}}", {"a": '["salt", "oil"]'}, "salt\noil"),
        ("-{{a[*]}}-", {"a": []}, "--"),
        ("-{{a[7]}}-", {"a": ["one"]}, "--"),
        ("-{{a}}-", {"a": None}, "--"),
        ("-{{a}}-", {"a": float("nan")}, "--"),
        ("{{a}}", {"a": ["é", {"k": 1}]}, '["é",{"k":1}]'),
        ("{{a}} {{b}}", {"a": True, "b": 1.5}, "true 1.5"),
        ("{{a}}", {"a": "{{b}} {a} {% if %} [[x]]", "b": "no"}, "{{b}} {a} {% if %} [[x]]"),
        ('{"label": "{{{a}}}"}', {"a": "x"}, '{"label": "{x}"}'),
        ("{{{{a}} {{a}}", {"a": "x"}, "{{a}} x"),
        ("q[[ in {{a}}]]?", {"a": "oil"}, "q in oil?"),
        ("q[[ in {{a}}]]?", {"a": " "}, "q?"),
        ("q[[ {{a}} {{b}}]]?", {"a": "x", "b": ""}, "q?"),
        ("m = [[1, 2], [3, 4]]{{a}}", {"a": ""}, "m = [[1, 2], [3, 4]]"),
        ("m[[0]]{{a}}", {"a": "!"}, "m[[0]]!"),
        ("[[{{a[0]}}]]", {"a": ["x"]}, "x"),
    ],
)
def test_a_template_is_filled_in_one_pass(template, row, expected):
    assert prompt_of(template, row) == expected


def test_columns_stand_in_order_of_first_use():
    template = PromptTemplate(
        system="{{style}}", prompt="{{q}} {{c.d[0]}} {{q}}", reasoning="{{why}}", completion="{{a}}"
    )
    assert template.columns == ("style", "q", "c.d[0]", "why", "a")
    assert template.prompt_columns == ("style", "q", "c.d[0]")
    assert PromptTemplate(messages="m", tools="t", system="{{s}}").columns == ("s", "m", "t")
    assert PromptTemplate(text="my note").columns == ("my note",)


def test_an_unknown_column_is_named_with_the_closest_one():
    with pytest.raises(UserError, match="no column “qestion”. Did you mean “Question”"):
        PromptTemplate(prompt="{{qestion}}", completion="{{answer}}").check(["Question", "answer"])


def test_all_unknown_columns_are_named_at_once():
    with pytest.raises(UserError) as error:
        PromptTemplate(prompt="{{alpha}}", completion="{{omega}}").check(["one", "two"])
    assert "“alpha”" in str(error.value) and "“omega”" in str(error.value) and "one, two" in str(error.value)


def test_single_braces_are_pointed_out():
    with pytest.raises(UserError, match=r"takes two braces: \{\{text\}\}"):
        PromptTemplate(prompt="{text}", completion="{{label}}").check(["text", "label"])


def test_a_path_and_a_dotted_column_pass_the_check():
    PromptTemplate(prompt="{{meta.lang}}", completion="{{answers.text[0]}}").check(["meta.lang", "answers"])


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "The template is empty"),
        ({"prompt": "{{a}}"}, "The completion is missing"),
        ({"completion": "{{a}}"}, "The prompt is missing"),
        ({"text": "a", "messages": "b"}, "goes with no other part"),
        ({"text": "a", "system": "b"}, "goes with no other part"),
        ({"messages": "m", "history": "h"}, "stands before a prompt"),
        ({"messages": "m", "prompt": "{{a}}"}, "Keep one of them"),
        ({"prompt": "{{a}}", "completion": "{{b}}", "tools": "t"}, "belongs to conversations"),
        ({"messages": "m", "reasoning": "{{r}}"}, "Write the completion"),
        ({"prompt": "{{a", "completion": "{{b}}"}, "never closes it"),
        ({"prompt": "{{ }}", "completion": "{{b}}"}, "names no column"),
        ({"prompt": "x" * 70_000, "completion": "{{b}}"}, "65536"),
        ({"promt": "{{a}}"}, "Extra inputs"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(parts, sentence):
    with pytest.raises(ValidationError, match=sentence):
        PromptTemplate(**parts)


def test_a_pair_becomes_system_user_and_assistant_with_its_reasoning():
    template = PromptTemplate(system="Be kind.", prompt="{{q}}", reasoning="{{why}}", completion=" {{a}}")
    assert template.render({"q": "Odd?", "why": "20 + 1", "a": "Yes"}) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Odd?"},
        {"role": "assistant", "content": " Yes", "reasoning_content": "20 + 1"},
    ]
    assert "reasoning_content" not in template.render({"q": "Odd?", "why": None, "a": "Yes"})[-1]


@pytest.mark.parametrize(
    ("row", "part", "column"), [({"q": "x", "a": " \n"}, "completion", "a"), ({"q": None, "a": "x"}, "prompt", "q")]
)
def test_an_empty_pair_names_the_column(row, part, column):
    with pytest.raises(UserError, match=f"The {part} is empty: there is nothing in “{column}”"):
        PromptTemplate(prompt="{{q}}", completion="{{a}}").render(row)


def test_text_is_a_column_or_a_template():
    assert PromptTemplate(text="note").render({"note": "Dawn."}) == [{"role": "text", "content": "Dawn."}]
    assert PromptTemplate(text="### {{note}}").render({"note": "Dawn."}) == [{"role": "text", "content": "### Dawn."}]


def test_sharegpt_roles_are_mapped_by_value():
    turns = [{"from": "human", "value": "Kilos?"}, {"from": "gpt", "value": "412."}]
    assert conversation(turns) == [ASK, ANSWER]
    for role in ("assistant", "model", "chatgpt", "bing", "GPT", "Chatbot", "ai"):
        assert conversation([turns[0], {"from": role, "value": "412."}])[1]["role"] == "assistant"
    assert conversation([{"role": "developer", "content": "Short."}, ASK, ANSWER])[0] == {
        "role": "system",
        "content": "Short.",
    }


def test_a_conversation_may_be_json_text():
    assert conversation(json.dumps([ASK, ANSWER])) == conversation(str([ASK, ANSWER])) == [ASK, ANSWER]
    assert conversation({"messages": [ASK, ANSWER]}) == [ASK, ANSWER]


def test_gemini_writes_parts_without_a_type():
    turns = [
        {"role": "user", "parts": [{"text": "Ki"}, {"text": "los?"}]},
        {"role": "model", "parts": [{"text": "412."}]},
    ]
    assert conversation(turns) == [ASK, ANSWER]
    with pytest.raises(UserError, match="Turn 2 .* neither text nor a list of text parts"):
        conversation([turns[0], {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}])


def test_names_weights_and_text_parts_survive():
    parts = [{"type": "text", "text": "Ki"}, {"type": "text", "text": "los?"}]
    messages = conversation(
        [{"role": "user", "name": "ana", "content": parts}, ANSWER | {"weight": 0}, ASK, ANSWER | {"train": True}]
    )
    assert messages[0] == {"role": "user", "name": "ana", "content": "Kilos?"}
    assert [message.get("weight") for message in messages] == [None, 0, None, 1]
    for key, value in (("weight", 0), ("train", False), ("loss_weight", 0.0)):
        unlearned = {"role": "assistant", "content": [part | {key: value} for part in parts]}
        assert conversation([ASK, unlearned])[1] == {"role": "assistant", "content": "Kilos?", "weight": 0}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_under_any_name_is_reasoning_content(key):
    assert conversation([ASK, ANSWER | {key: "weigh it"}])[1]["reasoning_content"] == "weigh it"


CALL = {"type": "function", "function": {"name": "stock", "arguments": {"depot": "north"}}}


@pytest.mark.parametrize(
    "turn",
    [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "stock", "arguments": '{"depot": "north"}'}}],
        },
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "function_call": {"name": "stock", "arguments": '{"depot":"north"}'}},
        {"from": "function_call", "value": '{"name": "stock", "arguments": {"depot": "north"}}'},
    ],
)
def test_every_kind_of_call_becomes_a_tool_call_with_arguments_as_an_object(turn):
    messages = conversation([ASK, turn, {"from": "observation", "value": "412"}, ANSWER])
    assert messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert messages[2] == {"role": "tool", "content": "412"}


def test_tools_stand_on_the_first_message():
    tool = {"name": "stock", "parameters": {"type": "object"}}
    template = PromptTemplate(messages="m", tools="tools", system="{{s}}")
    for cell in (json.dumps([tool]), [tool], [{"type": "function", "function": tool}]):
        messages = template.render({"m": [ASK, ANSWER], "tools": cell, "s": "Short."})
        assert messages[0] == {"role": "system", "content": "Short.", "tools": [{"type": "function", "function": tool}]}
    for cell in ("[]", "", None, []):
        assert "tools" not in template.render({"m": [ASK, ANSWER], "tools": cell, "s": None})[0]


def test_a_conversation_keeps_its_own_system_prompt():
    own = {"role": "system", "content": "Mine."}
    assert PromptTemplate(messages="m", system="Ours.").render({"m": [own, ASK, ANSWER]})[0] == own


def test_a_conversation_may_get_its_answer_from_another_column():
    template = PromptTemplate(messages="asked", completion="{{chosen.value}}")
    chosen = {"from": "gpt", "value": "412."}
    assert template.render({"asked": [ASK], "chosen": chosen}) == [ASK, ANSWER]
    asked = [ASK, ANSWER, ASK]
    assert template.render({"asked": asked, "chosen": chosen}) == [ASK, ANSWER | {"weight": 0}, ASK, ANSWER]


@pytest.mark.parametrize(
    ("turns", "sentence"),
    [
        ([], "holds no conversation"),
        (None, "holds no conversation"),
        ("just text", "plain text"),
        ([ASK], "no assistant turn"),
        ([ASK, "hello"], "Turn 2 .* not an object"),
        ([ASK, {"content": "x"}], "Turn 2 .* has no role"),
        ([ASK, {"role": "wizard", "content": "x"}], "unknown role “wizard”"),
        ([ASK, {"role": "assistant", "content": "  "}], r"Turn 2 .* \(assistant\) is empty"),
        ([{"role": "user", "content": None}, ANSWER], r"Turn 1 .* \(user\) is empty"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER], "part of type “image_url”"),
        ([{"role": "user", "content": 7}, ANSWER], "neither text nor a list"),
        ([ASK, ANSWER | {"weight": 0.5}], "the weight 0.5"),
        (
            [
                ASK,
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2", "train": 0}],
                },
            ],
            "Turn 2 .* has parts that are learned beside parts that are not",
        ),
        (
            [ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]}],
            "arguments that are not JSON",
        ),
        ([ASK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}], "not an object"),
        ([ASK, {"role": "assistant", "tool_calls": [{}]}], "without a function name"),
        ([ASK, {"from": "function_call", "value": "f(x)"}], "its value is not JSON"),
    ],
)
def test_a_malformed_conversation_names_the_turn(turns, sentence):
    with pytest.raises(UserError, match=sentence):
        conversation(turns)


@pytest.mark.parametrize("cell", ["{nope", '"text"', "[1]", '[{"description": "no name"}]'])
def test_malformed_tools_name_the_column(cell):
    with pytest.raises(UserError, match="column “tools”|Column “tools”"):
        PromptTemplate(messages="m", tools="tools").render({"m": [ASK, ANSWER], "tools": cell})


def test_a_turn_fills_the_prompt_as_a_row_would():
    template = PromptTemplate(system="Be kind.", prompt="Tweet: {{text}}\nMood:", completion="{{label}}")
    row = template.render({"text": "Yay", "label": "good"})
    assert template.turn("Yay") == row[:-1]
    assert template.turn("Yay", history=[ASK, ANSWER]) == [row[0], ASK, ANSWER, row[1]]


def test_a_turn_with_several_columns_takes_them_from_values_and_the_missing_one_from_the_text():
    template = PromptTemplate(prompt="[[{{context}}: ]]{{question}}", completion="{{answer}}")
    assert template.turn("Who?", {"context": "Ana"})[0]["content"] == "Ana: Who?"
    assert template.turn("Who?")[0]["content"] == "Who?"
    assert template.turn("", {"context": "Ana", "question": "Who?"})[0]["content"] == "Ana: Who?"
    assert template.turn("And then?", {"context": "Ana", "question": "Who?"})[0]["content"] == "And then?"


def test_a_turn_puts_values_into_the_system_prompt():
    template = PromptTemplate(system="[[Schema: {{schema}}]]", prompt="{{q}}", completion="{{a}}")
    assert template.turn("How many?", {"schema": "t(x)"})[0] == {"role": "system", "content": "Schema: t(x)"}
    assert template.turn("How many?") == [{"role": "user", "content": "How many?"}]


def test_an_empty_turn_is_refused():
    with pytest.raises(UserError, match="no message yet"):
        PromptTemplate(messages="m").turn("  ")


@pytest.mark.parametrize(
    ("row", "kind", "parts"),
    [
        ({"messages": [ASK, ANSWER], "tools": "[]"}, "messages", {"messages": "messages", "tools": "tools"}),
        ({"messages": json.dumps([ASK, ANSWER])}, "messages", {"messages": "messages"}),
        (
            {"conversations": [{"from": "human", "value": "x"}], "system": "s"},
            "sharegpt",
            {"messages": "conversations", "system": "{{system}}"},
        ),
        ({"conversation": [{"role": "user", "value": "x"}]}, "messages", {"messages": "conversation"}),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r"},
            "preference",
            {"prompt": "{{prompt}}", "completion": "{{chosen}}"},
        ),
        ({"chosen": [ASK, ANSWER], "rejected": [ASK, ANSWER]}, "preference", {"messages": "chosen"}),
        (
            {"instruction": "i", "input": "n", "chosen": "c", "rejected": "r"},
            "preference",
            {"prompt": "{{instruction}}[[\n\n{{input}}]]", "completion": "{{chosen}}"},
        ),
        (
            {"prompt": "p", "text": "t", "rejected_text": "r"},
            "preference",
            {"prompt": "{{prompt}}", "completion": "{{text}}"},
        ),
        (
            {
                "conversations": [{"from": "human", "value": "x"}],
                "chosen": {"from": "gpt", "value": "y"},
                "rejected": {"from": "gpt", "value": "z"},
            },
            "preference",
            {"messages": "conversations", "completion": "{{chosen.value}}"},
        ),
        (
            {"input": {"messages": [ASK]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]},
            "preference",
            {"messages": "input.messages", "completion": "{{preferred_output[0].content}}"},
        ),
        (
            {"prompt": [ASK], "completion": [ANSWER]},
            "prompt_completion",
            {"messages": "prompt", "completion": "{{completion[0].content}}"},
        ),
        (
            {"prompt": "p", "completion": "c"},
            "prompt_completion",
            {"prompt": "{{prompt}}", "completion": "{{completion}}"},
        ),
        (
            {"Instruction": "i", "input": "", "output": "o"},
            "alpaca",
            {"prompt": "{{Instruction}}[[\n\n{{input}}]]", "completion": "{{output}}"},
        ),
        (
            {"instruction": "i", "context": "", "response": "r", "category": "c"},
            "alpaca",
            {"prompt": "{{instruction}}[[\n\n{{context}}]]", "completion": "{{response}}"},
        ),
        (
            {"Question": "q", "Complex_CoT": "t", "Response": "r"},
            "reasoning",
            {"prompt": "{{Question}}", "reasoning": "{{Complex_CoT}}", "completion": "{{Response}}"},
        ),
        (
            {"question": "q", "context": "c", "answer": "a"},
            "question_answer",
            {"prompt": "[[{{context}}\n\n]]{{question}}", "completion": "{{answer}}"},
        ),
        (
            {"question": "q", "answers": {"text": ["a"]}},
            "question_answer",
            {"prompt": "{{question}}", "completion": "{{answers.text[0]}}"},
        ),
        (
            {"Context": "c", "Response": "r"},
            "prompt_completion",
            {"prompt": "{{Context}}", "completion": "{{Response}}"},
        ),
        ({"title": "t", "ingredients": "[]", "NER": "[]"}, "prompt_completion", {"completion": "{{NER}}"}),
        (
            {"id": "1", "text": "t", "label": 0, "label_text": "bad"},
            "labels",
            {"prompt": "{{text}}", "completion": "{{label_text}}"},
        ),
        ({"text": "t", "category": "c"}, "labels", {"prompt": "{{text}}", "completion": "{{category}}"}),
        ({"chosen": HH, "rejected": HH}, "preference", {"messages": "chosen"}),
        ({"input": "i", "accepted": "a", "rejected": "r"}, "preference", {"completion": "{{accepted}}"}),
        (
            {"prompt": "p", "preferred_completion": "a", "non_preferred_completion": "r"},
            "preference",
            {"prompt": "{{prompt}}"},
        ),
        (
            {"instruction": "i", "chosen_response": "a", "rejected_response": "r"},
            "preference",
            {"prompt": "{{instruction}}"},
        ),
        (
            {"system": "s", "question": "q", "chosen": "a", "rejected": "r"},
            "preference",
            {"system": "{{system}}", "prompt": "{{question}}"},
        ),
        (
            {"prompt": "p", "chosen": [ASK, ANSWER], "rejected": [ASK, ANSWER]},
            "preference",
            {"messages": "chosen"},
        ),
        (
            {"prompt": "p", "answers": [{"answer": "a", "rank": 1.0}]},
            "preference",
            {"completion": "{{answers[0].answer}}"},
        ),
        (
            {"prompt": "\n\nHuman: Kilos?\n\nAssistant: ", "answers": [{"answer": "a", "rank": 1.0}]},
            "preference",
            {"messages": "prompt", "completion": "{{answers[0].answer}}"},
        ),
        (
            {"prompt": "\n\nHuman: Kilos?\n\nAssistant:", "completion": "412."},
            "prompt_completion",
            {"messages": "prompt", "completion": "{{completion}}"},
        ),
        (
            {"system_prompt": "s", "question": "q", "response": "r"},
            "question_answer",
            {"system": "{{system_prompt}}", "prompt": "{{question}}"},
        ),
        (
            {"instruction": "i", "input": "", "output": "o", "history": [["a", "b"]]},
            "alpaca",
            {"prompt": "{{instruction}}[[\n\n{{input}}]]", "history": "history"},
        ),
        ({"instruction": "i", "output": "o", "history": []}, "alpaca", {"completion": "{{output}}"}),
        ({"data": ["q", "a", "q", "a"]}, "messages", {"messages": "data"}),
        ({"conversation": [{"human": "q", "assistant": "a"}]}, "messages", {"messages": "conversation"}),
        ({"text": GUANACO}, "messages", {"messages": "text"}),
        ({"text": [ASK, ANSWER]}, "messages", {"messages": "text"}),
        (
            {
                "systemInstruction": {"parts": [{"text": "s"}]},
                "contents": [{"role": "user", "parts": [{"text": "Kilos?"}]}],
            },
            "messages",
            {"messages": "contents", "system": "{{systemInstruction.parts[0].text}}"},
        ),
        ({"text": str([ASK, ANSWER])}, "messages", {"messages": "text"}),
        ({"id": "1", "messages": str([ASK, ANSWER])}, "messages", {"messages": "messages"}),
        (
            {"text": "play it", "intent": "play", "slots": {"song": "it"}},
            "slots",
            {"prompt": "{{text}}", "completion": '{"intent": "{{intent}}", "slots": {{slots}}}'},
        ),
        (
            {"prompt": "3+4*2?", "completions": ["4*2 is 8.", "3+8 is 11."], "labels": [True, True]},
            "stepwise",
            {"prompt": "{{prompt}}", "completion": "{{completions[*]}}"},
        ),
        (
            {"prompt": "p", "completions": '["a", "b"]', "labels": "[True, False]"},
            "stepwise",
            {"completion": "{{completions[*]}}"},
        ),
        ({"prompt": "p", "completions": ["a", "b"], "labels": ["sad", "glad"]}, "unknown", None),
        ({"prompt": "p", "completions": ["a", "b"]}, "unknown", None),
        ({"messages": 2, "conversation": [ASK, ANSWER]}, "messages", {"messages": "conversation"}),
        ({"question": "q", "answer": {"start": 1}, "response": "a"}, "question_answer", {"completion": "{{response}}"}),
        ({"question": "q", "answer": 4}, "question_answer", {"prompt": "{{question}}", "completion": "{{answer}}"}),
        ({"passage": "p", "question": "q", "answer": False}, "question_answer", {"completion": "{{answer}}"}),
        ({"instruction": "i", "input": "", "output": 0.5}, "alpaca", {"completion": "{{output}}"}),
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, "unknown", None),
        ({"text": "t"}, "text", {"text": "text"}),
        ({"whatever": "t"}, "text", {"text": "whatever"}),
        ({"prompt": "", "completion": "t"}, "text", {"text": "completion"}),
        ({"text": "t", "json": '{"a": 1}'}, "prompt_completion", {"prompt": "{{text}}", "completion": "{{json}}"}),
        ({"reply": "t", "input": "u"}, "prompt_completion", {"prompt": "{{input}}", "completion": "{{reply}}"}),
        ({"text": "t", "url": "u"}, "text", {"text": "text"}),
        ({"text": "t", "stars": "5"}, "text", {"text": "text"}),
        ({"question": "q", "schema": "s", "sql": "a"}, "question_answer", {"prompt": "[[{{schema}}\n\n]]{{question}}"}),
        ({"context": "t", "subtext": "u", "pretext": "v"}, "unknown", None),
        ({"data": [{"text": "a"}]}, "unknown", None),
    ],
)
def test_a_data_set_is_recognized_by_its_columns(row, kind, parts):
    proposal = propose(Rows.gather([row]))
    assert proposal.format == kind
    if parts is None:
        assert proposal.template is None and f"The columns are {', '.join(row)}." in proposal.sentence
    else:
        assert parts.items() <= proposal.template.model_dump(exclude_defaults=True).items()
        proposal.template.check(tuple(row))


def test_a_preference_set_says_that_the_rejected_answers_are_not_used():
    assert "“rejected” is not used" in propose(Rows.gather([{"prompt": "p", "chosen": "c", "rejected": "r"}])).sentence


def test_of_answers_in_steps_it_is_told_what_is_learned_and_what_is_not():
    row = {"prompt": "3+4*2?", "completions": ["4*2 is 8.", "3+8 is 11."], "labels": [True, True]}
    proposal = propose(Rows.gather([row]))
    assert proposal.template.render(row)[-1]["content"] == "4*2 is 8.\n3+8 is 11."
    assert "“labels” says which steps are right; it is not learned." in proposal.sentence
    assert "the doctor leaves them out" in proposal.sentence


def test_already_formatted_text_is_pointed_out():
    assert "already formatted" in propose(Rows.gather([{"text": "<|im_start|>user\nHi<|im_end|>"}])).sentence


@pytest.mark.parametrize(
    "text",
    [
        "### Human: Kilos?### Assistant: 412.",
        "### Instruction:\nKilos?\n\n### Response:\n412.",
        "Below is an instruction that describes a task. Write a response.\n\n### Instruction:\nKilos?\n\n### Response:\n412.",
        "<|im_start|>user\nKilos?<|im_end|>\n<|im_start|>assistant\n412.<|im_end|>\n",
        "<|user|>\nKilos?</s>\n<|assistant|>\n412.</s>",
        "<start_of_turn>user\nKilos?<end_of_turn>\n<start_of_turn>model\n412.<end_of_turn>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nKilos?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n412.<|eot_id|>",
        "<s>[INST] Kilos? [/INST] 412. </s>",
        "\n\nHuman: Kilos?\n\nAssistant: 412.",
        "USER: Kilos?\n\nASSISTANT: 412.",
        "USER: Kilos?\n\n\nASSISTANT: 412. <|endoftext|>\n\n\n",
    ],
)
def test_a_conversation_written_into_one_text_is_read_as_turns(text):
    assert conversation(text) == [ASK, ANSWER]


def test_what_a_function_answers_is_no_part_of_the_answer():
    call = 'USER: Kilos?\n\n\nASSISTANT: <functioncall> {"name": "stock"} <|endoftext|>'
    text = call + '\n\n\nFUNCTION RESPONSE: {"kilos": 412}\n\n\nASSISTANT: 412. <|endoftext|>'
    assert [message["role"] for message in conversation(text)] == ["user", "assistant", "tool", "assistant"]
    assert conversation(text)[2:] == [{"role": "tool", "content": '{"kilos": 412}'}, ANSWER]


def test_an_instruction_and_its_input_are_one_turn_and_a_llama_system_prompt_is_its_own():
    text = "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3"
    assert conversation(text)[0] == {"role": "user", "content": "Add.\n\n1 2"}
    text = "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nKilos? [/INST] 412. </s><s>[INST] Sure? [/INST] Yes. </s>"
    assert [message["content"] for message in conversation(text)] == ["Be kind.", "Kilos?", "412.", "Sure?", "Yes."]


@pytest.mark.parametrize(
    "text",
    [
        "Human: rights",
        "Human rights: a history",
        "A text about ### Human: and ### Assistant: marks",
        "User: only one side",
    ],
)
def test_a_text_that_is_no_conversation_stays_text(text):
    assert propose(Rows.gather([{"text": text}])).template == PromptTemplate(text="text")


def test_pairs_and_texts_in_turn_are_conversations():
    assert conversation([["Kilos?", "412."]]) == conversation(["Kilos?", "412."]) == [ASK, ANSWER]
    assert conversation([{"human": "Kilos?", "assistant": "412."}]) == [ASK, ANSWER]
    assert conversation([{"input": "Kilos?", "output": "412."}]) == [ASK, ANSWER]


@pytest.mark.parametrize("history", [[["Kilos?", "412."]], '[["Kilos?", "412."]]', [ASK, ANSWER]])
def test_earlier_turns_come_before_the_prompt(history):
    template = PromptTemplate(system="Short.", prompt="{{q}}", completion="{{a}}", history="h")
    messages = template.render({"q": "Sure?", "a": "Yes.", "h": history})
    assert [message["content"] for message in messages] == ["Short.", "Kilos?", "412.", "Sure?", "Yes."]
    for empty in (None, [], "[]", ""):
        assert len(template.render({"q": "Sure?", "a": "Yes.", "h": empty})) == 3
    assert template.columns == ("q", "h", "a") and template.prompt_columns == ("q",)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "completion": "c", "label": True},
        {"prompt": "p", "completion": "c", "label": "false"},
        {"instruction": "i", "output": "o", "kto_tag": False},
        {"messages": [ASK, ANSWER], "label": True},
    ],
)
def test_answers_that_nobody_wants_are_pointed_out(row):
    assert "says which answers are good" in propose(Rows.gather([row])).sentence
    for label in ("sad", "1", 0):
        assert "says which" not in propose(Rows.gather([{"prompt": "p", "completion": "c", "label": label}])).sentence
