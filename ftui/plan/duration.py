"""How long a run takes: its work, counted, times what each piece of work takes here, estimated or measured. Seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ftui.config import RunConfig
from ftui.device import Device
from ftui.plan.memory import Choice
from ftui.plan.size import Dimensions
from ftui.plan.tokens import Tokens
from ftui.replies import reply_batches

# Dense matrix multiplication in 16 bits as reached in practice, in TFLOP/s; the first name that fits counts.
GPUS = {
    "H200": 790, "H100": 700, "A100": 312, "L40S": 362, "L40": 181, "L4": 121, "A10": 70, "T4": 25, "RTX 5090": 210, "RTX 4090": 165,
    "RTX 4080": 97, "RTX 3090": 71, "RTX 3060": 25, "V100": 100,
}  # fmt: skip
OTHER_GPU = 30
CPU_CORE = {True: 0.080, False: 0.042}  # bf16 or fp32, one core
# The share of it that a training step reaches: the rest goes to element-wise work, dequantizing and starting kernels.
UTILIZATION = {"cuda": 0.35, "cpu": 0.65}

# Fitted to the starter on two cores; on a GPU to published speeds.
STARTING = {"cuda": 20.0, "cpu": 11.0}  # libraries, rows and trainer
UNPACKING = 2.4e-9  # a 4-bit weight, one core
BARE = 0.6  # of a word's time, what the base takes without its adapter
LAUNCHING = 0.8e-3  # a layer's kernels on a GPU
BANDWIDTH = {"cuda": 3e11, "cpu": 1e10}  # bytes of weights a second
LOADING = {"cuda": 1.5e-9, "cpu": 2e-8}  # a weight
DORA = {"training": 1.9, "word": 3.5}  # times what LoRA takes, as peft computes the norm of every weight in each pass
MERGING = 3e-8  # a weight: read, add, write, load again
WATCHED_TOKENS = 48  # of each reply to a watch prompt
PROVEN_ROWS = 16  # held out, on which a merge is proven


class Rates(NamedTuple):
    """`loading`: libraries, rows, model and trainer. `training`: a token, forward and backward. `reading`: a token,
    forward. `word`: what every forward pass takes beside its tokens, so one token of each reply of a batch; `base_word`:
    without an adapter; `watched_word`: of the few replies that are watched, for which there are quicker products. `merging`.
    """

    loading: float
    training: float
    reading: float
    word: float
    base_word: float
    watched_word: float
    merging: float


def estimated_rates(config: RunConfig, size: Dimensions, tokens: Tokens, device: Device, choice: Choice) -> Rates:
    """FLOPs a token: forward 2N, backward 2N with a frozen base, 6N for the adapter; attention grows with the row."""
    speed = training_speed(device)
    weights = size.body + size.head * size.heads
    attention = 2 * tokens.context * size.query * size.layers
    adapter = size.adapter(config.lora.rank, config.lora.target_modules)
    # On a GPU trl computes the head in tiles and once more for the backward pass; on a CPU, ftui for learned tokens only.
    head = (4 * tokens.share if device.kind == "cpu" else 6) * size.head
    again = choice.recomputed / choice.layers * (2 * size.body + attention + 2 * adapter)
    work = 4 * size.body + head + 3.5 * attention + 6 * adapter + again
    if device.kind == "cuda":
        word = max(LAUNCHING * size.layers, 2 * weights / BANDWIDTH["cuda"])
    elif config.quantization.load_in_4bit:
        word = UNPACKING * size.body / device.cores
    else:
        word = 2 * weights / BANDWIDTH["cpu"]
    slower = DORA if config.lora.use_dora else dict.fromkeys(DORA, 1.0)
    return Rates(
        loading=STARTING[device.kind] + LOADING[device.kind] * weights,
        training=slower["training"] * work / speed,
        reading=(2 * size.body + attention) / speed,
        word=slower["word"] * word,
        base_word=BARE * word,
        watched_word=slower["word"] * word,
        merging=MERGING * weights,
    )


def training_speed(device: Device) -> float:
    """FLOPs a second."""
    return peak_speed(device) * UTILIZATION[device.kind]


def peak_speed(device: Device) -> float:
    if device.kind == "cpu":
        return CPU_CORE[device.bf16] * device.cores * 1e12
    return next((speed for name, speed in GPUS.items() if name in device.name), OTHER_GPU) * 1e12


def durations(config: RunConfig, tokens: Tokens, rates: Rates) -> dict[str, float]:
    """The seconds of each part of a run, in their order."""
    training = config.training
    rows = len(tokens.train)
    checks = math.ceil(training.steps(rows) / training.check_every(rows)) if tokens.validation else 0
    batches = math.ceil(len(tokens.validation) / training.per_device_train_batch_size)
    asked = tokens.test[: config.evaluation.limit]
    limit = reply_limit(config, [answer for _, answer in asked])
    ended = limit * 4 // 5  # who was tuned ends an answer where it should end; the base goes on up to the limit
    base = rates._replace(word=rates.base_word)
    answers = {
        name: _answering(of, asked, limit, words) + _passes(of, len(asked), sum(map(sum, asked)))
        for name, of, words in (("base", base, limit), ("tuned", rates, ended))
    }
    is_watched = bool(tokens.validation or config.watch_prompts)
    at_a_check = min(WATCHED_TOKENS, ended) if asked else WATCHED_TOKENS
    watched = is_watched * (WATCHED_TOKENS + checks * at_a_check)
    # A 4-bit base usually wants a second merge, into the weights as they were in training.
    merges = 2 if config.quantization.load_in_4bit else 1
    proven = tokens.validation[:PROVEN_ROWS] or [sum(row) for row in tokens.test[:PROVEN_ROWS]]
    return {
        "loading": rates.loading,
        "base answers": answers["base"],
        "training": tokens.seen(training) * rates.training,
        "checks": checks * _passes(rates, batches, sum(tokens.validation)) + watched * rates.watched_word,
        "tuned answers": answers["tuned"],
        "merging": merges * (rates.merging + _passes(rates, len(proven), 2 * sum(proven))),
    }


def reply_limit(config: RunConfig, answers: Sequence[int]) -> int:
    """How many tokens a reply may have: a quarter beyond the longest expected answer, so that no system rambles for long.

    `answers`: the tokens of each expected one.
    """
    return min(config.evaluation.max_new_tokens, max(answers, default=0) * 5 // 4 + 8)


def _answering(rates: Rates, asked: Sequence[tuple[int, int]], limit: int, words: int) -> float:
    questions = [question for question, _ in asked]
    return len(reply_batches(questions, limit)) * (words + 1) * rates.word + sum(questions) * rates.reading


def _passes(rates: Rates, passes: int, tokens: int) -> float:
    return passes * rates.word + tokens * rates.reading
