"""The simple questions of the Train tab, how long and how much change, and the settings they stand for. Knows no component."""

from __future__ import annotations

from typing import Any, NamedTuple

from ftui.config import LoraSettings, RunConfig, TrainingSettings
from ftui.settings import Settings

LENGTHS = {
    "quick": "Quick check (5 steps, no verdict)",
    "standard": "Standard",
    "thorough": "Thorough (twice as long)",
}
STRENGTHS = {"little": "A little", "normal": "Normal", "lot": "A lot", "own": "Your own"}
SMALL = 500_000_000
QUICK_ROWS = 8


class Strength(NamedTuple):
    """Every step doubles the room of the adapter and the size of a learning step; alpha / rank stays 2.

    `small`: the learning rate for models below half a billion parameters, which bear, and need, five times as much.
    """

    r: int
    learning_rate: float
    small: float


STEPS = {
    "little": Strength(8, 1e-4, 5e-4),
    "normal": Strength(16, 2e-4, 1e-3),
    "lot": Strength(32, 4e-4, 2e-3),
}
STRENGTH_PATHS = ("lora.r", "lora.lora_alpha", "lora.target_modules", "training.learning_rate")


def settings_of(strength: str, parameters: int | None) -> dict[str, Any]:
    """What a step sets, by path, for a model of this size (a large one, if None)."""
    step = STEPS[strength]
    rate = step.small if parameters is not None and parameters < SMALL else step.learning_rate
    return dict(zip(STRENGTH_PATHS, (step.r, 2 * step.r, "all-linear", rate), strict=True))


def strength_of(lora: LoraSettings, training: TrainingSettings) -> str:
    """The step that these settings are, for a model of either size; else "own"."""
    plain = lora.target_modules == "all-linear" and lora.lora_alpha == 2 * lora.r
    for name, step in STEPS.items():
        if plain and lora.r == step.r and training.learning_rate in (step.learning_rate, step.small):
            return name
    return "own"


def length_of(config: RunConfig) -> tuple[str, RunConfig]:
    """The length that was chosen for a run, and the run of which it makes this one: what a quick check cuts short has its
    defaults there."""
    training, evaluation = config.training, config.evaluation
    uncut = {
        "training": training.model_copy(
            update={name: _default(training, name) for name in ("max_steps", "eval_steps")}
        ),
        "evaluation": evaluation.model_copy(update={"limit": _default(evaluation, "limit")}),
    }
    whole = config.model_copy(update=uncut)
    return ("quick", whole) if lengthened(whole, "quick") == config else ("standard", config)


def _default(section: Settings, name: str) -> Any:
    return type(section).model_fields[name].default


def lengthened(config: RunConfig, length: str) -> RunConfig:
    """The run as long as the person asked for. UserError where twice as long is longer than a run may be."""
    training = config.training
    if length == "quick":
        few = config.evaluation.model_copy(update={"limit": min(QUICK_ROWS, config.evaluation.limit)})
        config = config.model_copy(update={"evaluation": few})
    change = {
        "quick": {"max_steps": 5, "eval_steps": 0.5},
        "standard": {},
        "thorough": {
            "num_train_epochs": training.num_train_epochs * 2,
            "max_steps": training.max_steps * 2 if training.max_steps > 0 else -1,
        },
    }[length]
    longer = config.model_copy(update={"training": training.model_copy(update=change)})
    return RunConfig.parse(longer.model_dump())
