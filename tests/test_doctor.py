"""The doctor: planted faults are found, each counted exactly; what is clean stays without alarm; a fix changes what it says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ftui.config import RunConfig
from ftui.dataset import DatasetSource, Rows
from ftui.doctor import Setting, apply_fix, examine, preference, shape, suggested_epochs
from ftui.doctor.content import has_mojibake, has_personal_data, without_mojibake, without_personal_data
from ftui.doctor.language import language_of
from ftui.doctor.near import near_duplicates
from ftui.encoding import IGNORED, Encoding
from ftui.examples import Examples, Part, prepare
from ftui.models import load_tokenizer
from ftui.template import propose
from tests import tiny

PAIR = {"prompt": "{{text}}", "completion": "{{answer}}"}
CHAT = {"messages": "messages"}
NO_TOOLS = "{% for m in messages %}{{ m.role + ': ' + (m.content or '') + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


@pytest.fixture(scope="session")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


@pytest.fixture
def check(tokenizer):
    """Problems by code, of rows or of a source, with the rows they were found in."""

    def examined(rows, template=PAIR, chat_template="auto", change=None, split=None, limit=0, **training):
        rows = Rows.gather(rows) if isinstance(rows, list) else rows
        config = RunConfig.parse(
            {
                "base_model": "tiny",
                "dataset": {"path": "rows.jsonl"},
                "template": template,
                "split": split or {"validation": 5, "test": 5, "seed": 1},
                "training": {"max_length": 512, **training},
                "evaluation": {"limit": limit},  # where nothing is compared, few test rows are no fault
            }
        )
        encoding = Encoding(tokenizer, chat_template)
        examples = prepare(config, encoding, rows)
        found = examine(config, encoding, rows, change(examples) if change else examples).problems
        by_code = {problem.code: problem for problem in found}
        assert len(by_code) == len(found), "a code appears twice"
        for problem in found:
            assert problem.count == len(problem.rows)
            assert problem.message.endswith(".") and "{rows}" not in problem.message
        return by_code

    return examined


def with_tokens(examples, change):
    """The examples with other training tokens: `change` takes a row's number and what is encoded."""
    encoded = [(example.row, change(example.row, example.encoded)) for example in examples.train]
    return replace(examples, train=Part(examples.rows, examples.train.template, encoded))


def pairs(count=120):
    """Clean rows: every question and answer is different from all others."""
    places = ["harbor", "market", "library", "tower", "garden", "bridge"]
    acts = ["opens", "closes", "leaks", "sings", "grows", "burns", "sleeps", "turns", "rises", "sinks"]
    days = ["monday", "friday"]
    made = [
        {
            "text": f"{('Who says', 'Did she say')[number % 2]} that the {place} {act} on {day}, number {ord(place[0]) * ord(act[-2]) + number}?"
        }
        for number, (place, act, day) in enumerate((p, a, d) for p in places for a in acts for d in days)
    ]
    opens = ("It is", "That was")
    return [
        {**row, "answer": f"{opens[number % 2]} person {number * 37} of row {number}."}
        for number, row in enumerate(made)
    ][:count]


def chats(count=60):
    return [
        {
            "messages": [
                {"role": "user", "content": row["text"]},
                {"role": "assistant", "content": row["answer"]},
            ]
        }
        for row in pairs(count)
    ]


def turn(role, content="Something of its own."):
    return {"role": role, "content": content}


def test_clean_rows_have_no_problem(check):
    assert check(pairs()) == {}
    assert check(chats(), CHAT) == {}


@pytest.mark.parametrize("name", ["tickets.jsonl", "schemas.jsonl", "labels.csv", "voice.jsonl"])
def test_no_sample_raises_an_alarm(check, name):
    rows = DatasetSource(path=f"samples/{name}").load()
    templates = {
        "tickets.jsonl": {"prompt": "{{text}}", "completion": "{{json}}"},
        "schemas.jsonl": {"prompt": "{{schema}}\n\n{{question}}", "completion": "{{sql}}"},
        "labels.csv": {"prompt": "{{text}}", "completion": "{{label}}"},
        "voice.jsonl": CHAT,
    }
    meant = {"common_answer_text"} if name == "voice.jsonl" else set()  # its farewell is the voice that is learned
    assert set(check(rows, templates[name], max_length=8192)) == meant


def test_errors_come_first_and_then_what_touches_most_rows(check):
    rows = pairs(80)
    rows[3]["answer"] = ""
    for number in (10, 11, 12):
        rows[number]["text"] += " Write to ana@mail-of-ours.org."
    rows[20]["text"] += " <|endoftext|>"
    assert [(code, problem.severity) for code, problem in check(rows).items()] == [
        ("empty_field", "error"),
        ("personal_data", "warning"),
        ("special_tokens_in_data", "warning"),
    ]


# planted faults in pairs


def test_empty_fields_are_errors_and_empty_columns_within_a_prompt_are_warnings(check):
    rows = [{**row, "place": "here"} for row in pairs(80)]
    rows[4]["answer"] = rows[9]["answer"] = " "
    rows[30]["place"] = ""
    found = check(rows, {"prompt": "{{place}}: {{text}}", "completion": "{{answer}}"})
    assert found["empty_field"].rows == [4, 9] and found["empty_field"].severity == "error"
    assert found["empty_placeholder"].rows == [30] and found["empty_placeholder"].severity == "warning"
    assert set(found) == {"empty_field", "empty_placeholder"}


def test_an_empty_text_is_an_empty_field(check):
    rows = [{"note": row["text"]} for row in pairs(80)]
    rows[7]["note"] = ""
    assert check(rows, {"text": "note"})["empty_field"].rows == [7]


def test_lines_that_cannot_be_read_are_named_by_their_number(check, tmp_path):
    lines = [json.dumps(row) for row in pairs(80)]
    lines[2], lines[5] = "{broken", "[1, 2]"
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    found = check(DatasetSource(path=str(path)).load())
    assert found["unreadable_line"].rows == [3] and "line 3" in found["unreadable_line"].message
    assert found["data_type"].rows == [6]


def test_duplicates_are_the_later_ones_and_a_fix_leaves_them_out(check):
    rows = pairs(80)
    rows += [rows[0], rows[0], rows[1]]
    found = check(rows)
    assert found["duplicates"].rows == [80, 81, 82]
    fixed = apply_fix(Rows.gather(rows), found["duplicates"])
    assert len(fixed) == 80 and "duplicates" not in check(fixed)


def test_near_duplicates_need_a_question_and_an_answer_that_are_alike(check):
    rows = pairs(80)
    long = "the lights in the old hall above the river went out one by one while the guests were still at the table with their soup"
    rows.append({"text": f"When was it that {long}?", "answer": "At nine in the evening."})
    rows.append({"text": f"when was it, that {long.replace('soup', 'bread')}", "answer": "At nine in the evening!"})
    rows.append({"text": f"When was it that {long}, exactly?", "answer": "Nobody has ever said so."})
    found = check(rows)
    assert found["near_duplicates"].rows == [81]
    assert set(found) == {"near_duplicates"}


def near(asked: list[str], answers: list[str]) -> list[tuple[int, int]]:
    return near_duplicates(*(pa.chunked_array([side], pa.large_string()) for side in (asked, answers)))


def test_another_question_on_the_same_context_is_no_near_duplicate():
    context = " ".join(f"word{number}" for number in range(200))
    asked = [f"{context}\n\nWho built the tower?", f"{context}\n\nWhat color is its roof?"]
    assert near(asked, ["Yes.", "Yes."]) == []
    assert near([asked[0], asked[0].upper()], ["Yes.", "yes"]) == [(0, 1)]


def test_near_duplicates_are_found_in_letters_without_blanks_and_in_any_case():
    chinese = "昨天晚上河边的老房子里灯一盏一盏地熄灭了，客人们还坐在桌子旁边喝汤聊天，没有人发现。"
    german = "GESTERN ABEND GINGEN IM ALTEN HAUS ÜBER DEM FLUSS DIE LICHTER EINES NACH DEM ANDEREN AUS, WÄHREND ALLE AM TISCH SASSEN"
    asked = ["", "so", chinese, "no", german, chinese.replace("，", ", "), german.lower() + "!", chinese[:20]]
    assert near(asked, ["x"] * 8) == [(2, 5), (4, 6)]
    assert near([], []) == []


def test_near_duplicates_are_found_among_many_rows_that_share_an_instruction():
    base = [f"Read the following mail and say in one word what it is about: {row['text']}" for row in pairs(120)]
    planted = [text.replace(" that ", ", THAT ") + "!" for text in base[:10]]
    found = near([*base, *planted], ["x"] * 130)
    assert found == [(number, 120 + number) for number in range(10)]


def test_the_same_prompt_with_other_answers_is_a_contradiction(check):
    rows = pairs(80)
    rows.append({"text": rows[8]["text"], "answer": "Somebody else."})
    found = check(rows)
    assert found["contradictions"].rows == [8, 80]
    assert len(apply_fix(Rows.gather(rows), found["contradictions"])) == 80


def test_a_held_out_prompt_that_is_trained_on_leaks(check):
    rows = [{**row, "side": "train"} for row in pairs(80)]
    for number in range(60, 70):
        rows[number]["side"] = "test"
    rows[60]["text"], rows[61]["text"] = rows[0]["text"].upper(), rows[1]["text"]
    split = {"column": "side", "validation": 0}
    found = check(rows, split=split)
    assert found["leakage"].rows == [60, 61] and found["leakage"].severity == "error"
    assert "split.group: text" in found["leakage"].message
    assert "leakage" not in check(apply_fix(Rows.gather(rows), found["leakage"]), split=split)


def test_a_number_of_its_own_tears_no_duplicates_apart(check):
    rows = [{"id": number, **row} for number, row in enumerate(pairs(60) * 2)]
    found = check(rows, split={"validation": 12, "test": 24, "seed": 1})
    assert "leakage" not in found and found["duplicates"].rows == list(range(60, 120))


def test_labels_out_of_balance_and_one_answer_for_nearly_all(check):
    rows = pairs(120)
    for number, row in enumerate(rows):
        row["answer"] = "rare" if number in (5, 6) else "other" if number % 4 == 0 else "usual"
    found = check(rows)
    usual = [number for number, row in enumerate(rows) if row["answer"] == "usual"]
    assert found["label_imbalance"].rows == [5, 6]
    assert found["dominating_answer"].rows == usual
    assert set(found) == {"label_imbalance", "dominating_answer"}


def test_one_answer_or_one_prompt_for_all_is_an_error(check):
    assert check([{**row, "answer": "Yes."} for row in pairs(80)])["same_completions"].severity == "error"
    found = check([{**row, "text": "Say something."} for row in pairs(80)])
    assert found["same_prompts"].count == 80 and "leakage" not in found


@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ({}, "Set split.test to 20 (Data"),
        ({"test": 19}, "Set split.test to 20 (Data"),
        ({"test": 0.2, "validation": 0}, "Set split.test to 20 (Data"),
        ({"test": "0:12"}, "Add rows, and hold"),
    ],
)
def test_too_few_test_rows_for_a_verdict_are_told_before_the_training(check, split, advice):
    found = check(pairs(80), split=split or {"seed": 1}, limit=100)["few_test_rows"]
    assert found.severity == "warning" and f"The test has {found.count} of the 20 rows" in found.message
    assert advice in found.message
    enough = Setting("Hold back 20 rows for the test (split.test)", "split.test", 20)
    assert found.fix == (enough if "Set split.test" in advice else None)


def test_the_advice_for_more_test_rows_leaves_enough_to_learn_from_and_helps(check):
    assert "Add rows" in check(pairs(28), limit=100)["few_test_rows"].message
    assert check(pairs(80)[:30], split={"test": 5, "validation": 0}, limit=100)["few_test_rows"].fix.value == 20
    assert check(pairs(80), split={"test": 20, "validation": 8, "seed": 1}, limit=100) == {}


@pytest.mark.parametrize(("split", "limit"), [({"test": 0}, 100), ({}, 0), ({}, 12)])
def test_nothing_is_said_of_test_rows_where_no_verdict_is_asked_for(check, split, limit):
    assert "few_test_rows" not in check(pairs(80), split=split or {"seed": 1}, limit=limit)


def test_too_few_rows_to_learn_from_are_an_error_below_ten_and_a_warning_below_fifty(check):
    assert check(pairs(19))["too_few_rows"].severity == "error"
    assert check(pairs(20))["too_few_rows"].severity == "warning"
    assert check(pairs(59))["too_few_rows"].severity == "warning"
    assert check(pairs(60)) == {}


# planted faults in conversations


def test_the_seven_categories_of_openai_keep_their_names(check):
    rows = chats(80)
    rows[0]["messages"] = ["not a turn"]
    rows[1]["messages"] = []
    rows[2]["messages"][0].pop("role")
    rows[3]["messages"][0]["mood"] = "sunny"
    rows[4]["messages"][0]["role"] = "narrator"
    rows[5]["messages"][0]["content"] = 7
    rows[6]["messages"] = [turn("user")]
    rows[7]["messages"][1].pop("content")
    rows[8]["messages"][0]["content"] = " "
    found = check(rows, CHAT)
    assert {code: problem.rows for code, problem in found.items()} == {
        "data_type": [0],
        "missing_messages_list": [1],
        "message_missing_key": [2, 7],
        "message_unrecognized_key": [3],
        "unrecognized_role": [4],
        "missing_content": [5],
        "example_missing_assistant_message": [6],
        "empty_turn": [8],
    }
    errors = {code for code, problem in found.items() if problem.severity == "error"}
    assert errors == set(found) - {"message_unrecognized_key"}
    assert "keys that nothing reads: “mood”." in found["message_unrecognized_key"].message


def test_tools_parts_and_other_dresses_are_none_of_the_seven(check):
    rows = chats(80)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}}
    rows[0]["messages"][1:1] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
    ]
    rows[1]["messages"][0]["content"] = [{"type": "text", "text": "What is it?"}]
    rows[2]["messages"] = [{"from": "human", "value": "What now?"}, {"from": "gpt", "value": "Tea.", "weight": 1}]
    found = check(rows, CHAT)
    assert set(found) == {"content_dropped"}  # this template writes no tool calls
    assert found["content_dropped"].rows == [0] and "the tool calls" in found["content_dropped"].message


def test_roles_that_do_not_take_turns(check):
    rows = chats(80)
    rows[0]["messages"].insert(0, turn("user", "One more."))
    rows[1]["messages"].insert(0, turn("assistant", "I begin."))
    rows[2]["messages"].append(turn("user", "And now?"))
    rows[3]["messages"] = [turn("system"), turn("assistant", "All alone in this row.")]
    calls = ("<tool_call>\n{}\n</tool_call>", "<functioncall> {}", '[look(place="harbor")]', "I know already.")
    for number, said in enumerate(calls, 4):
        rows[number]["messages"][1:1] = [turn("assistant", said), turn("tool", f"It is {number}.")]
    found = check(rows, CHAT)
    assert found["wrong_role_order"].rows == [0, 1, 3, 7]
    assert found["last_not_assistant"].rows == [2]
    assert found["missing_user"].rows == [3]
    fixed = apply_fix(Rows.gather(rows), found["last_not_assistant"])
    assert len(fixed) == 80 and fixed[2] == chats(80)[2] and fixed[0] == rows[0]


def test_a_system_message_that_few_rows_lack(check):
    rows = [{"messages": [turn("system", "Be brief."), *row["messages"]]} for row in chats(80)]
    rows[9]["messages"].pop(0)
    assert check(rows, CHAT)["missing_system"].rows == [9]


def test_rows_of_weight_zero_teach_nothing(check):
    rows = chats(80)
    rows[11]["messages"][1]["weight"] = 0
    found = check(rows, CHAT)
    assert found["nothing_trainable"].rows == [11] and found["nothing_trainable"].severity == "error"
    assert len(apply_fix(Rows.gather(rows), found["nothing_trainable"])) == 79


def test_a_row_left_out_for_any_reason_is_in_an_error(check):
    rows = chats(80)
    rows[5]["messages"][1]["weight"] = 0.5
    rows[6]["messages"][1]["tool_calls"] = [{"function": {"name": "look", "arguments": "{"}}]
    assert check(rows, CHAT)["unusable_row"].rows == [5, 6]


def test_rows_that_the_chat_template_refuses(check):
    strict = NO_TOOLS.replace(
        "{% for", "{% if messages[-1].content == 'Boom.' %}{{ raise_exception('no') }}{% endif %}{% for", 1
    )
    rows = chats(80)
    rows[13]["messages"][1]["content"] = "Boom."
    assert check(rows, CHAT, strict)["render_failure"].rows == [13]


# what is learned


def test_rows_that_are_cut_and_answers_that_are_cut(check):
    rows = chats(80)
    rows[1]["messages"][1]["content"] = "a long answer " * 100
    rows[2]["messages"] += [turn("user", "a long question " * 100)]
    rows[3]["messages"][0]["content"] = "a long question " * 100
    found = check(rows, CHAT, max_length=200)
    assert found["answer_cut"].rows == [1] and found["answer_cut"].severity == "warning"
    assert found["over_length"].rows == [1, 2]
    assert found["nothing_trainable"].rows == [3]


def test_many_cut_answers_are_an_error(check):
    rows = [{**row, "answer": row["answer"] + " and so on" * 60} for row in pairs(80)]
    assert check(rows, max_length=100)["answer_cut"].severity == "error"


def test_reasoning_that_the_chat_template_drops(check):
    drops = NO_TOOLS.replace("(m.content or '')", "(m.content or '').split('</think>')[-1]")
    rows = chats(80)
    for number in (4, 5, 40):
        rows[number]["messages"][1]["reasoning_content"] = f"Let me think about {number}."
    found = check(rows, CHAT, drops)
    assert found["content_dropped"].rows == [4, 5, 40] and "the reasoning" in found["content_dropped"].message
    assert "content_dropped" not in check(rows, CHAT)


def test_a_system_prompt_and_tools_that_the_chat_template_drops(check):
    silent = NO_TOOLS.replace(
        "{{ m.role", "{% if m.role == 'system' and messages|length > 2 %}{% continue %}{% endif %}{{ m.role"
    )
    rows = [{**row, "tools": None} for row in chats(80)]
    rows[7]["messages"].insert(0, turn("system", "Answer as a sailor."))
    rows[7]["messages"] += [turn("user", "Again?"), turn("assistant", "Again.")]
    rows[8]["tools"] = [{"name": "look"}]
    found = check(rows, {"messages": "messages", "tools": "tools"}, silent)
    assert found["content_dropped"].rows == [7, 8]
    assert "what the system says" in found["content_dropped"].message
    assert "the list of tools" in found["content_dropped"].message


def test_tools_that_are_dropped_though_their_name_stands_elsewhere_in_the_row(check):
    def spoken(row: dict) -> dict:
        asked, answered = row["messages"]
        call = {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}
        calls = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "412"}]
        said = {**answered, "content": f"{answered['content']} 412 kilos, says look."}
        return {"messages": [asked, *calls, said], "tools": [{"name": "look"}]}

    rows = [spoken(row) if number in (5, 50) else {**row, "tools": None} for number, row in enumerate(chats(80))]
    writes_calls = NO_TOOLS.replace("(m.content or '')", "(m.content or '') + ((m.tool_calls or '') | string)")
    for dropped, chat_template in [
        ("the list of tools", writes_calls),
        (
            "the list of tools and what the tool says",
            writes_calls.replace("%}{{ m.role", "%}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ m.role", 1),
        ),
    ]:
        found = check(rows, {"messages": "messages", "tools": "tools"}, chat_template)["content_dropped"]
        assert found.rows == [5, 50] and f"leaves out {dropped}," in found.message
    writes_all = "{{ (tools or '') | string }}" + writes_calls
    assert "content_dropped" not in check(rows, {"messages": "messages", "tools": "tools"}, writes_all)


def test_every_cut_row_is_judged_by_what_would_stand_there_without_the_cut(check):
    picky = NO_TOOLS.replace(
        "(m.content or '')", "(m.content if 'library' not in m.content or m.role != 'user' else '')"
    )
    rows = chats(60)
    for row in rows:
        row["messages"][1]["content"] += " and so on" * 100
    lost = [number for number, row in enumerate(rows) if "library" in row["messages"][0]["content"]]
    found = check(rows, CHAT, picky, max_length=100)
    assert found["over_length"].count == 60 and found["content_dropped"].rows == lost


def test_an_answer_whose_end_is_not_learned(check):
    def without_ends(examples: Examples) -> Examples:
        return with_tokens(
            examples, lambda row, it: it._replace(labels=[*it.labels[:-1], IGNORED]) if row in (10, 20) else it
        )

    rows = [{**row, "side": "train" if number < 70 else "test"} for number, row in enumerate(pairs(80))]
    found = check(rows, change=without_ends, split={"column": "side", "validation": 0})
    assert found["stop_token_untrained"].rows == [10, 20] and set(found) == {"stop_token_untrained"}


def test_characters_that_the_tokenizer_does_not_know(tmp_path):
    tiny.make_tokenizer(tmp_path, metaspace=True)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.unk_token = "<|endoftext|>"
    encoding = Encoding(tokenizer)
    rows = Rows.gather(pairs(80))
    config = RunConfig.parse({"base_model": "x", "dataset": {"path": "x"}, "template": PAIR})
    examples = prepare(config, encoding, rows)
    changed, unknown = examples.train[3].row, [tokenizer.unk_token_id]
    examples = with_tokens(
        examples, lambda row, it: it._replace(input_ids=unknown + it.input_ids[1:]) if row == changed else it
    )
    found = [
        problem for problem in examine(config, encoding, rows, examples).problems if problem.code == "unknown_tokens"
    ]
    assert [problem.rows for problem in found] == [[changed]]


# what stands in the texts


def test_broken_letters_are_found_and_mended(check):
    rows = pairs(80)
    rows[2]["text"] += " Café Müller costs 5 €."
    rows[3]["answer"] += " Café “Müller” costs 5 €.".encode().decode("cp1252", "replace").replace("\ufffd", "")
    rows[4]["text"] += " Déjà vu".encode().decode("latin-1")
    found = check(rows)
    assert found["mojibake"].rows == [3, 4]
    fixed = apply_fix(Rows.gather(rows), found["mojibake"])
    assert fixed[4]["text"].endswith("Déjà vu") and "Café" in fixed[3]["answer"]
    assert [number for number in range(80) if fixed[number] != rows[number]] == [3, 4]


@pytest.mark.parametrize(
    "text", ["Ångström à la carte", "“Quotes” – and 5 €", "São Paulo", "naïve Ärger", "ÂME", "Привет", "10 Â"]
)
def test_honest_letters_are_not_mojibake(text):
    assert not has_mojibake(text) and without_mojibake(text) == text


SECRETS = [
    "AKIA" + "Q3EGRIDH" * 2,
    "ghp_" + "a1B2" * 9,
    "hf_" + "aBcDeFgHiJ" * 3 + "kLmN",
    "sk-" + "proj-" + "a1B2c3D4" * 4,
    "-----BEGIN RSA PRIVATE KEY-----",
    'password = "correcthorse9"',
]


def test_secrets_are_counted_never_repeated_and_replaced(check):
    rows = pairs(80)
    for number, secret in enumerate(SECRETS):
        rows[number * 3]["answer"] += f" {secret}"
    found = check(rows)
    assert found["secrets"].rows == [0, 3, 6, 9, 12, 15]
    assert not any(secret in found["secrets"].message for secret in SECRETS)
    fixed = apply_fix(Rows.gather(rows), found["secrets"])
    assert all("[secret]" in fixed[number]["answer"] for number in found["secrets"].rows)
    assert "secrets" not in check(fixed)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Write to ana.b+c@mail-of-ours.org now.", "Write to [e-mail] now."),
        ("Call +49 30 1234 5678 today", "Call [phone number] today"),
        ("Call (415) 555-0134.", "Call [phone number]."),
        ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN [account number], please"),
        ("Card 4539 1488 0343 6467 expires", "Card [card number] expires"),
        ("Card 4111 1111 1111 1111, 4111-1111-1111-1111", "Card [card number], [card number]"),
        ("Ruf 030 12345678 an, oder (030) 123 45 67.", "Ruf [phone number] an, oder [phone number]."),
        ("0171 2345678 und 0171/2345678, 01712345678", "[phone number] und [phone number], [phone number]"),
        ("06221 12 34-56 oder 040 12 34 56 78", "[phone number] oder [phone number]"),
        ("Llama al 612 345 678 o al 91 123 45 67.", "Llama al [phone number] o al [phone number]."),
        ("612 34 56 78, 912 345 678", "[phone number], [phone number]"),
        ("au 06 12 34 56 78 ou 06.12.34.56.78", "au [phone number] ou [phone number]"),
        ("020 7946 0958, 01632 960123 or 07700900123", "[phone number], [phone number] or [phone number]"),
        ("Tel.-Nr.: 03012345678, teléfono 612345678", "Tel.-Nr.: [phone number], teléfono [phone number]"),
        ("0034 612 345 678, (+34) 612 345 678", "[phone number], [phone number]"),
        ("Order by our customer Ana: 030 12345678", "Order by our customer Ana: [phone number]"),
        ("Ana, 030 12345678, ana.b@mail-of-ours.org", "Ana, [phone number], [e-mail]"),
    ],
)
def test_personal_data_is_found_and_replaced(text, left):
    assert has_personal_data(text) and without_personal_data(text) == left
    assert not has_personal_data(left)


@pytest.mark.parametrize(
    "text",
    [
        "Order A-1234 of 2024-05-17 at 12:30, 1,234,567.89 in all",
        "Mail ana@example.com or me@test.invalid",
        "DE89 3704 0044 0532 0130 01 is no account and 4539 1488 0343 6468 no card",
        "355909190063-746 = 355909189317",
        "@name wrote a @decorator in 3.14159265358979",
        "0.1234567890123456 and 192.168.100.200",
        "08/30/2015 12:30, 2024-05-17 09:30:00, 05.06.2024 and 0900-1730",
        "Order 012-3456789, Bestellnummer 0123 4567890, pedido 612 345 678",
        "ISBN 0-306-40615-2, 0306406152, 978-3-16-148410-0 and 0 306 40615 2",
        "It costs 612 345 678 €, 612.345.678 or $ 912 345 678",
        "Id 612345678, I tell you: 987654321, 1679433381 seconds, 123456789 and 33011356",
        "000 000 000, 734 000 000 euros, 612 345 678 people, 960-480-120 = 360, 4000-4999 and 1000 2000 3000",
        "0171 2345678.50 and 1 234 567 890 and 12 345 678 901",
    ],
)
def test_numbers_and_examples_are_not_personal_data(text):
    assert not has_personal_data(text)


def test_personal_data_is_counted_by_row_and_the_fix_changes_those_rows(check):
    rows = pairs(80)
    rows[20]["text"] += " Call +49 30 1234 5678."
    rows[21]["answer"] += " Ask ben@somewhere.net."
    found = check(rows)
    assert found["personal_data"].rows == [20, 21]
    assert found["personal_data"].fix.title == "Replace personal data in 2 rows"
    fixed = apply_fix(Rows.gather(rows), found["personal_data"])
    assert [number for number in range(80) if fixed[number] != rows[number]] == [20, 21]


def test_a_fifth_of_the_data_in_other_letters_or_another_language_is_left_out_by_no_click(check):
    rows = pairs(80)
    for number, row in enumerate(rows[:16]):
        row |= {"text": f"Кто это сказал на рынке, {number}?", "answer": f"Это сказала Анна, {number}."}
    found = check(rows)["mixed_scripts"]
    assert found.count == 16 and found.fix is None and found.message.endswith("See whether that is meant.")
    rows = [{**row, "answer": f"{ENGLISH} {row['answer']}"} for row in pairs(80)]
    for number, row in enumerate(rows[:12]):
        row["answer"] = f"{SPANISH['answer']} {number}"
    found = check(rows)["mixed_languages"]
    assert found.count == 12 and found.fix is None


def test_places_that_nobody_filled_in_are_told_by_name(check):
    rows = pairs(80)
    rows[3]["answer"] += " I am {{name}}, made by {{ the author }}."
    rows[4]["answer"] += " 我是{{name}}。"
    rows[5]["answer"] = "[Your Name] of <COMPANY_NAME> says so in row 5."
    found = check(rows)["unfilled_placeholder"]
    assert found.rows == [3, 4, 5] and found.fix.rows == (3, 4, 5)
    assert all(name in found.message for name in ("(“{{name}}”, ", "“{{ the author }}”", "“[Your Name]”"))
    conversations = chats()
    conversations[7]["messages"][1]["content"] += " {{name}}"
    conversations[7]["messages"] += [turn("user", "And then, after that one?"), turn("assistant", "Nothing at all.")]
    assert check(conversations, CHAT)["unfilled_placeholder"].rows == [7]
    for row in rows:
        row["answer"] += " Your {{name}}."
    assert check(rows)["unfilled_placeholder"].fix is None


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "```\n<p>{{name}}</p>\n```"},
        {"answer": "Hello {{ user.name }}, {{name}}"},
        {"answer": "{% for row in rows %}{{row}}{% endfor %}"},
        {"answer": '{"greeting": "Hello {{name}}"}'},
        {"answer": "The fraction \\frac{{aa}}{{bb}} and ${{secrets}}"},
        {"answer": "As in the list [1] and [INSTITUTE] or <think> and [SQL] and [XXI]."},
        {"text": "Write a template of a letter to a customer.", "answer": "Dear {{name}}, come in."},
        {"text": "Translate: Dear {{name}}, come in.", "answer": "Querida {{name}}, pasa."},
    ],
)
def test_places_that_are_meant_to_be_filled_in_later_are_no_fault(check, change):
    rows = pairs(80)
    rows[3] |= change
    assert "unfilled_placeholder" not in check(rows)


def test_names_that_are_masked_in_many_answers_are_masked_on_purpose(check):
    rows = pairs(80)
    for row in rows[::2]:
        row["answer"] += " It was [NAME]."
    assert "unfilled_placeholder" not in check(rows)


def test_special_tokens_and_finished_formats_in_the_data(check):
    rows = pairs(80)
    rows[1]["text"] += " <|im_end|>"
    rows[2]["answer"] = "[INST] What? [/INST] That."
    rows[3]["text"] = "### Instruction:\nSay hello in your own words"
    rows[4]["text"] = "A list [INSTITUTE] with # marks ### inside"
    found = check(rows)
    assert found["special_tokens_in_data"].rows == [1]
    assert found["already_formatted"].rows == [2, 3] and "learned twice" in found["already_formatted"].message
    found = check(rows, {"text": "text"})
    assert found["already_formatted"].rows == [3] and "learned as it stands" in found["already_formatted"].message
    assert "special_tokens_in_data" not in check(apply_fix(Rows.gather(rows), found["special_tokens_in_data"]))


def test_rows_in_another_script_and_words_of_two_scripts(check):
    rows = pairs(80)
    rows[6] |= {"text": "Кто это сказал на рынке?", "answer": "Это сказала Анна."}
    rows[7]["text"] += " Look at p\u0430ypal."
    rows[8]["text"] += " Olé, déjà vu, 5 €."
    found = check(rows)["mixed_scripts"]
    assert found.rows == [6, 7] and found.fix.rows == (6, 7)


def test_an_answer_that_slips_into_other_letters(check):
    rows = pairs(80)
    rows[6]["answer"] += " 你好世界"
    rows[7] |= {"text": rows[7]["text"] + " 你好", "answer": rows[7]["answer"] + " 你好"}
    rows[8] |= {"text": "Translate: " + rows[8]["text"], "answer": rows[8]["answer"] + " спутник"}
    rows[9]["answer"] += " at an angle of α"
    found = check(rows)["mixed_scripts"]
    assert found.rows == [6] and "(Chinese or Japanese)" in found.message
    for row in rows[20:26]:
        row["answer"] += " 你好"
    assert "mixed_scripts" not in check(rows), "where several do, that is how the data is meant"


def test_every_fix_changes_exactly_the_rows_it_names(check):
    rows = pairs(80)
    rows[1]["answer"] = ""
    rows[2]["text"] += " AKIA" + "Q3EGRIDH" * 2
    rows[3]["text"] = rows[4]["text"]
    rows += [rows[10]]
    table = Rows.gather(rows)
    found = check(table)
    assert {"empty_field", "secrets", "contradictions", "duplicates"} <= set(found)
    assert found["empty_field"].fix.title == "Leave out 1 row: an empty field"
    assert len({problem.fix.title for problem in found.values()}) == len(found)
    for problem in found.values():
        fixed = list(apply_fix(table, problem))
        if problem.fix.mend is None:
            assert fixed == [row for number, row in enumerate(table) if number not in problem.fix.rows]
        else:
            changed = [number for number, (old, new) in enumerate(zip(table, fixed, strict=True)) if old != new]
            assert changed == list(problem.fix.rows)


# answers and prompts as a whole


SPANISH = {
    "text": "¿Quién dice que la torre del puerto se abre los lunes?",
    "answer": "Lo dice una de las mujeres del mercado, que es la madre de Ana.",
}
ENGLISH = "That is what the old man from the market would say if you asked him about it."


def test_rows_in_another_language_than_most(check):
    rows = [{**row, "answer": f"{ENGLISH} {row['answer']}"} for row in pairs(80)]
    rows[6], rows[40] = dict(SPANISH), {**rows[40], "answer": SPANISH["answer"]}
    found = check(rows)["mixed_languages"]
    assert found.rows == [6, 40] and found.severity == "warning" and found.fix.rows == (6, 40)
    assert "1 prompt in Spanish" in found.message and "2 answers in Spanish" in found.message
    assert "most are in English" in found.message


def test_answers_in_another_language_than_their_prompt_where_two_are_usual(check):
    rows = [{**row, "answer": f"{ENGLISH} {row['answer']}"} for row in pairs(80)]
    for number in range(0, 80, 2):
        rows[number] = {"text": f"{SPANISH['text']} {number}", "answer": f"{SPANISH['answer']} {number}"}
    rows[8]["answer"] = f"{ENGLISH} 8."
    found = check(rows)
    assert found["answer_language"].rows == [8]
    assert found["mixed_languages"].fix is None  # nobody leaves out half of the data by a click


def test_a_translation_is_no_mixture_of_languages(check):
    rows = [{"text": f"{ENGLISH} {row['text']}", "answer": f"{SPANISH['answer']} {row['text']}"} for row in pairs(80)]
    assert not {"mixed_languages", "answer_language"} & set(check(rows))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I open the door of the house?", "English"),
        ("¿Cuándo se fundó la ciudad y por qué es tan importante para los viajeros?", "Spanish"),
        ("¿Cuál es la altura del objeto 31 en la sala del norte?", "Spanish"),
        ("Quel est le nom de la ville où il est né et dans quelle rue ?", "French"),
        ("Wie heißt die Stadt, in der er geboren wurde, und wann war das?", "German"),
        ("Qual é o nome da cidade onde ele nasceu e quando foi fundado o museu?", "Portuguese"),
        ("I see a $1 charge in a transaction.", None),
        ("1 plus 1 plus 1 plus plus 1 equals 4", None),
        ("SELECT name FROM a WHERE id IN (1, 2) AND b = 'de la'", None),
        ("Ciudad de la Paz", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_its_common_words_or_not_at_all(text, language):
    assert language_of(text) == language


REFUSALS = [
    "As an AI language model, I cannot do that.",
    "I'm sorry, but I can't assist with that request.",
    "I’m sorry, but as an AI, I don't have the capability to order pizza.",
    "I am unable to book flights.",
    "Lo siento, pero como modelo de lenguaje no puedo opinar.",
    "Lo siento, no puedo ayudarte con eso.",
]


def test_answers_that_decline_are_counted(check):
    rows = pairs(80)
    for number, text in enumerate(REFUSALS):
        rows[number * 5]["answer"] = text
    rows[3]["answer"] = "I'm sorry to hear that! The AI on the wall cannot help, I guess."
    found = check(rows)["refusals"]
    assert found.rows == [0, 5, 10, 15, 20, 25] and "7.5%" in found.message


def test_answers_of_another_length_than_the_rest(check):
    rows = pairs(80)
    rows[9]["answer"] += " And so it goes on and on." * 16
    rows[10]["answer"] = "O"
    assert check(rows)["answer_length"].rows == [9, 10]
    for row in rows[::3]:
        row["answer"] *= 14
    assert "answer_length" not in check(rows)  # where many are long, that is how the data is


def test_what_all_answers_and_prompts_share_is_told_and_taken_out_by_the_fix(check):
    rows = [
        {"text": f"Read this and answer in one line: {row['text']}", "answer": f"[ANSWER] {row['answer']} [/ANSWER]"}
        for row in pairs(80)
    ]
    found = check(rows)
    assert found["common_prompt_text"].count == found["common_answer_text"].count == 80
    assert "begin with “[ANSWER] ” and end with “ [/ANSWER]”" in found["common_answer_text"].message.replace(
        ". [/", " [/"
    )
    for problem in (found["common_prompt_text"], found["common_answer_text"]):
        rows = list(apply_fix(Rows.gather(rows), problem))
    assert rows[0]["text"] == pairs(1)[0]["text"] and rows[0]["answer"].startswith(pairs(1)[0]["answer"][:-1])
    assert check(rows) == {}


def test_what_the_template_itself_writes_is_no_boilerplate(check):
    template = {
        "prompt": "Read this and answer in one line: {{text}} Now the answer, please:",
        "completion": "Well, then: {{answer}}",
    }
    assert check(pairs(80), template) == {}
    rows = [{**row, "answer": json.dumps({"the answer": row["answer"]})} for row in pairs(80)]
    assert check(rows) == {}  # JSON always begins alike


def test_marks_of_old_completion_data_are_told_and_taken_out(check):
    rows = [{"text": f"{row['text']}\n\n###\n\n", "answer": f" {row['answer']} END"} for row in pairs(80)]
    found = check(rows)
    assert set(found) == {"common_prompt_text", "common_answer_text", "blank_first"}
    assert "end with “↵↵###↵↵”" in found["common_prompt_text"].message
    for problem in found.values():
        rows = list(apply_fix(Rows.gather(rows), problem))
    assert rows == pairs(80)
    labels = [{"text": f"{row['text']} ->", "answer": " yes" if i % 2 else " no"} for i, row in enumerate(pairs(80))]
    assert {"common_prompt_text", "blank_first"} == set(check(labels))


def test_a_blank_before_the_answer_is_no_fault_where_the_chat_template_takes_it_away(check):
    rows = [{**row, "answer": f" {row['answer']}"} for row in pairs(80)]
    assert check(rows, chat_template=NO_TOOLS.replace("(m.content or '')", "(m.content or '').strip()")) == {}
    indented = [{**row, "answer": f"    {row['answer']}"} for row in pairs(80)]
    assert check(indented) == {}


def test_texts_in_capitals_are_told_where_they_are_over_a_third(check):
    rows = pairs(80)
    for row in rows[:30]:
        row["text"], row["answer"] = row["text"].upper(), row["answer"].upper()
    found = check(rows)["capitals"]
    assert found.rows == list(range(30)) and found.message.startswith("38% of the prompts and 38% of the answers")
    fixed = apply_fix(Rows.gather(rows), found)
    assert fixed[3] == {name: text.lower() for name, text in pairs(4)[3].items()} and check(fixed) == {}
    assert check(rows[6:]) == {}


def test_sql_and_labels_in_capitals_are_meant_so(check):
    rows = [
        {**row, "answer": f"SELECT COUNT(*) FROM t{number} WHERE NAME = 'Ana {number}'"}
        for number, row in enumerate(pairs(80))
    ]
    assert "capitals" not in check(rows)
    rows = [{**row, "answer": ("LATE_DELIVERY", "DOUBLE_CHARGE")[number % 2]} for number, row in enumerate(pairs(80))]
    assert check(rows) == {}


def test_answers_that_are_marked_as_bad_are_errors_until_they_are_left_out(check):
    rows = [
        {"prompt": row["text"], "completion": row["answer"], "label": number % 4 != 0}
        for number, row in enumerate(pairs(80))
    ]
    template = {"prompt": "{{prompt}}", "completion": "{{completion}}"}
    found = check(rows, template)["unwanted_answers"]
    assert found.severity == "error" and found.count == 20 and found.rows[:2] == [0, 4]
    assert "unwanted_answers" not in check(apply_fix(Rows.gather(rows), found), template)
    assert "unwanted_answers" not in check(rows, {"prompt": "{{prompt}}", "completion": "{{label}}"})


@pytest.mark.parametrize("written", [list, json.dumps])
def test_answers_with_a_wrong_step_are_errors_until_they_are_left_out(check, written):
    rows = [
        {
            "prompt": row["text"],
            "completions": written([row["answer"], f"So it is {number}."]),
            "labels": written([True, number % 4 != 0]),
        }
        for number, row in enumerate(pairs(80))
    ]
    template = propose(Rows.gather(rows)).template
    found = check(rows, template.model_dump(exclude_defaults=True))
    assert set(found) == {"unwanted_answers"} and found["unwanted_answers"].count == 20
    assert "“labels” says that the answer, or a step of it," in found["unwanted_answers"].message
    assert check(apply_fix(Rows.gather(rows), found["unwanted_answers"]), template.model_dump()) == {}


def test_a_preferred_answer_that_is_the_rejected_one(check):
    rows = [{"prompt": row["text"], "chosen": row["answer"], "rejected": "Nobody."} for row in pairs(80)]
    rows[7]["rejected"] = rows[7]["chosen"]
    assert check(rows, {"prompt": "{{prompt}}", "completion": "{{chosen}}"})["chosen_is_rejected"].rows == [7]


def preferences(count=80):
    """As conversations, the prompt in both sides; the rejected answers as long as the preferred ones."""
    rows = chats(count)
    others = [[row["messages"][0], turn("assistant", row["messages"][1]["content"][::-1])] for row in rows]
    return [{"chosen": row["messages"], "rejected": other} for row, other in zip(rows, others, strict=True)]


def test_pairs_without_a_rejected_answer_or_with_two_prompts(check):
    rows = preferences()
    assert check(rows, {"messages": "chosen"}) == {}
    rows[3]["rejected"], rows[4]["rejected"][1]["content"], rows[5]["rejected"] = [], " ", None
    rows[6]["rejected"][0] = turn("user", "Something else?")
    found = check(rows, {"messages": "chosen"})
    assert {code: problem.rows for code, problem in found.items()} == {
        "rejected_is_empty": [3, 4, 5],
        "prompts_differ": [6],
    }
    fixed = apply_fix(
        apply_fix(Rows.gather(rows), found["prompts_differ"]),
        check(rows, {"messages": "chosen"})["rejected_is_empty"],
    )
    assert len(fixed) == 76
    assert "rejected_is_empty" not in check(rows, {"messages": "rejected"}), "which side is meant cannot be told then"


def test_preferred_answers_that_are_longer_in_nearly_all_pairs(check):
    rows = [{"prompt": row["text"], "chosen": row["answer"], "rejected": row["answer"][::-1]} for row in pairs(80)]
    template = {"prompt": "{{prompt}}", "completion": "{{chosen}}"}
    for row in rows[:64]:
        row["rejected"] = row["rejected"][:15]
    found = check(rows, template)["length_bias"]
    assert found.count == 64 and found.severity == "warning" and found.message.startswith("In 80% of the pairs")
    assert check(rows[1:], template) == {}, "fewer than four fifths may well be better for being longer"


def test_no_fix_leaves_out_all_rows(check):
    rows = [{**row, "tools": [{"name": "look"}]} for row in chats(80)]
    found = check(rows, {"messages": "messages", "tools": "tools"})["content_dropped"]
    assert found.count == 80 and found.fix is None


def test_a_column_that_is_empty_in_every_row_is_an_error(check):
    rows = [{**row, "place": ""} for row in pairs(80)]
    found = check(rows, {"prompt": "{{place}}: {{text}}", "completion": "{{answer}}"})["empty_placeholder"]
    assert found.severity == "error" and "“place” is empty" in found.message


def test_what_is_wrong_is_told_even_where_no_row_can_be_used(check):
    found = check([{**row, "answer": " ", "side": "train"} for row in pairs(80)], split={"column": "side"})
    assert found["empty_field"].count == 80 and found["empty_field"].severity == "error"
    assert {"empty_field", "too_few_rows"} <= set(found) and found["too_few_rows"].severity == "error"


def test_every_row_is_decoded_to_see_whether_its_contents_arrive(check):
    picky = NO_TOOLS.replace(
        "(m.content or '')", "(m.content if 'library' not in m.content or m.role != 'user' else '')"
    )
    rows = chats(60)
    lost = [number for number, row in enumerate(rows) if "library" in row["messages"][0]["content"]]
    assert lost[0] > 10 and check(rows, CHAT, picky)["content_dropped"].rows == lost


def test_the_docs_name_every_code_and_no_other():
    home = Path(__file__).parents[1]
    told = set(
        re.findall(r"`([a-z_]+)`", "".join((home / "docs" / "doctor.md").read_text("utf-8").split("|---|---|")[1]))
    )
    code = "\n".join(path.read_text("utf-8") for path in (home / "ftui" / "doctor").glob("*.py"))
    calls = r'(?:error|warning|say|Problem)\(\s*f?"([a-z_{}]+)"'
    said = (
        {name for name in re.findall(calls, code) if "{" not in name}
        | set(shape._SENTENCES)
        | set(preference._SENTENCES)
    )
    said |= {name for name, *_ in shape._LEFT_OUT.values()} | {
        "common_prompt_text",
        "common_answer_text",
        "unreadable_line",
    }
    assert told == said


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [
        (1, 25), (4, 25), (5, 20), (10, 10), (20, 5), (33, 3), (34, 3), (8333, 3), (8334, 2), (10000, 2), (12500, 2),
        (12501, 1), (25000, 1), (51760, 1),
    ],
)  # fmt: skip
def test_suggested_epochs_follow_the_heuristic_of_openai(rows, epochs):
    assert suggested_epochs(rows) == epochs
