"""check: what a run would learn, before it starts; the same in the terminal, and a report that hides no markup."""

import json
import re
from html import unescape

import pytest

from ftui import shapes
from ftui.__main__ import main
from ftui.check import (
    check,
    facts,
    look,
    report_csv,
    report_html,
    report_markdown,
    report_text,
    suited,
    token_numbers,
    write_report,
)
from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.device import Device
from ftui.doctor import apply_fix
from ftui.encoding import Encoded, Encoding
from ftui.examples import Examples, LeftOut, Part, prepare
from ftui.models import load_tokenizer
from ftui.template import PromptTemplate
from ftui.terminal.check import SHAPES
from ftui.ui.data_tab.proposal import _any_template as any_template
from ftui.ui.language import Voice
from ftui.ui.supervision import facts_html
from tests import tiny

LAPTOP = Device("cpu", "CPU", 16 * 10**9, 2, True)

ANY_ROWS = Rows.gather([{"text": "none of these are looked at"}])


def part(*rows):
    """Rows as (number, tokens, learned, cut)."""
    template = PromptTemplate(text="text")
    labels = [[-100] * (length - learned) + [7] * learned for _, length, learned, _ in rows]
    encoded = [Encoded([7] * row[1], own, row[3]) for row, own in zip(rows, labels, strict=True)]
    return Part(ANY_ROWS, template, zip([row[0] for row in rows], encoded, strict=True))


def test_the_numbers_are_those_of_the_rows(config):
    found = check(config, device=LAPTOP)
    assert found["rows"] == 30 and found["splits"] == {"train": 20, "validation": 4, "test": 6}
    assert [(problem["code"], problem["severity"]) for problem in found["problems"]][:1] == [
        ("too_few_rows", "warning")
    ]
    assert 0 < found["tokens"]["trained"] < found["tokens"]["total"]
    assert found["plan"]["steps"] == 6 and found["plan"]["verdict"] == "fits"
    assert found["plan"]["seconds"] > 0 and found["plan"]["disk_bytes"] > 0
    assert found["suggested_epochs"] == 5
    assert json.loads(json.dumps(found)) == found


def test_token_numbers_count_what_is_left_and_show_how_long_it_was():
    rows = [(number, 10 * (number + 1), 5, 0) for number in range(9)] + [(9, 95, 5, 5)]
    left_out = [LeftOut(10, "no", "other")]
    found = token_numbers(Examples(ANY_ROWS, part(*rows[:8]), part(rows[8]), part(rows[9]), left_out, ()), 95)
    assert (found["total"], found["trained"], found["share"]) == (545, 50, 0.0917)
    assert (found["p50"], found["p95"], found["max"]) == (50, 100, 100)
    assert (found["cut_rows"], found["lost"], found["nothing_learned"]) == (1, 5, 1)
    assert found["worst"]["longest"][:2] == [9, 8]
    assert found["worst"]["most_cut"] == [9] and found["worst"]["nothing_learned"] == [10]


def test_how_tokens_and_learned_tokens_are_spread_over_the_rows():
    rows = [(number, 10 * (number + 1), number + 1, 0) for number in range(10)]
    found = token_numbers(Examples(ANY_ROWS, part(*rows), part(), part(), [], ()), 100)["spread"]
    assert found["trained"] == {"min": 1, "max": 10, "mean": 5.5, "p10": 1, "p50": 5, "p90": 9}
    assert found["tokens"] == {"min": 10, "max": 100, "mean": 55.0, "p10": 10, "p50": 50, "p90": 90}
    assert token_numbers(Examples(ANY_ROWS, part(), part(), part(), [], ()), 100)["spread"]["tokens"]["max"] == 0


def test_the_histogram_holds_every_row_once():
    rows = [(number, length, 1, 0) for number, length in enumerate([1, 2, 3, 40, 41, 60])]
    found = token_numbers(Examples(ANY_ROWS, part(*rows), part(), part(), [], ()), 100)
    assert sum(bin["rows"] for bin in found["histogram"]) == 6
    assert found["histogram"][0] == {"from": 1, "to": 3, "rows": 3}
    assert found["histogram"][-1] == {"from": 58, "to": 60, "rows": 1}


def test_where_no_row_can_be_used_the_check_says_what_is_wrong(values, tmp_path):
    path = tiny.write_rows(tmp_path / "empty.jsonl", [{"text": f"Who is {i}?", "answer": ""} for i in range(20)])
    values |= {"dataset": {"path": str(path)}, "split": {"validation": 2, "test": 2}}
    found = check(RunConfig.parse(values), device=LAPTOP)
    assert found["splits"] == {"train": 0, "validation": 0, "test": 0} and found["plan"] is None
    assert any("No row is left to train on" in note for note in found["notes"])
    codes = {problem["code"]: problem["count"] for problem in found["problems"] if problem["severity"] == "error"}
    assert codes["empty_field"] == 20
    assert "No row is left" in report_markdown(found) + report_html(found)


def test_rows_of_a_separate_test_file_are_checked_too(values, tmp_path):
    others = tiny.write_rows(tmp_path / "test.jsonl", [{"text": "Who is it?", "answer": "Write to ana@ours.org."}] * 2)
    values["split"] = {"validation": 0, "test": str(others)}
    found = check(RunConfig.parse(values), device=LAPTOP)
    assert found["rows"] == 32 and found["splits"]["test"] == 2
    assert {problem["code"]: problem["rows"] for problem in found["problems"]}["personal_data"] == [30, 31]


def test_a_fix_writes_only_the_data_set_and_no_row_of_a_separate_file(values, tmp_path):
    train = tiny.rows(30)
    train[5]["answer"] = "Write to ana@ours.org."
    tiny.write_rows(tmp_path / "rows.jsonl", train)
    others = [train[3], {"text": "Who is it?", "answer": "Write to ben@ours.org."}, {"text": "Who?", "answer": " "}]
    values["split"] = {"validation": 0, "test": str(tiny.write_rows(tmp_path / "test.jsonl", others))}
    found = look(RunConfig.parse(values))
    problems = {problem.code: problem for problem in found.problems}
    assert problems["empty_field"].rows == [32] and problems["empty_field"].fix is None
    assert problems["leakage"].rows == [30]
    assert list(apply_fix(found.rows, problems["leakage"])) == train[:3] + train[4:]
    mended = list(apply_fix(found.rows, problems["personal_data"]))
    assert len(mended) == 30 and mended[5]["answer"] == "Write to [e-mail]."


def test_a_model_of_unknown_size_is_checked_without_a_plan(values, tiny_model, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text('{"model_type": "odd"}')
    found = check(RunConfig.parse({**values, "base_model": str(folder)}), device=LAPTOP)
    assert found["plan"] is None and "how large the model is" in found["notes"][-1]
    assert "30 rows" in report_markdown(found)


def test_the_terminal_gives_the_same_as_one_line_of_json(config, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert main(["check", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = check(config)
    assert printed == json.loads(json.dumps(expected))
    assert {"rows", "splits", "problems", "tokens", "plan"} <= printed.keys()


def test_training_on_nothing_leaves_with_a_sentence(values, tmp_path, capsys):
    values["dataset"]["path"] = str(
        tiny.write_rows(tmp_path / "empty.jsonl", [{**row, "answer": ""} for row in tiny.rows()])
    )
    path = tmp_path / "config.yaml"
    path.write_text(RunConfig.parse(values).to_yaml())
    assert main(["train", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert "No row is left to train on" in capsys.readouterr().err


def test_the_terminal_writes_the_prepared_rows_and_the_report(config, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    options = ["--report", str(tmp_path / "report.csv"), "--export", str(tmp_path / "rows"), "--shape", "alpaca"]
    assert main(["check", str(path), *options]) == 0
    assert "30 rows in train.jsonl, validation.jsonl, test.jsonl." in capsys.readouterr().out
    assert len((tmp_path / "rows/test.jsonl").read_text().splitlines()) == 6
    assert (tmp_path / "report.csv").read_text().startswith("severity,code,count,message,rows")
    assert main(["check", str(path), "--report", str(tmp_path / "report.pdf")]) == 2


def test_the_shapes_of_the_terminal_are_those_there_are():
    assert tuple(shapes.SHAPES) == SHAPES


def test_no_cell_of_a_report_begins_as_a_formula():
    problem = {"severity": "error", "code": "x", "count": 1, "message": "=HYPERLINK(1)", "rows": [4]}
    assert report_csv({"problems": [problem]}).splitlines()[1] == "error,x,1,'=HYPERLINK(1),5"


@pytest.mark.parametrize("render", [report_markdown, report_html])
def test_a_report_shows_what_was_found_and_obeys_none_of_it(config, render):
    found = check(config, device=LAPTOP)
    found["problems"].append(
        {
            "code": "x",
            "severity": "error",
            "count": 2,
            "rows": [1],
            "message": "<script>a|b</script> ![i](http://h/x) `c`",
        }
    )
    found["notes"].append("# Title <b>bold</b>")
    text = render(found)
    assert "<script>" not in text and "<b>" not in text and "&lt;script&gt;" in text
    assert "30 rows: 20 train" in text and "too" in text
    if render is report_markdown:
        assert "![i]" not in text and "`c`" not in text and "a|b" not in text.replace("\\|", "")


def test_a_report_without_problems_says_so(config):
    found = {**check(config, device=LAPTOP), "problems": []}
    assert "None were found." in report_markdown(found) and "None were found." in report_html(found)


def test_settings_of_another_data_set_give_way_to_what_suits_these_rows(tiny_model, tmp_path):
    preset = RunConfig.load(
        "voice", [f"base_model={tiny_model}", "split.stratify=place", "training.max_length=64", "training.max_steps=7"]
    )
    rows = [{"q": f"What is {n} and {n}?", "a": f"It is {2 * n}. " + "So it is. " * (n % 30)} for n in range(60)]
    path = tiny.write_rows(tmp_path / "own.jsonl", rows)
    own = RunConfig.parse(
        preset.model_dump() | {"dataset": {"path": str(path)}, "template": {"prompt": "{{q}}", "completion": "{{a}}"}}
    )
    config = suited(own, own.dataset.load())
    assert config.training.num_train_epochs == 3 and config.training.max_steps == -1
    assert config.split.stratify is None and config.watch_prompts == ()
    assert config.split.test == 20, "a tenth of sixty is too few for a verdict"
    found = prepare(config, Encoding(load_tokenizer(tiny_model)))
    assert not found.cut, "the longest row fits"
    longest = max(len(example.encoded.input_ids) for example in found.train)
    assert longest <= config.training.max_length < 1.1 * longest + 64
    assert config.evaluation.max_new_tokens > max(example.encoded.trained for example in found.train)
    assert config.training.learning_rate == preset.training.learning_rate and config.lora == preset.lora


def test_before_anybody_says_which_column_answers_each_has_room_for_its_longest(tiny_model):
    rows = [{"ask": f"Where is order {n}?", "reply": "It is on its way. " * 12, "urgent": "low"} for n in range(60)]
    rows = Rows.gather(rows)
    config = RunConfig.load("starter", [f"base_model={tiny_model}"]).model_dump()
    room = suited(RunConfig.parse(config | {"template": any_template(rows)}), rows).evaluation.max_new_tokens
    told = suited(RunConfig.parse(config | {"template": {"prompt": "{{ask}}", "completion": "{{reply}}"}}), rows)
    assert room == told.evaluation.max_new_tokens > 100, "the last column, a label, would have cut every reply"


# what is told of the rows that is no fault


@pytest.fixture
def of_rows(values, tmp_path):
    """What is found in rows, with any other template or split."""

    def found(rows, **changed):
        values["dataset"] = {"path": str(tiny.write_rows(tmp_path / "rows.jsonl", rows))}
        return check(RunConfig.parse(values | changed), device=LAPTOP)

    return found


def told(found):
    """What is told in the terminal, the report and the page alike."""
    for text in (report_text(found), report_html(found), facts_html(found, Voice(None))):
        assert [line for line in facts(found) if line not in unescape(text)] == []
    return facts(found)


def test_columns_that_nothing_uses_are_told_and_no_fault(of_rows):
    rows = [row | {"id": number, "Asked By": "Ana", "side": "train"} for number, row in enumerate(tiny.rows())]
    for row in rows[:6]:
        row["side"] = "test"
    found = of_rows(rows, split={"column": "side"})
    assert found["columns"] == {"unused": ["id", "Asked By"], "odd": ["Asked By"]}
    assert "Columns that neither template nor split uses: id, Asked By. They are not learned." in told(found)
    assert any(line.startswith("Column names with capitals or blanks: Asked By.") for line in told(found))
    assert {problem["code"] for problem in found["problems"]} <= {"too_few_rows", "few_test_rows"}
    found = of_rows(tiny.rows())
    assert found["columns"] == {"unused": [], "odd": []} and len(told(found)) == 1


def test_a_column_of_which_the_template_takes_a_part_is_used(of_rows):
    rows = [{"text": row["text"], "reply": {"said": row["answer"]}} for row in tiny.rows()]
    assert of_rows(rows, template={"prompt": "{{text}}", "completion": "{{reply.said}}"})["columns"]["unused"] == []


def test_messages_a_row_are_told_of_conversations_only(of_rows):
    pair = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ana."}]
    rows = [{"messages": [{"role": "system", "content": f"Number {n}."}, *pair * (1 + n % 10 // 9)]} for n in range(30)]
    found = of_rows(rows, template={"messages": "messages"})
    assert found["messages"] == {"min": 3, "max": 5, "mean": 3.2, "p10": 3, "p50": 3, "p90": 3}
    line = "Messages a row: 3 to 5, 3.2 on average; a tenth up to 3, half up to 3, nine tenths up to 3."
    assert line in told(found)
    assert of_rows(tiny.rows())["messages"] is None


def test_labels_are_counted_and_other_answers_are_not(of_rows):
    rows = [row | {"answer": ("late", "lost")[number % 3 == 0]} for number, row in enumerate(tiny.rows())]
    found = of_rows(rows)
    assert found["labels"] == {"different": 2, "commonest": {"late": 20, "lost": 10}}
    assert "2 different answers, most often: “late” (20), “lost” (10)." in told(found)
    assert of_rows([row | {"answer": f"It is {n}."} for n, row in enumerate(tiny.rows())])["labels"] is None


@pytest.mark.parametrize("ending", ["html", "md", "csv"])
def test_a_report_in_spanish_has_nothing_of_its_own_in_english(of_rows, ending, tmp_path):
    rows = [row | {"Asked By": "Ana", "answer": ("late", "lost")[n % 3 == 0]} for n, row in enumerate(tiny.rows())]
    rows[5]["text"] = ""
    found = of_rows(rows)
    found["notes"].append("The trash is empty.")
    found["messages"] = found["tokens"]["spread"]["trained"]
    text = write_report(found, tmp_path / f"check.{ending}", Voice.of(True).known).read_text("utf-8")
    english = r"\b(?:the|of|rows?|they|with|learned|What|found|Notes|columns|average|to|is|least|warning)\b"
    said = text if ending != "csv" else text.partition("\n")[2].replace("warning,", "")  # what programs read
    assert re.findall(english, re.sub(r"split\.test|too_few_rows|few_test_rows|<[^>]*>|body\{[^<]*", " ", said)) == []
    assert "está vacío" in said and (ending == "csv" or "Mensajes por fila" in said)
    assert "<html lang=es>" in text or ending != "html"
    assert "the" in write_report(found, tmp_path / f"check.{ending}").read_text("utf-8")
