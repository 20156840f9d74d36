"""What the curves say, in words. Pure functions of the losses so far; each sentence is said once a run."""

from __future__ import annotations

from collections.abc import Sequence

ZERO = 1e-6
FLAT_STEPS = 30
RISES = 3
NOISE = 1.01  # a rise by less is none


def advice(train_losses: Sequence[float], validation_losses: Sequence[float]) -> list[str]:
    """Sentences on what looks wrong; none when all is well. Losses in nats a token, oldest first."""
    return [sentence for sentence in (_zero(train_losses), _flat(train_losses), _rising(validation_losses)) if sentence]


def _zero(losses: Sequence[float]) -> str | None:
    if len(losses) >= 2 and max(losses[-2:]) < ZERO:
        return (
            "The training loss is zero: nothing is left to learn, or the answer stands in the question. "
            "Look at the rows in the Data tab."
        )
    return None


def _flat(losses: Sequence[float]) -> str | None:
    third = len(losses) // 3
    if len(losses) < FLAT_STEPS or not third:
        return None
    before, now = sum(losses[:third]) / third, sum(losses[-third:]) / third
    if now > 0.98 * before and now > 0.05:
        return (
            "The training loss does not fall: the learning rate is probably too low (try three times as much), "
            "or the answers do not follow from the questions."
        )
    return None


def _rising(losses: Sequence[float]) -> str | None:
    best = min(losses, default=0)
    if len(losses) > RISES and min(losses[-RISES:]) > NOISE * best:
        return (
            "The validation loss has not come back to its best for three checks: the model overfits. "
            "The best checkpoint so far is kept; fewer epochs would do."
        )
    return None


def overfitting(measured: Sequence[tuple[int, float]]) -> str | None:
    """What a finished curve of validation losses by step says: whether it rose from its best to the end."""
    if not measured:
        return None
    (best_step, best), (last_step, last) = min(measured, key=lambda point: point[1]), measured[-1]
    if last <= NOISE * best:
        return None
    return (
        f"Overfitting: the validation loss was lowest at step {best_step} ({best:.3f}) and rose to {last:.3f} by step "
        f"{last_step}. Fewer epochs, or more different rows, would help."
    )
