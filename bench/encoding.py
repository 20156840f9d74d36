"""Encoding against trl's own preparation of the same rows: the ratio of their times, at equal tokens and labels.

`ratio` is of wall time, `cpu_ratio` of processor time: on a machine that is busy with other things only that one tells.

python bench/encoding.py [rows] [slices]      single-turn rows, the starter's tokenizer, both in this process, in turn
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
from trl import SFTConfig, SFTTrainer

from ftui.encoding import Encoded, Encoding, Message
from ftui.models import load_tokenizer, starter_folder

MAX_LENGTH = 1024
# The starter's ChatML with its line break before a turn, not behind it: trl learns a line break after the stop token,
# ftui does not, and the labels are to be equal.
CHATML = (
    "{% for m in messages %}{{ '' if loop.first else '\n' }}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


class Seconds(NamedTuple):
    wall: float
    cpu: float


def now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


def since(began: Seconds) -> Seconds:
    return Seconds(*(end - start for end, start in zip(now(), began, strict=True)))


def conversations(count: int) -> list[list[Message]]:
    """Rows of the ticket sample, each with a number of its own, from one to four mails long."""
    sample = Path(__file__).parents[1] / "samples" / "tickets.jsonl"
    rows = [json.loads(line) for line in sample.read_text(encoding="utf-8").splitlines()]
    made = []
    for number in range(count):
        mails = [rows[(number * 7 + place) % len(rows)]["text"] for place in range(1 + number % 4)]
        made.append(
            [
                {"role": "system", "content": "Turn the mail into JSON."},
                {"role": "user", "content": f"Mail {number}. " + "\n".join(mails)},
                {"role": "assistant", "content": rows[number % len(rows)]["json"]},
            ]
        )
    return made


def by_trl(encoding: Encoding, dataset: datasets.Dataset) -> tuple[Seconds, datasets.Dataset]:
    """Seconds and rows of `SFTTrainer._prepare_dataset`, without the model that a trainer wants."""
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer._tokenizer, trainer.chat_template, trainer.completion_only_loss = encoding.tokenizer, CHATML, True
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(output_dir=folder, max_length=MAX_LENGTH, bf16=False, use_cpu=True)
        began = now()
        prepared = trainer._prepare_dataset(dataset, encoding.tokenizer, arguments, False, None, "train")
        return since(began), prepared


def by_ftui(encoding: Encoding, rows: list[list[Message]]) -> tuple[Seconds, list[Encoded]]:
    began = now()
    encoded = encoding.encode(rows, MAX_LENGTH)
    return since(began), encoded


def main(count: int = 20_000, slices: int = 10) -> None:
    """Slice by slice, so that both meet the same weather; the ratio is the median of the slices' ratios."""
    datasets.disable_progress_bars()
    datasets.disable_caching()
    encoding = Encoding(load_tokenizer(starter_folder()), CHATML)
    rows, size = conversations(count), count // slices
    theirs, ours, tokens = [], [], 0
    for start in range(0, count, size):
        part = rows[start : start + size]
        dataset = datasets.Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in part])
        slow, prepared = by_trl(encoding, dataset)
        fast, encoded = by_ftui(encoding, part)
        assert [each.input_ids for each in encoded] == prepared["input_ids"][:], "the tokens differ"
        assert [each.labels for each in encoded] == prepared["labels"][:], "the labels differ"
        theirs.append(slow)
        ours.append(fast)
        tokens += sum(len(each.input_ids) for each in encoded)
    found = {
        "rows": count,
        "tokens": tokens,
        "equal_labels": True,
        "trl_rows_per_second": round(size / statistics.median(slow.wall for slow in theirs)),
        "ftui_rows_per_second": round(size / statistics.median(fast.wall for fast in ours)),
        "ratio": _median_ratio([slow.wall for slow in theirs], [fast.wall for fast in ours]),
        "cpu_ratio": _median_ratio([slow.cpu for slow in theirs], [fast.cpu for fast in ours]),
    }
    print(json.dumps(found))


def _median_ratio(slow: list[float], fast: list[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(slow, fast, strict=True)), 2)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
