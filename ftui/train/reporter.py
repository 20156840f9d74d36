"""The reporter: what the trainer logs becomes events of the run, and what must be said is said."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftui.device import memory_peak, memory_used
from ftui.encoding import Encoding, Message
from ftui.errors import UserError
from ftui.plan import WATCHED_TOKENS
from ftui.replies import reply_to_all
from ftui.runs import Run
from ftui.train.coach import advice, overfitting

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback, TrainerState

RESULTS = (
    "step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,"
    "full_valid_loss,full_valid_mean_token_accuracy"
)


class NotANumber(UserError):
    """The loss is NaN or infinite: nothing learned after the last checkpoint is worth anything."""


def not_a_number(step: int) -> NotANumber:
    return NotANumber(f"The loss is not a number at step {step}. A tenth of the learning rate usually cures this.")


class Reporter:
    """Turns what the trainer logs into events of the run: metrics, watch replies, results.csv."""

    def __init__(self, run: Run, encoding: Encoding, questions: list[list[Message]]) -> None:
        self.run, self.encoding, self.questions = run, encoding, questions
        losses = [measured["loss"] for measured in run.metrics() if measured.get("loss") is not None]
        self.train_loss: float | None = losses[-1] if losses else None  # of an earlier sitting
        self._said: set[str] = set()
        self.start(0)

    def start(self, step: int) -> None:
        """The clock of this sitting; a resumed run begins at `step`."""
        self._started, self._asked_seconds = time.perf_counter(), 0.0
        self._first_step = step

    def log(self, state: TrainerState, logs: dict[str, float]) -> None:
        """One metrics event per line that the trainer logs: `loss` in nats a token, `memory` now and at its peak in bytes, times in seconds."""
        if "loss" not in logs and "eval_loss" not in logs:
            return
        for loss in (logs.get("loss"), logs.get("eval_loss")):
            if loss is not None and not math.isfinite(loss):
                raise not_a_number(state.global_step)
        self.train_loss = logs.get("loss", self.train_loss)
        seconds = time.perf_counter() - self._started
        done = max(state.global_step - self._first_step, 1)
        tokens = int(logs.get("num_tokens") or logs.get("eval_num_tokens") or 0)
        self.run.log(
            "metrics",
            step=state.global_step,
            steps=state.max_steps,
            epoch=round(state.epoch or 0, 3),
            loss=logs.get("loss"),
            validation_loss=logs.get("eval_loss"),
            token_accuracy=logs.get("mean_token_accuracy"),
            validation_token_accuracy=logs.get("eval_mean_token_accuracy"),
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=tokens,
            tokens_per_second=round(tokens / max(seconds - self._asked_seconds, 1e-3), 1),
            memory=memory_used(),
            peak_memory=memory_peak(),
            seconds=round(seconds, 1),
            seconds_left=round(seconds / done * (state.max_steps - state.global_step), 1),
        )

    def ask(self, model: PreTrainedModel, step: int) -> None:
        """Asks the watch prompts and writes the answers down."""
        began = time.perf_counter()
        replies = reply_to_all(model, self.encoding, self.questions, WATCHED_TOKENS, lambda: self.run.stop_wanted)
        self._asked_seconds += time.perf_counter() - began
        for question, reply in zip(self.questions, replies, strict=False):
            self.run.log("sample", step=step, prompt=question[-1]["content"], reply=reply.text, finished=reply.finished)

    def look(self) -> None:
        """Says what the curves show, each sentence once."""
        metrics = self.run.metrics()
        losses = [[m[name] for m in metrics if m.get(name) is not None] for name in ("loss", "validation_loss")]
        self._warn(advice(*losses))

    def look_back(self) -> None:
        """Says, after the last step, whether the run went on for too long."""
        measured = [
            (m["step"], m["validation_loss"]) for m in self.run.metrics() if m.get("validation_loss") is not None
        ]
        if sentence := overfitting(measured):
            self._warn([sentence])

    def _warn(self, sentences: list[str]) -> None:
        for sentence in sentences:
            if sentence not in self._said:
                self.run.log("message", sentence, "warning")
            self._said.add(sentence)

    def write_results(self) -> None:
        """results.csv, a line a step."""
        rows: dict[int, dict[str, Any]] = {}
        for measured in self.run.metrics():
            row = rows.setdefault(measured["step"], {"step": measured["step"]})
            train, validation = measured["loss"], measured["validation_loss"]
            if train is not None:
                row |= {"train_loss": train, "train_mean_token_accuracy": measured["token_accuracy"]}
            if validation is not None:
                accuracy = measured["validation_token_accuracy"]
                row |= {"valid_loss": validation, "validation_mean_token_accuracy": accuracy}
                row |= {"full_valid_loss": validation, "full_valid_mean_token_accuracy": accuracy}
        lines = [",".join(_cell(row.get(column)) for column in RESULTS.split(",")) for row in rows.values()]
        self.run.write("results.csv", "\n".join([RESULTS, *lines]) + "\n")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def callback_of(reporter: Reporter, saved: Callable[[], None] = lambda: None) -> TrainerCallback:
    """`saved` is called after each complete checkpoint."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            reporter.start(state.global_step)

        def on_log(self, args, state, control, logs, **kwargs):
            reporter.log(state, logs)

        def on_evaluate(self, args, state, control, model, **kwargs):
            reporter.ask(model, state.global_step)
            reporter.look()
            reporter.write_results()

        def on_save(self, args, state, control, **kwargs):
            saved()

        def on_train_end(self, args, state, control, **kwargs):
            reporter.look_back()
            reporter.write_results()

    return Callback()


def stopping(wanted: Callable[[], bool]) -> TrainerCallback:
    """Stops after a step for which `wanted` holds, saved; a check that is due then would take too long."""
    from transformers import TrainerCallback

    class Stopping(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if wanted():
                args.load_best_model_at_end = False  # what is kept is what was learned, not an earlier best
                control.should_save = control.should_training_stop = True
                control.should_evaluate = False

    return Stopping()
