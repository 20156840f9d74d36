"""How much memory a run takes at its peak, and how a step is carried out so that it fits. Bytes and tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ftui.config import RunConfig
from ftui.device import Device
from ftui.plan.size import Dimensions
from ftui.plan.tokens import Tokens

# All that was fitted to measurements, by the kind of device.
PROGRAM = {"cuda": 600_000_000, "cpu": 600_000_000}  # Python and its libraries; on a GPU the CUDA context
# Beside the formula, where a CPU takes the libraries' paths; the starter at 500 and 1,900 tokens a pass.
ACTIVATIONS = 1.6
LOADING = {"cuda": 0, "cpu": 4}  # bytes a weight that quantizing leaves behind with the process: two 16-bit copies
PASS = {"cuda": 16_384, "cpu": 2_048}  # tokens beyond which a pass gets larger, not faster
OVERHEAD = {"cuda": 125, "cpu": 30}  # what unpacking the weights costs, as tokens a pass
RECOMPUTING = 0.49  # more work when every layer is recomputed
# Learned tokens at a time on a CPU: their logits stay near the cache, and memory does not grow with the batch.
HEAD_TOKENS = 128

FITS, TIGHT = 0.85, 0.97  # of the device's memory
Verdict = Literal["fits", "tight", "does not fit"]


class Choice(NamedTuple):
    """How a step is carried out: the same rows and the same gradient, in the memory there is.

    `tokens`: at most so many go through the model at once, but never less than a row. `recomputed`: so many of the
    `layers`, the first ones, compute their activations a second time instead of keeping them.
    """

    tokens: int
    recomputed: int
    layers: int

    @property
    def sentence(self) -> str:
        again = (
            f"{self.recomputed} of {self.layers} layers recompute theirs"
            if self.recomputed
            else "no layer recomputes its activations"
        )
        return f"Each step goes through the model in passes of up to {self.tokens:,} tokens; {again}."


class Memory(NamedTuple):
    """The peak by part."""

    program: int
    weights: int
    embeddings: int
    adapter: int
    activations: int
    logits: int
    loading: int
    unpacking: int

    @property
    def peak(self) -> int:
        return sum(self)

    def measured(self, peak: int) -> Memory:
        """The same with another peak: what is held for certain stays, the rest shares the difference."""
        certain = self.weights + self.embeddings + self.adapter
        scale = max(peak - certain, 0) / (self.peak - certain)
        guessed = ("program", "activations", "logits", "loading", "unpacking")
        scaled = self._replace(**{part: round(getattr(self, part) * scale) for part in guessed})
        return scaled._replace(program=scaled.program + peak - scaled.peak)


def peak_memory(config: RunConfig, size: Dimensions, choice: Choice, device: Device, share: float) -> Memory:
    """The peak until training ends, when a pass is as large as it may be; merging takes only what is free. `share`: of its tokens, how many are learned.

    NF4 with double quantization takes 0.5159 bytes a weight, and a buffer to unpack the largest matrix; fp32 LoRA takes
    16 with its gradient and two moments of Adam. A layer keeps 12h + 8q + 8f bytes a token for its backward pass
    in 16 bits, or 2h where it is recomputed; ftui's kernels for a CPU (train/kernels.py) keep 8h + 4(q + kv) + 6f + 14r.
    The recomputed layers are the first, so when their turn comes in the backward pass, the others have given theirs back.
    """
    number = 2 if device.bf16 or device.kind == "cuda" else 4
    four_bit = config.quantization.load_in_4bit
    kept = number * _kept(config, size, device)
    alive = kept + number * (2 * size.query + 2 * size.key + 3 * size.mlp)
    keeping = (size.layers - choice.recomputed) * kept
    a_token = choice.recomputed * number * size.hidden + max(keeping, alive if choice.recomputed else 0)
    learned = math.ceil(choice.tokens * share)
    if device.kind == "cpu":
        logits = (2 * number + 8) * min(HEAD_TOKENS, learned) * size.vocabulary + number * learned * size.hidden
    else:
        logits = number * min(choice.tokens, 4096) * 32_768
    return Memory(
        program=PROGRAM[device.kind],
        weights=round(size.body * (0.5159 if four_bit else number)),
        embeddings=number * size.head * size.heads,
        adapter=16 * size.adapter(config.lora.rank, config.lora.target_modules),
        activations=round(a_token * choice.tokens),
        logits=logits + 3 * number * choice.tokens * size.hidden,
        loading=LOADING[device.kind] * (size.body + size.head * size.heads) if four_bit else 0,
        unpacking=4 * size.hidden * max(size.mlp, size.query) if four_bit else 0,
    )


def _kept(config: RunConfig, size: Dimensions, device: Device) -> float:
    """Numbers that a layer keeps of a token for its backward pass."""
    if device.kind == "cpu" and not config.lora.lora_dropout and not config.lora.use_dora:
        return 4 * size.hidden + 2 * (size.query + size.key) + 3 * size.mlp + 7 * config.lora.rank
    rest = 6 * size.hidden + 4 * size.mlp
    if device.kind == "cpu":
        return ACTIVATIONS * (rest + 2 * (size.query + size.key))
    return rest + 4 * size.query  # keys and values are copied for each head that asks them


def verdict(peak: int, device: Device) -> Verdict:
    return "fits" if peak <= FITS * device.memory else "tight" if peak <= TIGHT * device.memory else "does not fit"


def choose(config: RunConfig, size: Dimensions, tokens: Tokens, device: Device) -> Choice:
    """The fastest way to carry out a step that fits; the smallest one where none does."""
    choices = [
        Choice(limit, recomputed, size.layers)
        for limit in _limits(tokens, config, device)
        for recomputed in range(size.layers if config.training.gradient_checkpointing else 0, size.layers + 1)
    ]
    fitting = [
        choice
        for choice in choices
        if verdict(peak_memory(config, size, choice, device, tokens.share).peak, device) == "fits"
    ]
    return min(fitting, key=lambda choice: _cost(choice, device)) if fitting else choices[-1]


def _limits(tokens: Tokens, config: RunConfig, device: Device) -> Iterator[int]:
    """From the whole of the largest step, halved and halved again, down to the longest row."""
    limit = min(tokens.step(config.training), max(PASS[device.kind], tokens.longest))
    while limit > tokens.longest:
        yield limit
        limit //= 2
    yield tokens.longest


def _cost(choice: Choice, device: Device) -> float:
    """The time of a token, in that of one without overhead and without recomputing."""
    return (1 + RECOMPUTING * choice.recomputed / choice.layers) * (1 + OVERHEAD[device.kind] / max(choice.tokens, 1))
