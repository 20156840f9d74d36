"""train: QLoRA with trl on rows that ftui has encoded itself. Everything it says goes through the run.

This package does not know how rows were rendered, nor who watches.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.config import RunConfig
from ftui.device import release_memory
from ftui.encoding import Encoding, Message
from ftui.errors import UserError
from ftui.examples import Examples
from ftui.ranks import Ranks
from ftui.runs import Run
from ftui.train.arguments import check_possible
from ftui.train.build import build_trainer
from ftui.train.checkpoints import (
    Checkpoint,
    checkpoint_at,
    checkpoints_of,
    complete_checkpoints,
    forget_outcome,
    is_shared,
    rewind,
    step_of,
)
from ftui.train.from_adapter import check_same, start_of, with_start
from ftui.train.recompute import recomputed_layers
from ftui.train.reporter import RESULTS, NotANumber, Reporter, callback_of, stopping
from ftui.train.room import NoRoom
from ftui.train.way import USUAL, Way

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ftui.train.trainer import Trainer

__all__ = [
    "RESULTS",
    "Checkpoint",
    "NoRoom",
    "Trained",
    "Way",
    "build_trainer",
    "check_possible",
    "checkpoint_at",
    "checkpoints_of",
    "complete_checkpoints",
    "recomputed_layers",
    "rewind",
    "step_of",
    "train",
    "watch_questions",
    "with_start",
]


class Trained(NamedTuple):
    """`model`: base and adapter as trained, in eval mode; None where the ranks shared the base. `steps`: how many were done;
    `stopped`: whether somebody asked; `validation_loss`: of this very adapter, where it was measured; `kept_step`: where the
    adapter is from."""

    model: PreTrainedModel | None
    steps: int
    stopped: bool
    train_loss: float | None
    validation_loss: float | None
    kept_step: int
    is_best: bool  # chosen by its validation loss

    @property
    def kept(self) -> str:
        """Which step the adapter is from, as the log, the status, the card and the report say it."""
        why = "the best by validation" if self.is_best else "the last one"
        return f"Kept: step {self.kept_step} of {self.steps}, {why}."


def train(
    run: Run,
    model: PreTrainedModel,
    encoding: Encoding,
    examples: Examples,
    way: Way = USUAL,
    saved: Callable[[], None] = lambda: None,
) -> Trained | None:
    """Trains an adapter on `model` (from `load_model`), from the newest complete checkpoint where there is one, and saves it.

    Only rank 0 says and saves something; the others have nothing to return. `way.start` is found here. `saved` is called
    after each checkpoint. UserError when the loss is not a number; the adapter of the last checkpoint is kept then.
    """
    ranks, folder = way.ranks, run.checkpoints_dir
    checkpoint = _newest_for(ranks, folder)
    if run.config.adapter:
        way = way._replace(start=checkpoint or start_of(run.config, run.path.parent))
    trainer = build_trainer(run.config, model, encoding, examples, folder, way)
    if checkpoint:
        check_same(checkpoint, trainer.model)
    trainer.tell = lambda said: run.log("message", said, "warning")
    # A shared base is gathered for each word of a reply, and by all: nobody asks it while it learns.
    questions = [] if ranks.share_base else watch_questions(run.config, examples)
    reporter = Reporter(run, encoding, questions)
    _learn(trainer, reporter, checkpoint, saved)
    adapter = trainer.gathered_adapter()
    if not ranks.is_first:
        del trainer, model
        release_memory()  # rank 0 may want the room
    ranks.wait()
    ranks.part()
    if not ranks.is_first:
        return None
    trained = _save_adapter(run, encoding, trainer, adapter)
    left = None if ranks.share_base else trained
    state = trainer.state
    is_best = trainer.args.load_best_model_at_end and state.best_global_step is not None
    step = state.best_global_step if is_best else state.global_step
    loss = next((data["validation_loss"] for data in reversed(run.metrics()) if data["step"] == step), None)
    loss = state.best_metric if is_best else loss
    return Trained(left, state.global_step, run.stop_wanted, reporter.train_loss, loss, step, is_best)


def _newest_for(ranks: Ranks, folder: Path) -> Path | None:
    """The checkpoint to go on from, the same for all. UserError where others wrote it than could read it."""
    checkpoint = ranks.share(next(iter(complete_checkpoints(folder)), None))
    if checkpoint and is_shared(checkpoint) != ranks.share_base:
        raise UserError(
            "The checkpoints of this run were written by processes that shared the base. Resume it with --use_fsdp."
            if is_shared(checkpoint)
            else "The checkpoints of this run were not written by processes that share a base. Resume it without --use_fsdp."
        )
    return checkpoint


def _learn(trainer: Trainer, reporter: Reporter, checkpoint: Path | None, saved: Callable[[], None]) -> None:
    """All the steps; what they say goes through the reporter of rank 0."""
    run, ranks = reporter.run, trainer.ranks
    trainer.stop_wanted = lambda: ranks.share(run.stop_wanted)
    trainer.add_callback(stopping(trainer.stop_wanted))
    if ranks.is_first:
        trainer.add_callback(callback_of(reporter, saved))
        _begin(reporter, trainer.model, checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except NotANumber as error:
        if not ranks.is_first:
            raise
        raise NotANumber(f"{error} {_keep_last_checkpoint(run, reporter.encoding)}") from None


def _begin(reporter: Reporter, model: PreTrainedModel, checkpoint: Path | None) -> None:
    if checkpoint is None:
        return reporter.ask(model, step=0)
    step = step_of(checkpoint)
    reporter.run.log("resumed", f"Going on from the checkpoint of step {step}.", step=step)


def _save_adapter(run: Run, encoding: Encoding, trainer: Trainer, adapter: dict[str, Any] | None) -> PreTrainedModel:
    """Saves what was learned, lets go of all that only learning needed, and returns base and adapter in eval mode."""
    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
    with _new_adapter(run, encoding) as folder:
        trained.save_pretrained(folder, state_dict=adapter)
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    return trained


@contextmanager
def _new_adapter(run: Run, encoding: Encoding) -> Iterator[Path]:
    """A folder to write the adapter into; where it is another one than before, what came of that goes first."""
    weights = "adapter_model.safetensors"
    with run.new_folder("adapter") as folder:
        yield folder
        encoding.save(folder)
        before = run.adapter_dir / weights
        if not (before.is_file() and filecmp.cmp(before, folder / weights, shallow=False)):
            forget_outcome(run)


def watch_questions(config: RunConfig, examples: Examples) -> list[list[Message]]:
    """What the model is asked while it learns: the watch prompts, else the first three validation rows."""
    if config.watch_prompts:
        return [config.template.turn(text) for text in config.watch_prompts]
    return [example.question for example in examples.validation if example.is_chat][:3]


def _keep_last_checkpoint(run: Run, encoding: Encoding) -> str:
    """Takes the adapter out of the newest complete checkpoint."""
    checkpoint = next(iter(complete_checkpoints(run.checkpoints_dir)), None)
    if checkpoint is None:
        return "There was no checkpoint yet, so nothing of this run is kept."
    with _new_adapter(run, encoding) as folder:
        for path in checkpoint.glob("adapter_*"):
            shutil.copy(path, folder)
    return f"The adapter of step {step_of(checkpoint)}, before that, is kept."
