"""The plan of a run, from `config.json` and the lengths of its rows alone.

An estimate by arithmetic: no weights are read and nothing is run. A rehearsal, a floor above, measures what the
arithmetic guesses and hands it in. Where the formulas come from stands beside them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ftui.attention import PACKABLE
from ftui.config import RunConfig
from ftui.device import Device
from ftui.examples import Examples
from ftui.plan.duration import UTILIZATION, durations, estimated_rates, peak_speed
from ftui.plan.memory import Choice, Verdict, choose, peak_memory, verdict
from ftui.plan.price import Price, price_here
from ftui.plan.size import Dimensions
from ftui.plan.tokens import Tokens


class Measured(NamedTuple):
    """What a rehearsal found: the fields of `Rates` that it measured, the peak in bytes.

    `choice`: how its steps were carried out in the end; `fits`: whether they could be at all. `basis`: what was measured.
    """

    rates: dict[str, float]
    peak: int
    choice: Choice
    basis: str
    fits: bool = True


class Plan(NamedTuple):
    """`memory`: the peak by part, in bytes. `times`: seconds by part. `cost`: dollars, None where no price is known.

    `basis`: what the estimate rests on. `advice`: what makes it fit, or an empty text; `tip`: what would be faster.
    """

    steps: int
    tokens: int
    peak_memory_bytes: int
    memory: dict[str, int]
    seconds: float
    times: dict[str, float]
    disk_bytes: int
    cost: float | None
    choice: Choice
    verdict: Verdict
    advice: str
    tip: str
    basis: str
    rehearsed: bool

    @property
    def sentence(self) -> str:
        cost = f" and ${self.cost:,.2f}" if self.cost is not None else ""
        said = (
            f"{self.steps:,} steps over {self.tokens:,} tokens: about {_minutes(self.seconds)}, {self.peak_memory_bytes / 1e9:.1f} GB "
            f"of memory ({self.verdict}), {self.disk_bytes / 1e9:.1f} GB of disk{cost}."
        )
        return f"{said} {self.advice or self.tip}".strip()

    def disk_problem(self, free: int) -> str:
        """What to say of a disk with this many bytes free; an empty text where it has room."""
        if free >= self.disk_bytes:
            return ""
        return (
            f"The run needs {self.disk_bytes / 1e9:.1f} GB of disk, for checkpoints and the merged model, and the folder of "
            f"runs has {free / 1e9:.1f} GB free. Make room first: empty the trash, or delete runs."
        )

    def values(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return self._asdict() | {"choice": self.choice._asdict(), "sentence": self.sentence}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Plan:
        """The plan of which `values` are the values."""
        known = {name: values[name] for name in cls._fields}
        return cls(**known | {"choice": Choice(**values["choice"])})


def plan(
    config: RunConfig,
    model_config: dict[str, Any],
    tokens: Tokens,
    device: Device,
    price: Price | None = None,
    measured: Measured | None = None,
) -> Plan:
    """The plan for rows of these lengths. UserError where the model's size cannot be told."""
    size = Dimensions.of(model_config)
    choice = measured.choice if measured else choose(config, size, tokens, device)
    memory = peak_memory(config, size, choice, device, tokens.share)
    found = verdict(memory.peak, device)
    if measured:
        memory = memory.measured(measured.peak)
        found = verdict(memory.peak, device) if measured.fits else "does not fit"
    rates = estimated_rates(config, size, tokens, device, choice)._replace(**(measured.rates if measured else {}))
    times = durations(config, tokens, rates)
    seconds = round(sum(times.values()), 1)
    return Plan(
        steps=config.training.steps(len(tokens.train)),
        tokens=tokens.seen(config.training),
        peak_memory_bytes=memory.peak,
        memory=memory._asdict(),
        seconds=seconds,
        times={part: round(part_seconds, 1) for part, part_seconds in times.items()},
        disk_bytes=_disk(config, size),
        cost=round(price.per_hour * seconds / 3600, 4) if price else None,
        choice=choice,
        verdict=found,
        advice="" if found == "fits" else _advice(config, size, tokens, device, memory.peak),
        tip=_tip(config, size, tokens, device, choice) if found == "fits" and not measured else "",
        basis=" ".join(
            [measured.basis if measured else _basis(device), f"Money: {price.basis}." if price else ""]
        ).strip(),
        rehearsed=measured is not None,
    )


def plan_of(
    config: RunConfig,
    examples: Examples,
    model_config: dict[str, Any],
    device: Device,
    measured: Measured | None = None,
) -> Plan:
    """The plan for rows that are encoded already. UserError where the model's size cannot be told."""
    kind, test = model_config.get("model_type"), examples.test
    tokens = Tokens(
        train=examples.train.lengths.tolist(),
        learned=int(examples.train.trained.sum()),
        validation=examples.validation.lengths.tolist(),
        test=list(zip((test.lengths - test.trained).tolist(), test.trained.tolist(), strict=True)),
        padded=kind is not None and kind not in PACKABLE,
    )
    return plan(config, model_config, tokens, device, price_here(os.environ, device), measured)


def _basis(device: Device) -> str:
    return (
        f"An estimate by arithmetic, nothing was run: {UTILIZATION[device.kind]:.0%} of "
        f"{peak_speed(device) / 1e12:.2g} TFLOP/s ({device.name}, {device.cores} cores) while training; loading, answers, checks "
        "and merging by rules of thumb. A rehearsal measures it."
    )


def _disk(config: RunConfig, size: Dimensions) -> int:
    """The adapter, three checkpoints of it with Adam's moments, and the merged model in 16 bits."""
    adapter = size.adapter(config.lora.rank, config.lora.target_modules)
    return 4 * adapter + 3 * 12 * adapter + 2 * (size.body + size.head * size.heads)


# what makes it fit


def _advice(config: RunConfig, size: Dimensions, tokens: Tokens, device: Device, peak: int) -> str:
    """The first changes, the harmless ones first, after which the run fits. `peak`: what it takes without them."""
    made: list[str] = []
    usual = peak_memory(config, size, choose(config, size, tokens, device), device, tokens.share).peak
    for sentence, change in _changes():
        changed = change(config)
        if changed == config:
            continue
        config = changed
        made.append(sentence)
        shorter = tokens._replace(train=[min(length, config.training.max_length) for length in tokens.train])
        choice = choose(config, size, shorter, device)
        # Where the arithmetic was too hopeful before, it is so here.
        needed = peak_memory(config, size, choice, device, tokens.share).peak * max(peak / usual, 1)
        if verdict(round(needed), device) == "fits":
            return f"It fits with {' and '.join(made)}."
    even = f"Even with {' and '.join(made)} it does not fit." if made else "It does not fit."
    return f"{even} Choose a smaller base model or a machine with more memory."


def _changes() -> Iterator[tuple[str, Callable[[RunConfig], RunConfig]]]:
    """Rows a pass and recomputed layers are no changes of the run; the choice has tried them already."""
    yield "a 4-bit base", _in_4_bit
    for most in (1024, 512, 256):
        yield f"rows of at most {most} tokens", lambda config, most=most: _at_most(config, most)


def _at_most(config: RunConfig, length: int) -> RunConfig:
    shorter = {"max_length": min(length, config.training.max_length)}
    return config.model_copy(update={"training": config.training.model_copy(update=shorter)})


def _in_4_bit(config: RunConfig, wanted: bool = True) -> RunConfig:
    quantization = config.quantization.model_copy(update={"load_in_4bit": wanted})
    return config.model_copy(update={"quantization": quantization})


def _tip(config: RunConfig, size: Dimensions, tokens: Tokens, device: Device, choice: Choice) -> str:
    """Where 16 bits fit just as well, without recomputing more for it, they are faster and merge exactly."""
    whole = _in_4_bit(config, False)
    other = choose(whole, size, tokens, device)
    fits = verdict(peak_memory(whole, size, other, device, tokens.share).peak, device) == "fits"
    if not config.quantization.load_in_4bit or not fits or other.recomputed > choice.recomputed:
        return ""
    return "It also fits without the 4-bit base, which trains faster and merges exactly."


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
