"""The plan: steps, tokens, memory, time and disk of a run, from `config.json` and the lengths of its rows alone.

An estimate by arithmetic: no weights are read and nothing is run. Where the formulas come from stands beside them. Sizes
are in bytes, work in floating-point operations (FLOPs), lengths in tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from ftui.config import RunConfig
from ftui.device import Device
from ftui.errors import UserError
from ftui.examples import Examples

# Dense matrix multiplication in 16 bits as reached in practice, in TFLOP/s; the first name that fits counts.
GPUS = {
    "H200": 790, "H100": 700, "A100": 312, "L40S": 362, "L40": 181, "L4": 121, "A10": 70, "T4": 25, "RTX 5090": 210, "RTX 4090": 165,
    "RTX 4080": 97, "RTX 3090": 71, "RTX 3060": 25, "V100": 100,
}  # fmt: skip
OTHER_GPU = 30
CPU_CORE = {True: 0.080, False: 0.042}  # bf16 or fp32, one core
# The share of it that a training step reaches: the rest goes to element-wise work, dequantizing and starting kernels.
UTILIZATION = {"cuda": 0.35, "cpu": 0.65}
# What is kept for the backward pass, beside the formula; on a CPU measured with the starter at 500 and 1,900 tokens a pass.
ACTIVATIONS = {"cuda": 1.0, "cpu": 1.6}
# Python and its libraries, measured; on a GPU the CUDA context.
PROGRAM = {"cuda": 600_000_000, "cpu": 600_000_000}
FITS, TIGHT = 0.85, 0.97  # of the device's memory
HEAD_TOKENS = 2048  # as in train/head.py, a floor above: beyond it trl's tiles take over


class Plan(NamedTuple):
    """`memory`: the peak by part. `basis`: what the estimate rests on. `advice`: what makes it fit, or an empty text."""

    steps: int
    tokens: int
    peak_memory_bytes: int
    memory: dict[str, int]
    seconds: float
    disk_bytes: int
    verdict: Literal["fits", "tight", "does not fit"]
    advice: str
    basis: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.steps:,} steps over {self.tokens:,} tokens: about {_minutes(self.seconds)}, {self.peak_memory_bytes / 1e9:.1f} GB "
            f"of memory ({self.verdict}) and {self.disk_bytes / 1e9:.1f} GB of disk. {self.advice}".strip()
        )


class Dimensions(NamedTuple):
    """What `config.json` says of a decoder. `layers` of them, each with `matrices` {name: (in, out)}."""

    hidden: int
    query: int
    key: int
    mlp: int
    layers: int
    vocabulary: int
    heads: int
    matrices: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, model_config: dict[str, Any]) -> Dimensions:
        """UserError where the config is not that of a plain decoder."""
        text = model_config.get("text_config") or model_config
        if any(text.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts")):
            raise UserError("The plan does not know mixtures of experts; rehearse the run instead.")
        try:
            hidden = text.get("hidden_size") or text["n_embd"]
            layers = text.get("num_hidden_layers") or text["n_layer"]
            heads = text.get("num_attention_heads") or text["n_head"]
            mlp = text.get("intermediate_size") or text.get("n_inner") or 4 * hidden
            width = text.get("head_dim") or hidden // heads
            query, key = heads * width, (text.get("num_key_value_heads") or heads) * width
            tied = text.get("tie_word_embeddings", model_config.get("tie_word_embeddings", "n_embd" in text))
            vocabulary = text["vocab_size"]
        except (KeyError, TypeError, ZeroDivisionError):
            raise UserError(
                "The plan cannot be made: config.json does not say how large the model is. Rehearse the run instead."
            ) from None
        matrices = {
            "q_proj": (hidden, query),
            "k_proj": (hidden, key),
            "v_proj": (hidden, key),
            "o_proj": (query, hidden),
            "gate_proj": (hidden, mlp),
            "up_proj": (hidden, mlp),
            "down_proj": (mlp, hidden),
        }
        if "n_embd" in text:
            matrices = {"c_attn": (hidden, 3 * hidden), "c_proj": (hidden + mlp, hidden), "c_fc": (hidden, mlp)}
        return cls(hidden, query, key, mlp, layers, vocabulary, 1 if tied else 2, matrices)

    @property
    def body(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def head(self) -> int:
        return self.vocabulary * self.hidden

    def adapter(self, r: int, target_modules: str | tuple[str, ...]) -> int:
        """Parameters of a LoRA adapter: r · (in + out) for each matrix that gets one."""

        def is_target(name: str) -> bool:
            if isinstance(target_modules, str):
                return target_modules == "all-linear" or bool(re.search(target_modules, name))
            return any(target.endswith(name) for target in target_modules)

        return (
            self.layers * r * sum(rows + columns for name, (rows, columns) in self.matrices.items() if is_target(name))
        )


def plan(
    config: RunConfig,
    model_config: dict[str, Any],
    lengths: Sequence[int],
    device: Device,
    trained: int | None = None,
    validated: int = 0,
) -> Plan:
    """The plan for rows of these lengths. `trained`: how many of all their tokens are learned (all, if None);
    `validated`: tokens of the validation rows. UserError where the model's size cannot be told."""
    size = Dimensions.of(model_config)
    steps = config.training.steps(len(lengths))
    mean = sum(lengths) / max(len(lengths), 1)
    per_step = config.training.per_device_train_batch_size * config.training.gradient_accumulation_steps
    by_epochs = config.training.max_steps <= 0
    tokens = round(sum(lengths) * config.training.num_train_epochs if by_epochs else steps * per_step * mean)
    share = (trained if trained is not None else sum(lengths)) / max(sum(lengths), 1)
    memory = peak_memory(config, size, lengths, device, share)
    peak = sum(memory.values())
    verdict = _verdict(peak, device)
    work = tokens * _training_flops(config, size, lengths, share, device)
    work += (
        validated
        * math.ceil(steps / config.training.check_every(len(lengths)))
        * (2 * size.body + 2 * size.head * share)
    )
    speed = _speed(device) * UTILIZATION[device.kind]
    return Plan(
        steps=steps,
        tokens=tokens,
        peak_memory_bytes=peak,
        memory=memory,
        seconds=round(work / speed, 3),
        disk_bytes=_disk(config, size),
        verdict=verdict,
        advice="" if verdict == "fits" else _advice(config, size, lengths, device, share),
        basis=f"An estimate by arithmetic, nothing was run: {UTILIZATION[device.kind]:.0%} of "
        f"{_speed(device) / 1e12:.2g} TFLOP/s ({device.name}, {device.cores} cores). "
        "Training and its checks only; answering test rows, merging and loading come on top.",
    )


def plan_of(config: RunConfig, examples: Examples, model_config: dict[str, Any], device: Device) -> Plan:
    """The plan for rows that are encoded already. UserError where the model's size cannot be told."""
    return plan(
        config,
        model_config,
        examples.train.lengths.tolist(),
        device,
        trained=int(examples.train.trained.sum()),
        validated=int(examples.validation.lengths.sum()),
    )


def peak_memory(
    config: RunConfig, size: Dimensions, lengths: Sequence[int], device: Device, share: float
) -> dict[str, int]:
    """Bytes at the peak by part, when the longest rows meet in one pass (rows lie side by side, unpadded).

    NF4 with double quantization takes 0.5159 bytes a weight, and a buffer to unpack the largest matrix; fp32 LoRA takes
    16 with its gradient and two moments of Adam. A layer keeps 12h + 4(q + kv) + 8f bytes a token for its backward pass
    in 16 bits, or 2h where it is recomputed.
    """
    number = 2 if device.bf16 or device.kind == "cuda" else 4
    longest = sum(sorted(lengths)[-config.training.per_device_train_batch_size :])
    four_bit = config.quantization.load_in_4bit
    kept = ACTIVATIONS[device.kind] * number * (6 * size.hidden + 2 * (size.query + size.key) + 4 * size.mlp)
    alive = kept + number * (2 * size.query + 2 * size.key + 3 * size.mlp)
    recompute = config.training.gradient_checkpointing
    activations = (
        size.layers * number * size.hidden * longest + alive * longest if recompute else size.layers * kept * longest
    )
    # On a CPU the logits of the learned tokens stand there whole, as numbers, as log-probabilities and as gradients.
    learned = min(HEAD_TOKENS, math.ceil(longest * share))
    logits = (number + 12) * learned * size.vocabulary if device.kind == "cpu" else number * min(longest, 4096) * 32_768
    return {
        "program": PROGRAM[device.kind],
        "weights": round(size.body * (0.5159 if four_bit else number)),
        "embeddings": number * size.head * size.heads,
        "adapter": 16 * size.adapter(config.lora.r, config.lora.target_modules),
        "activations": round(activations),
        "logits": logits + 3 * number * longest * size.hidden,
        # Measured: quantizing on a CPU leaves the room of two 16-bit copies behind with the process.
        "loading": 4 * (size.body + size.head * size.heads) if four_bit and device.kind == "cpu" else 0,
        "unpacking": 4 * size.hidden * max(size.mlp, size.query) if four_bit else 0,
    }


def _training_flops(config: RunConfig, size: Dimensions, lengths: Sequence[int], share: float, device: Device) -> float:
    """FLOPs a token: forward 2N, backward 2N with a frozen base, 6N for the adapter; attention grows with the row."""
    context = sum(length * length for length in lengths) / max(sum(lengths), 1)
    attention = 2 * context * size.query * size.layers
    adapter = size.adapter(config.lora.r, config.lora.target_modules)
    # On a GPU trl computes the head in tiles and once more for the backward pass; on a CPU, ftui for learned tokens only.
    head = 4 * size.head * share if device.kind == "cpu" else 6 * size.head
    if config.training.gradient_checkpointing:
        return 6 * size.body + head + 4.5 * attention + 8 * adapter
    return 4 * size.body + head + 3.5 * attention + 6 * adapter


def _speed(device: Device) -> float:
    if device.kind == "cpu":
        return CPU_CORE[device.bf16] * device.cores * 1e12
    return next((speed for name, speed in GPUS.items() if name in device.name), OTHER_GPU) * 1e12


def _disk(config: RunConfig, size: Dimensions) -> int:
    """The adapter, two checkpoints of it with Adam's moments, and the merged model in 16 bits."""
    adapter = size.adapter(config.lora.r, config.lora.target_modules)
    return 4 * adapter + 2 * 12 * adapter + 2 * (size.body + size.head * size.heads)


def _verdict(peak: int, device: Device) -> Literal["fits", "tight", "does not fit"]:
    return "fits" if peak <= FITS * device.memory else "tight" if peak <= TIGHT * device.memory else "does not fit"


# what makes it fit


def _advice(config: RunConfig, size: Dimensions, lengths: Sequence[int], device: Device, share: float) -> str:
    """The first changes, the harmless ones first, after which the run fits."""
    made = []
    for sentence, change in _changes(config.training.per_device_train_batch_size):
        changed = change(config)
        if changed == config:
            continue
        config = changed
        made.append(sentence)
        shorter = [min(length, config.training.max_length) for length in lengths]
        if _verdict(sum(peak_memory(config, size, shorter, device, share).values()), device) == "fits":
            return f"It fits with {' and '.join(made)}."
    return f"Even with {' and '.join(made)} it does not fit. Choose a smaller base model or a machine with more memory."


def _changes(batch: int) -> Iterator[tuple[str, Callable[[RunConfig], RunConfig]]]:
    while batch > 1:
        batch = max(1, batch // 2)
        yield (
            f"{batch} rows a pass and more accumulation (the same steps)",
            lambda config, batch=batch: _batch(config, batch),
        )
    yield "activations recomputed", lambda config: _training(config, gradient_checkpointing=True)
    yield (
        "a 4-bit base",
        lambda config: config.model_copy(
            update={"quantization": config.quantization.model_copy(update={"load_in_4bit": True})}
        ),
    )
    for most in (1024, 512, 256):
        yield (
            f"rows of at most {most} tokens",
            lambda config, most=most: _training(config, max_length=min(most, config.training.max_length)),
        )


def _batch(config: RunConfig, batch: int) -> RunConfig:
    settings = config.training
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    return _training(config, per_device_train_batch_size=batch, gradient_accumulation_steps=math.ceil(rows / batch))


def _training(config: RunConfig, **values: Any) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
