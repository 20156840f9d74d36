"""evaluate: what the base answers beside what the tuned model answers, on held-out rows, and a verdict that may be "not better".

Every system answers the same rows with the same greedy decoding and the same limit. This file does not know how the
models were made.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.config import FEWEST_ROWS, RunConfig
from ftui.encoding import Encoding, answer_of
from ftui.examples import Example
from ftui.plan import reply_limit
from ftui.replies import Progress, Reply, answer_losses, reply_to_all

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RESAMPLES = 2000
SHORT_ANSWER = 64  # tokens
SENTENCE_WORDS = 6
REPEATED = 0.5  # the share of different answers up to which they are a choice among a few
CODE = re.compile(r"[{}\[\]()<>=;_|\\$]")
SENTENCE_END = re.compile(r"[.!?…。！？]['\"”»)]*$")


class Answers(NamedTuple):
    """One system's replies to the test rows (none for plain text) and its mean loss on each expected answer."""

    replies: list[Reply]
    losses: list[float]


def answer(
    model: PreTrainedModel,
    encoding: Encoding,
    examples: Sequence[Example],
    config: RunConfig,
    stop_wanted: Callable[[], bool],
    progress: Progress = lambda done: None,
) -> Answers:
    """Answers the test rows, every system within the same limit."""
    asked = [example for example in examples if example.is_chat]
    limit = reply_limit(config, [len(_answer_ids(example, encoding)) + example.encoded.cut for example in asked])
    encoded = [example.encoded for example in examples]
    if not asked:
        return Answers([], answer_losses(model, encoded, progress))
    replies = reply_to_all(model, encoding, [example.question for example in asked], limit, stop_wanted, progress)
    return Answers(replies, answer_losses(model, encoded))


def compare(
    encoding: Encoding, examples: Sequence[Example], systems: dict[str, Answers], config: RunConfig
) -> dict[str, Any]:
    """The report: every system's numbers, the paired difference of tuned and base, and the verdict."""
    asked = [example for example in examples if example.is_chat]
    expected = [_expected(example, encoding) for example in asked]
    metric = _metric(asked, expected, encoding)
    scores = {name: _scores(metric, expected, answers) for name, answers in systems.items()}
    differences = [after - before for before, after in zip(scores["zero_shot"], scores["tuned"], strict=True)]
    low, high = interval(differences, config.training.seed, None if metric == "loss" else (-1, 1))
    return {
        "verdict": verdict(low, high, len(differences)),
        "metric": metric,
        "rows": len(examples),
        "limit": config.evaluation.limit,
        "systems": {name: _summary(expected, answers) for name, answers in systems.items()},
        "difference": {"mean": fmean(differences or [0.0]), "low": low, "high": high},
        "prompt_tokens": {
            name: _mean([reply.prompt_tokens for reply in answers.replies]) for name, answers in systems.items()
        },
        "examples": [_row(example, expected, index, systems) for index, example in enumerate(asked)],
        "forgetting": {},
        "decoding": "greedy",
    }


def verdict(low: float, high: float, rows: int) -> str:
    """better or worse only where the 95 % interval of the paired difference leaves 0 out."""
    if rows < FEWEST_ROWS:
        return "too few rows"
    return "better" if low > 0 else "worse" if high < 0 else "not better"


def interval(differences: Sequence[float], seed: int, bounds: tuple[float, float] | None = None) -> tuple[float, float]:
    """95 % bootstrap interval of the mean (percentile method, Efron 1979), over 2,000 resamples.

    Where all rows agree a bootstrap sees no spread. By the rule of three (Hanley and Lippman-Hand 1983) up to 3 / n of all
    rows may still differ, as far as the `bounds` of one difference allow.
    """
    if not differences:
        return 0.0, 0.0
    if bounds and len(set(differences)) == 1:
        (mean,), doubt = set(differences), min(1.0, 3 / len(differences))
        return mean - doubt * (mean - bounds[0]), mean + doubt * (bounds[1] - mean)
    chance = random.Random(seed)
    means = sorted(fmean(chance.choices(differences, k=len(differences))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def is_exact(reply: str, expected: str) -> bool:
    """Equal but for blanks at the ends, and for what was thought before the answer."""
    return answer_of({"content": reply}) == answer_of({"content": expected})


def _answer_ids(example: Example, encoding: Encoding) -> list[int]:
    """The expected answer as it is encoded: its reasoning, its tool calls and its end are among the tokens."""
    return example.encoded.input_ids[len(encoding.prompt_ids(example.question)) :]


def _expected(example: Example, encoding: Encoding) -> str:
    """What is to be written: the answer; with tool calls, as the chat template writes them."""
    return encoding.decode(_answer_ids(example, encoding)) if example.messages[-1].get("tool_calls") else example.answer


def _metric(asked: Sequence[Example], expected: Sequence[str], encoding: Encoding) -> str:
    """exact_match where an answer is right or wrong; the loss on the expected one where it could be worded otherwise."""
    answers = [answer_of({"content": text}).strip() for text in expected]
    lengths = [len(encoding.tokenizer(text)["input_ids"]) for text in answers]
    single_turn = all(sum(message["role"] == "assistant" for message in example.messages) == 1 for example in asked)
    short = bool(lengths) and fmean(lengths) <= SHORT_ANSWER
    return "exact_match" if single_turn and short and not _is_free_text(answers) else "loss"


def _is_free_text(answers: Sequence[str]) -> bool:
    """Whether most answers are sentences, and not a few that come again and again."""
    sentences = sum(map(_is_sentence, answers))
    return 2 * sentences > len(answers) and len(set(answers)) > max(1, REPEATED * len(answers))


def _is_sentence(answer: str) -> bool:
    """Ends like one, or has as many words; neither JSON nor code."""
    try:
        json.loads(answer)
        return False
    except ValueError:
        pass
    words = len(re.findall(r"[^\W\d_]+|\d+", answer))
    letters = len(re.findall(r"[\u3040-\u9fff\uac00-\ud7af\u0e00-\u0e7f]", answer))  # written without blanks
    words = max(words, letters // 2)
    is_long = words >= 3 if SENTENCE_END.search(answer) else words >= SENTENCE_WORDS
    return is_long and not CODE.search(answer)


def metric_sentence(report: dict[str, Any]) -> str:
    """What the verdict rests on."""
    if report["metric"] == "exact_match":
        return "Judged by exact match: an answer here is right or wrong."
    return "Judged by the loss on the expected answers: free text can be right in other words."


def _scores(metric: str, expected: Sequence[str], answers: Answers) -> list[float]:
    """One number a row, higher is better."""
    if metric == "loss":
        return [-loss for loss in answers.losses]
    return [float(is_exact(reply.text, text)) for text, reply in zip(expected, answers.replies, strict=True)]


def _summary(expected: Sequence[str], answers: Answers) -> dict[str, Any]:
    return {
        "loss": _mean(answers.losses),
        "exact_match": _mean(_scores("exact_match", expected, answers)),
        "prompt_tokens": _mean([reply.prompt_tokens for reply in answers.replies]),
        "seconds": _mean([reply.seconds for reply in answers.replies]),
        "finished": _mean([float(reply.finished) for reply in answers.replies]),
    }


def _row(example: Example, expected: Sequence[str], index: int, systems: dict[str, Answers]) -> dict[str, Any]:
    replies = {name: answers.replies[index].text for name, answers in systems.items()}
    return {"row": example.row, "prompt": example.question[-1]["content"], "expected": expected[index], **replies}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def report_markdown(report: dict[str, Any]) -> str:
    """The report to read: the verdict in a sentence and a table."""
    lines = [
        f"# {headline(report)}",
        "",
        "| system | loss | exact matches | prompt tokens | seconds a reply |",
        "|---|---|---|---|---|",
    ]
    for name, numbers in report["systems"].items():
        cells = [
            _cell(numbers["loss"], ".3f"),
            _cell(numbers["exact_match"], ".0%"),
            _cell(numbers["prompt_tokens"], ".0f"),
            _cell(numbers["seconds"], ".2f"),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    difference = report["difference"]
    lines += [
        "",
        f"Difference in {report['metric']}: {difference['mean']:+.3f}, 95 % interval {difference['low']:+.3f} to "
        f"{difference['high']:+.3f}, over {report['rows']} held-out rows; greedy decoding.",
    ]
    lines[-1] += f" {metric_sentence(report)} {report.get('kept', '')}".rstrip()
    if report["verdict"] == "too few rows":
        lines[-1] += f" These are too few rows to tell it from chance; it takes {FEWEST_ROWS}."
    return "\n".join(lines) + "\n"


def headline(report: dict[str, Any]) -> str:
    """The verdict as a sentence."""
    return {
        "better": "The tuned model is better than the base on held-out rows.",
        "worse": "The tuned model is worse than the base on held-out rows.",
        "not better": "The tuned model is not shown to be better than the base.",
        "too few rows": _no_verdict(report),
    }[report["verdict"]]


def _no_verdict(report: dict[str, Any]) -> str:
    """Too few rows because no more were asked for, or because there are no more."""
    rows = report["rows"]
    if report.get("limit", FEWEST_ROWS) < FEWEST_ROWS:
        return f"A quick check: it works. {rows} rows show no more than that; a verdict takes {FEWEST_ROWS}."
    return f"Too few held-out rows ({rows}) for a verdict; it takes {FEWEST_ROWS}."


def _cell(value: float | None, format: str) -> str:
    return "–" if value is None else f"{value:{format}}"
