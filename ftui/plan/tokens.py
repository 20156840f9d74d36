"""What the rows of a run hold, in tokens: all that the plan knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ftui.config import TrainingSettings


class Tokens(NamedTuple):
    """`train`: the length of each training row, `learned` of whose tokens are learned (all, if None). `padded`: rows of
    a pass are filled up to its longest instead of lying side by side.

    `validation`: the length of each row. `test`: of each row that is answered, its question and its answer.
    """

    train: Sequence[int]
    learned: int | None = None
    validation: Sequence[int] = ()
    test: Sequence[tuple[int, int]] = ()
    padded: bool = False

    @property
    def share(self) -> float:
        """Of the training tokens, how many are learned."""
        return 1.0 if self.learned is None else self.learned / max(sum(self.train), 1)

    @property
    def longest(self) -> int:
        return max(self.train, default=0)

    @property
    def context(self) -> float:
        """How far back a token looks in its row, twice the mean over all tokens: Σ length² / Σ length."""
        return sum(length * length for length in self.train) / max(sum(self.train), 1)

    def step(self, settings: TrainingSettings) -> int:
        """The tokens of the largest step that can happen: its rows are the longest ones."""
        rows = sorted(self.train)[-_rows(settings) :]
        return len(rows) * self.longest if self.padded else sum(rows)

    def seen(self, settings: TrainingSettings) -> int:
        """Tokens that the whole training goes through."""
        once = settings.model_copy(update={"max_steps": -1, "num_train_epochs": 1}).steps(len(self.train))
        epochs = settings.max_steps / max(once, 1) if settings.max_steps > 0 else settings.num_train_epochs
        return round(sum(self.train) * epochs)


def _rows(settings: TrainingSettings) -> int:
    return settings.per_device_train_batch_size * settings.gradient_accumulation_steps
