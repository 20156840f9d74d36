"""The verdict: honest intervals, and "not better" where nothing was shown."""

import random
from pathlib import Path

import pytest
import trl

from ftui.config import RunConfig
from ftui.encoding import Encoding
from ftui.evaluate import Answers, answer, compare, headline, interval, is_exact, report_markdown, verdict
from ftui.examples import Example
from ftui.models import load_model, load_tokenizer
from ftui.replies import Reply


@pytest.fixture
def encoding(tiny_model):
    return Encoding(load_tokenizer(tiny_model))


def asked(encoding: Encoding, count: int, text: str = "red lamp") -> list[Example]:
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]
    return [Example(row, messages, encoding.encode([messages])[0]) for row in range(100, 100 + count)]


def answers(texts: list[str], losses: list[float] | None = None) -> Answers:
    return Answers([Reply(text, 2, 9, True, 0.1) for text in texts], losses or [1.0] * len(texts))


def test_better_takes_an_interval_above_zero_and_enough_rows():
    assert verdict(0.1, 0.3, 40) == "better" and verdict(-0.3, -0.1, 40) == "worse"
    assert verdict(-0.1, 0.3, 40) == verdict(0.0, 0.3, 40) == verdict(0, 0, 40) == "not better"
    assert verdict(0.5, 0.9, 19) == "too few rows" and verdict(0.5, 0.9, 20) == "better"


def test_the_interval_holds_the_true_mean_about_95_times_in_100():
    chance, held = random.Random(5), 0
    for seed in range(60):
        sample = [chance.gauss(0.3, 1) for _ in range(40)]
        low, high = interval(sample, seed)
        held += low <= 0.3 <= high
        assert low < sum(sample) / 40 < high
    assert held >= 51
    assert interval([], 1) == (0.0, 0.0) and interval([0.5] * 30, 1) == (0.5, 0.5)
    assert interval([0.0, 1.0] * 20, 7) == interval([0.0, 1.0] * 20, 7)


def test_where_all_rows_agree_the_interval_still_leaves_room_for_rows_that_were_not_seen():
    assert interval([1.0] * 30, 1, (-1, 1)) == pytest.approx((0.8, 1.0))
    assert interval([0.0] * 60, 1, (-1, 1)) == pytest.approx((-0.05, 0.05))
    assert interval([-1.0] * 2, 1, (-1, 1)) == (-1.0, 1.0)


def test_answers_are_equal_but_for_blanks_at_their_ends():
    assert is_exact(" red lamp\n", "red lamp") and not is_exact("Red lamp", "red lamp") and not is_exact("", "red lamp")


def test_a_model_that_learned_the_answers_is_better_and_the_report_has_all_that_is_promised(config, encoding):
    rows = asked(encoding, 30)
    report = compare(encoding, rows, {"zero_shot": answers(["no"] * 30), "tuned": answers(["red lamp"] * 30)}, config)
    assert (report["verdict"], report["metric"], report["rows"]) == ("better", "exact_match", 30)
    assert report["difference"] == pytest.approx({"mean": 1.0, "low": 0.8, "high": 1.0})
    assert {"verdict", "metric", "rows", "systems", "difference", "prompt_tokens", "examples", "forgetting"} <= set(
        report
    )
    for name, share in (("zero_shot", 0.0), ("tuned", 1.0)):
        numbers = report["systems"][name]
        assert numbers["exact_match"] == share and numbers["prompt_tokens"] == 9
        assert numbers["seconds"] == pytest.approx(0.1) and numbers["finished"] == 1 and numbers["loss"] == 1
    first = report["examples"][0]
    assert first == {"row": 100, "prompt": "What?", "expected": "red lamp", "zero_shot": "no", "tuned": "red lamp"}


@pytest.mark.parametrize(
    "before, after, expected",
    [
        (["red lamp"] * 30, ["no"] * 30, "worse"),
        (["red lamp"] * 30, ["red lamp"] * 30, "not better"),
        (["no"] * 30, ["red lamp"] + ["no"] * 29, "not better"),
        (["no"] * 5, ["red lamp"] * 5, "too few rows"),
    ],
)
def test_the_verdict_may_be_against_the_tuned_model(config, encoding, before, after, expected):
    report = compare(
        encoding, asked(encoding, len(before)), {"zero_shot": answers(before), "tuned": answers(after)}, config
    )
    assert report["verdict"] == expected
    assert expected.split()[0] in headline(report).lower()
    assert ("too few rows to tell" in report_markdown(report)) == (expected == "too few rows")


def test_long_answers_are_judged_by_their_loss_where_lower_is_better(config, encoding):
    rows = asked(encoding, 30, "a red lamp and a blue boat, " * 12)
    chance = random.Random(1)
    before = answers(["x"] * 30, [2 + chance.random() for _ in range(30)])
    after = answers(["x"] * 30, [1 + chance.random() for _ in range(30)])
    report = compare(encoding, rows, {"zero_shot": before, "tuned": after}, config)
    assert (report["metric"], report["verdict"]) == ("loss", "better") and report["difference"]["mean"] > 0.5
    assert compare(encoding, rows, {"zero_shot": after, "tuned": before}, config)["verdict"] == "worse"


@pytest.mark.parametrize(
    ("said", "right", "wrong"),
    [
        (
            {"content": "42", "reasoning_content": "Six times seven, as everybody knows who has learned it."},
            ["<think>\nSix times seven.\n</think>\n\n42", "42", "Another thought.\n</think>\n\n42"],
            ["<think>\nSix times seven is 42", "<think>\nSix.\n</think>\n\n41"],
        ),
        (
            {"tool_calls": [{"type": "function", "function": {"name": "on", "arguments": {"a": 1}}}]},
            ['<tool_call>\n{"name": "on", "arguments": {"a": 1}}\n</tool_call>'],
            ["", '<tool_call>\n{"name": "on", "arguments": {"a": 2}}\n</tool_call>'],
        ),
    ],
)
def test_thoughts_before_an_answer_are_not_compared_and_a_call_is_as_it_is_written(
    values, tiny_model, monkeypatch, said, right, wrong
):
    config = RunConfig.parse(values | {"evaluation": {"max_new_tokens": 200}})
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()
    encoding = Encoding(tokenizer)
    messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "", **said}]
    rows = [Example(row, messages, encoding.encode([messages])[0]) for row in range(30)]
    for after, share in ((right, 1.0), (wrong, 0.0)):
        replies = (after * 30)[:30]
        report = compare(encoding, rows, {"zero_shot": answers(["no"] * 30), "tuned": answers(replies)}, config)
        assert (report["metric"], report["systems"]["tuned"]["exact_match"]) == ("exact_match", share)
    limits = []
    monkeypatch.setattr("ftui.evaluate.reply_to_all", lambda model, encoding, asked, limit, *rest: limits.append(limit))
    answer(load_model(tiny_model), encoding, rows, config, lambda: False)
    assert limits[0] > len(tokenizer(right[0])["input_ids"])


@pytest.mark.parametrize(
    ("texts", "metric"),
    [
        ([f"Thank you, we will send order {n} to you today." for n in range(30)], "loss"),
        ([f"Gracias por escribirnos sobre el pedido {n}" for n in range(30)], "loss"),
        ([f"谢谢您的来信，我们今天会发送第{n}号订单。" for n in range(30)], "loss"),
        ([f"{n} lamps" for n in range(30)], "exact_match"),
        ([f'{{"name": "a lamp that is red and costs little money", "price": {n}}}' for n in range(30)], "exact_match"),
        ([f"SELECT name FROM lamps WHERE price > {n} ORDER BY name" for n in range(30)], "exact_match"),
        ([f"{'Yes' if n % 2 else 'No'}, we can do that for you." for n in range(30)], "exact_match"),
        (["card_payment_fee_charged", "lost_or_stolen_card"] * 15, "exact_match"),
    ],
)
def test_sentences_are_judged_by_their_loss_and_answers_that_are_right_or_wrong_exactly(
    config, encoding, texts, metric
):
    rows = [asked(encoding, 1, text)[0] for text in texts]
    report = compare(encoding, rows, {"zero_shot": answers(texts), "tuned": answers(texts)}, config)
    assert report["metric"] == metric
    assert ("Judged by exact match" in report_markdown(report)) == (metric == "exact_match")


def test_conversations_of_several_turns_are_judged_by_their_loss(config, encoding):
    messages = [{"role": role, "content": "red"} for role in ("user", "assistant", "user", "assistant")]
    rows = [Example(row, messages, encoding.encode([messages])[0]) for row in range(25)]
    report = compare(encoding, rows, {"zero_shot": answers(["a"] * 25), "tuned": answers(["a"] * 25)}, config)
    assert report["metric"] == "loss"


def test_both_are_asked_the_same_with_one_limit_and_a_loss_for_each_row(values, tiny_model, encoding):
    config = RunConfig.parse(values | {"evaluation": {"max_new_tokens": 5}})
    rows = asked(encoding, 6)
    found = answer(load_model(tiny_model), encoding, rows, config, lambda: False)
    assert len(found.replies) == len(found.losses) == 6 and all(reply.tokens <= 5 for reply in found.replies)
    assert len(set(found.losses)) == 1 and found.losses[0] > 1


def test_plain_text_has_no_answers_and_is_judged_by_its_loss(config, encoding, tiny_model):
    messages = [{"role": "text", "content": "A red lamp."}]
    rows = [Example(row, messages, encoding.encode([messages])[0]) for row in range(21)]
    found = answer(load_model(tiny_model), encoding, rows, config, lambda: False)
    assert found.replies == [] and len(found.losses) == 21
    report = compare(encoding, rows, {"zero_shot": found, "tuned": found}, config)
    assert (report["metric"], report["verdict"], report["examples"]) == ("loss", "not better", [])
    assert "–" in report_markdown(report)


def test_the_report_to_read_begins_with_the_verdict_and_shows_both_systems(config, encoding):
    rows = asked(encoding, 30)
    report = compare(encoding, rows, {"zero_shot": answers(["no"] * 30), "tuned": answers(["red lamp"] * 30)}, config)
    text = report_markdown(report)
    assert text.startswith("# The tuned model is better than the base on held-out rows.\n")
    assert "| zero_shot | 1.000 | 0% | 9 | 0.10 |" in text and "| tuned | 1.000 | 100% | 9 | 0.10 |" in text
    assert "+1.000, 95 % interval +0.800 to +1.000, over 30 held-out rows" in text
