"""rehearse: a few real steps of a run, a few words of a reply, and the plan corrected by what they took. Nothing is kept.

The model is loaded and the trainer built as the run does it. This file does not know how a run is carried out to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from ftui.config import RunConfig
from ftui.device import Lease, forget_peak, is_out_of_memory, memory_peak, release_memory, this_device
from ftui.encoding import Encoding, Message
from ftui.errors import UserError
from ftui.examples import Example, Examples, Part
from ftui.models import check_tunable, config_of, load_model, model_folder
from ftui.plan import Choice, Measured, Plan, plan_of, reply_limit
from ftui.replies import answer_losses, reply_batches, reply_to_all
from ftui.train import NoRoom, Way, build_trainer, recomputed_layers, watch_questions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

LONGEST, USUAL = 2, 3  # steps; the second of the longest has Adam's moments beside it
ENOUGH_SECONDS = 90  # no further step is begun after that; but the first, in which everything warms up, is not enough
WORDS = 2, 12  # the difference is what a word takes, without the reading of the question
READ_ROWS = 6
ROWS_SECONDS = 5  # a run reads and encodes its rows once more

Report = Callable[[str], None]


def rehearse(
    config: RunConfig, encoding: Encoding, examples: Examples, lease: Lease, report: Report = lambda _: None
) -> Plan:
    """The plan, corrected. `report` gets a sentence for each thing that begins.

    Where memory runs out, the plan says that the run does not fit and what to change. UserError while the accelerator is
    busy, and for a run so large that trying it would end this process.
    """
    base_dir = model_folder(config.base_model, config.revision, report=report)
    check_tunable(base_dir)
    model_config = config_of(base_dir)
    device = this_device()
    planned = plan_of(config, examples, model_config, device)
    if planned.verdict == "does not fit" and device.kind == "cpu":
        raise UserError(
            f"Not rehearsed: without the memory for it, the system would end this program. {planned.advice}"
        )
    with lease.held_by("a rehearsal"):
        release_memory()
        try:
            measured = _Trial(config, encoding, examples, report).measured(base_dir, planned.choice)
        except (NoRoom, RuntimeError, MemoryError) as error:
            if not isinstance(error, NoRoom) and not is_out_of_memory(error):
                raise
            measured = None
        finally:
            release_memory()
        # Outside the except block, whose traceback would keep the memory.
        release_memory()
    if measured is None:
        basis = "Measured: memory ran out in the rehearsal. The times are an estimate."
        measured = Measured({}, max(planned.peak_memory_bytes, device.memory), planned.choice, basis, fits=False)
    return plan_of(config, examples, model_config, device, measured)


class _Learned(NamedTuple):
    """What the steps have left: the model, how they were carried out in the end, and how many there were.

    In seconds, `building`: the trainer, before them; `a_token`: one of a usual step.
    """

    model: PreTrainedModel
    choice: Choice
    steps: int
    building: float
    a_token: float


class _Trial(NamedTuple):
    """A run in small. `report` gets a sentence for each thing that begins."""

    config: RunConfig
    encoding: Encoding
    examples: Examples
    report: Report

    def measured(self, base_dir: Path, choice: Choice) -> Measured:
        """What each piece of work takes. NoRoom, or the libraries' own error, where memory runs out."""
        forget_peak()
        started = time.perf_counter()
        self.report("Rehearsing: the model is loaded.")
        model = load_model(base_dir, self.config.quantization)
        loading = time.perf_counter() - started
        base_word, _ = self._writing_and_reading(model)
        self.report("Rehearsing: the longest rows go first.")
        learned = self._learn(model, choice)
        self.report("Rehearsing: a few words of a reply.")
        word, reading = self._writing_and_reading(learned.model)
        watched = watch_questions(self.config, self.examples)
        rates = {
            "loading": loading + learned.building + ROWS_SECONDS,
            "training": learned.a_token,
            "reading": reading,
            "word": word,
            "base_word": base_word,
            "watched_word": self._word(learned.model, watched) if watched else word,
        }
        basis = (
            f"Measured: {learned.steps} steps on this machine, the longest first ({1 / learned.a_token:,.0f} tokens a second), "
            "loading, reading and writing. Merging is an estimate."
        )
        return Measured(rates, memory_peak(), learned.choice, basis)

    def _learn(self, model: PreTrainedModel, choice: Choice) -> _Learned:
        """The longest steps and a few usual ones, carried out as the run would."""
        steps = _chosen(self.config, self.examples.train)
        seconds: list[float] = []
        with TemporaryDirectory(prefix="ftui-rehearsal-") as folder:
            started = time.perf_counter()
            rows = _only(self.examples, [row for step in steps for row in step])
            shortened = _shortened(self.config, steps)
            trainer = build_trainer(shortened, model, self.encoding, rows, Path(folder), Way(choice=choice))
            trainer.tell = self._made_room
            trainer.args.train_sampling_strategy = "sequential"
            building = time.perf_counter() - started
            trainer.add_callback(_clock(seconds))
            trainer.train()
        trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        choice = choice._replace(tokens=int(trainer.room.tokens), recomputed=recomputed_layers(trained))
        trainer.optimizer = trainer.lr_scheduler = None
        trainer.accelerator.free_memory()
        taken = list(zip(steps, seconds, strict=False))
        usual = taken[LONGEST:] or taken[-1:]
        tokens = sum(len(row.encoded.input_ids) for step, _ in usual for row in step)
        return _Learned(trained, choice, len(seconds), building, sum(took for _, took in usual) / tokens)

    def _made_room(self, said: str) -> None:
        """What was taken when memory ran out is not what the steps take that had room."""
        forget_peak()
        self.report(said)

    def _writing_and_reading(self, model: PreTrainedModel) -> tuple[float, float]:
        """Seconds of a forward pass beside its tokens, and of a token. Asked are rows that the run asks, too, as many at once."""
        few = (self.examples.test or self.examples.validation or self.examples.train)[:READ_ROWS]
        began = time.perf_counter()
        answer_losses(model, [example.encoded for example in few])
        reading = time.perf_counter() - began
        tokens = sum(len(example.encoded.input_ids) for example in few)
        asked = [example for example in self.examples.test[: self.config.evaluation.limit] or few if example.is_chat]
        if not asked:
            return 0.0, reading / tokens
        limit = reply_limit(self.config, [example.encoded.trained for example in asked])
        first, *_ = reply_batches([len(example.encoded.input_ids) for example in asked], limit)
        word = self._word(model, [asked[place].question for place in first])
        return word, max(reading - len(few) * word, reading / 4) / tokens

    def _word(self, model: PreTrainedModel, questions: list[list[Message]]) -> float:
        """Seconds that one more token of each of these replies takes."""
        taken = []
        for words in WORDS:
            began = time.perf_counter()
            replies = reply_to_all(model, self.encoding, questions, words)
            taken.append((time.perf_counter() - began, max(reply.tokens for reply in replies)))
        (short, few_words), (long, more_words) = taken
        return (long - short) / (more_words - few_words) if more_words > few_words else long / more_words


def _only(examples: Examples, train: list[Example]) -> Examples:
    """Nothing but these rows to learn from, in this order."""
    part = partial(Part, examples.rows, examples.train.template)
    rows = part((example.row, example.encoded) for example in train)
    return replace(examples, train=rows, validation=part(), test=part())


def _chosen(config: RunConfig, train: Part) -> list[list[Example]]:
    """The steps: the longest rows twice, then rows of every length, a mixture in each step."""
    by_length = train.lengths.argsort(kind="stable").tolist()
    rows = min(config.training.per_device_train_batch_size * config.training.gradient_accumulation_steps, len(train))
    spread = [by_length[int((place + 0.5) * len(by_length) / (rows * USUAL))] for place in range(rows * USUAL)]
    steps = [by_length[-rows:]] * LONGEST + [spread[start::USUAL] for start in range(USUAL)]
    return [[train[place] for place in step] for step in steps]


def _shortened(config: RunConfig, chosen: list[list[Example]]) -> RunConfig:
    """The same training, over after these steps."""
    update = {
        "max_steps": len(chosen),
        "per_device_train_batch_size": len(chosen[0]),
        "gradient_accumulation_steps": 1,
        "eval_steps": len(chosen),
        "report_to": "none",
    }
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def _clock(seconds: list[float]) -> TrainerCallback:
    """Writes down what each step takes, and ends the training when it has taken long enough."""
    import torch
    from transformers import TrainerCallback

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    class Clock(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = now()

        def on_step_end(self, args, state, control, **kwargs):
            seconds.append(now() - self.began)
            if sum(seconds) > ENOUGH_SECONDS and len(seconds) > 1:
                control.should_training_stop = True

    return Clock()
