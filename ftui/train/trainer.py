"""trl's trainer as ftui uses it: checkpoints that are complete, and a step that survives a lack of memory, on one rank or many.

The one file that imports trl at its top, to build upon its class; it is itself imported late, where a trainer is built.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback
from transformers.trainer_callback import ExportableState
from trl import SFTTrainer

from ftui.device import is_out_of_memory, release_memory
from ftui.encoding import IGNORED
from ftui.ranks import ALONE
from ftui.train.checkpoints import is_complete, mark_complete, prune
from ftui.train.reporter import not_a_number
from ftui.train.room import Room, split_rows, split_tokens


class OutOfMemory(MemoryError):
    """Of one rank, and agreed upon by all."""


class StopWanted(Exception):
    """Somebody wants the run to stop, as all ranks agree: raised between two passes of a step or of a check."""


class Trainer(SFTTrainer):
    """Marks complete checkpoints, and carries a step out in the passes that there is `room` for.

    `tell` gets a sentence when a step had to be carried out otherwise than planned. `stop_wanted` is asked by all ranks.
    """

    tell: Callable[[str], None] = staticmethod(print)
    stop_wanted: Callable[[], bool] = staticmethod(lambda: False)
    ranks = ALONE
    room = Room()

    def _save_checkpoint(self, model, trial):
        checkpoint = self._checkpoint(self.state.global_step)
        if self.ranks.any(not self._is_finite()):  # or it would count as the last good one
            raise not_a_number(self.state.global_step)
        if self.ranks.is_first:
            shutil.rmtree(checkpoint, ignore_errors=True)  # what a crash left of an earlier sitting
        self.ranks.wait()
        with ExitStack() as given_up:  # what fails leaves room, on a full disk, for the run's last words
            given_up.callback(shutil.rmtree, checkpoint, ignore_errors=True)
            super()._save_checkpoint(model, trial)
            self.ranks.wait()  # each rank writes the state of its own random numbers
            given_up.pop_all()
        if self.ranks.is_first:
            mark_complete(checkpoint)
            prune(checkpoint.parent, self.state.best_global_step)

    def _checkpoint(self, step: int | None) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{step}"

    def _is_finite(self) -> bool:
        """Whether all that was learned, as far as this rank holds it, is numbers."""
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        parts = [each.to_local() for each in learned] if self.ranks.share_base else learned
        return all(bool(part.isfinite().all()) for part in parts)

    def _load_callback_state(self):
        """What transformers would take over wrongly when a run goes on.

        It counts the checks that brought nothing better anew in each sitting, or takes the old patience along; knows no
        callback that was not there before; and looks for the best checkpoint where the run lay then.
        """
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
        best = self._checkpoint(self.state.best_global_step)
        self.state.best_model_checkpoint = str(best) if is_complete(best) else None
        kept = self.state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
        for callback in self.callback_handler.callbacks:
            if kept and isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = kept["attributes"]["early_stopping_patience_counter"]

    def _run_epoch(self, model, *arguments, **options):
        """transformers trains one step more when a run goes on that had all its steps behind it, and stops between steps only."""
        try:
            self._catch_up()
            if self._is_over():
                self.control.should_training_stop = True
                return
            super()._run_epoch(model, *arguments, **options)
        except StopWanted:
            self._stop_here(model)

    def _catch_up(self):
        """The check that a stop left out: which checkpoint is the best, and when it is time to stop early, is told by all."""
        step, state = self.state.global_step, self.state
        is_due = step and (step % state.eval_steps == 0 or step >= state.max_steps)
        is_done = any("eval_loss" in logged and logged["step"] == step for logged in state.log_history)
        if self.args.eval_strategy == "no" or not is_due or is_done:
            return
        if self._determine_best_metric(self._evaluate(None, None), None):
            state.best_model_checkpoint = str(self._checkpoint(step))

    def _stop_here(self, model):
        """A check, and on a CPU a step, may take longer than a shutdown waits: what the last whole step left is saved."""
        model.zero_grad()
        self.args.load_best_model_at_end = False  # what is kept is what was learned, not an earlier best
        self.control.should_training_stop = True
        if not self.ranks.share(is_complete(self._checkpoint(self.state.global_step))):
            self._save_checkpoint(model, None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _is_over(self) -> bool:
        stopped_early = any(
            isinstance(callback, EarlyStoppingCallback)
            and callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
        )
        return stopped_early or self.state.global_step >= self.state.max_steps

    def gathered_adapter(self):
        """The whole adapter, on rank 0, where ranks share it as they share the base; None where each has it all."""
        if not self.ranks.share_base:
            return None
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)

    def save_model(self, output_dir=None, _internal_call=False):
        """Of a shared base transformers would gather all of it, only to save the adapter."""
        if not self.ranks.share_base:
            return super().save_model(output_dir, _internal_call)
        self._save(output_dir, self.gathered_adapter())
        self.ranks.wait()  # each rank looks for itself whether the best checkpoint is there

    def _prepare_inputs(self, inputs):
        """Where rows begin stays in main memory: the attention asks in every layer, and a GPU would be waited for."""
        inputs = super()._prepare_inputs(inputs)
        return inputs | {key: inputs[key].cpu() for key in ("cu_seq_lens_q", "cu_seq_lens_k") if key in inputs}

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The same gradient whatever the number of passes: each one's loss is its share of the whole step's tokens."""
        learn = super().training_step
        if self.ranks.share_base:  # they meet in every layer, so a step is neither cut nor repeated
            return learn(model, inputs, num_items_in_batch)
        model.train()  # which transformers does, too, but only once the passes are known
        before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        chance = _random_state()

        def step():
            # Ranks meet after the backward pass, not within it, so that one can give up and all begin anew.
            losses = []
            tokens = num_items_in_batch
            if self.room.longest < inf and tokens is not None:  # rows are cut: what is left of them counts
                tokens = tokens * _learned(self.room.rows(inputs, training=True)) / max(_learned(inputs), 1)
            with self.accelerator.no_sync(model):
                for part in self._until_stopped(inputs):
                    with self._together():
                        losses.append(learn(model, part, tokens))
            self._average_gradients()
            return sum(losses)

        def undo():
            for name, parameter in model.named_parameters():
                kept = before.get(name)
                parameter.grad = None if kept is None else kept.clone()  # the next try adds to it

        try:
            return self._with_room(inputs, step, undo)
        except StopWanted:
            _set_random_state(chance)  # the step is taken again when the run goes on
            raise

    def evaluation_loop(self, *arguments, **options):
        """The loss is that of a token, as in training; transformers' would be that of a batch, so that it changed with the
        number of rows in one."""
        self._checked = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(*arguments, **options)
        total, count = self.accelerator.reduce(self._checked.to(self.args.device), "sum").tolist()
        output.metrics["eval_loss"] = total / max(count, 1)
        return output

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of a batch whatever the number of passes: each one weighs what it has to predict."""
        predict = super().prediction_step
        if self.stop_wanted():
            raise StopWanted

        def check():
            sums = torch.zeros(2, dtype=torch.float64)
            # They who share a base meet in every layer, so a batch is not cut.
            for part in [inputs] if self.ranks.share_base else self._passes(inputs):
                loss, _, _ = predict(model, part, True, ignore_keys)
                sums += torch.tensor([loss.item(), 1], dtype=torch.float64) * _learned(part)
            return sums

        sums = check() if self.ranks.share_base else self._with_room(inputs, check)
        self._checked += sums
        return (sums[0] / sums[1].clamp(min=1)).float().to(self.args.device), None, None

    def _with_room(self, inputs, work, undo=lambda: None):
        """What `work` returns, which is begun anew with more room whenever memory runs out."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, whose traceback would keep the memory.
            undo()
            release_memory()
            said = self.room.make(self.model, inputs, self.state.global_step)
            if self.ranks.is_first:
                self.tell(said)

    def _passes(self, inputs):
        """Ranks meet in every pass, so all of them make as many as the one that needs most."""
        inputs = self.room.rows(inputs, self.model.training)
        passes = split_tokens(inputs, self.room.tokens)
        return passes if self.ranks.count == 1 else split_rows(inputs, self.ranks.most(len(passes)))

    def _until_stopped(self, inputs):
        """The passes of a step. The first step of all is carried out in any case: before it there is nothing to save."""
        for part in self._passes(inputs):
            if self.state.global_step and self.stop_wanted():
                raise StopWanted
            yield part

    def compute_loss(self, model, inputs, *arguments, **options):
        """Ranks agree after the forward pass: trl gathers its metrics then, and one that gave up would be missing."""
        if self.ranks.count == 1 or self.ranks.share_base:
            return super().compute_loss(model, inputs, *arguments, **options)

        def forward(**values):
            with self._together():
                return model(**values)

        return super().compute_loss(forward, inputs, *arguments, **options)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Memory that runs out on one rank within the block runs out on all of them, and all know."""
        lacking = None
        try:
            yield
        except OutOfMemory:
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            lacking = str(error)
        if self.ranks.any(lacking is not None):
            raise OutOfMemory(lacking or "Another process is out of memory.")

    def _average_gradients(self):
        """What DDP does within the backward pass, in one piece after it, at the last batch of a step."""
        if self.ranks.count == 1 or not self.accelerator.sync_gradients:
            return
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in learned:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        mean = self.accelerator.reduce(torch.cat([parameter.grad.flatten() for parameter in learned]), "mean")
        for parameter, part in zip(learned, mean.split([each.numel() for each in learned]), strict=True):
            parameter.grad.copy_(part.view_as(parameter))


def _learned(batch):
    """How many tokens of a batch are predicted and count."""
    return (batch["labels"][:, 1:] != IGNORED).sum().item()


def _random_state():
    """Of the numbers that dropout and noise draw."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state):
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
