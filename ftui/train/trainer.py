"""trl's trainer as ftui uses it: checkpoints that are complete, and a step that survives a lack of memory, on one rank or many.

The one file that imports trl at its top, to build upon its class; it is itself imported late, where a trainer is built.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from transformers import EarlyStoppingCallback
from trl import SFTTrainer

from ftui.device import is_out_of_memory, release_memory
from ftui.encoding import IGNORED
from ftui.ranks import ALONE
from ftui.train.checkpoints import mark_complete, prune
from ftui.train.room import Room, split_rows, split_tokens


class OutOfMemory(MemoryError):
    """Of one rank, and agreed upon by all."""


class Trainer(SFTTrainer):
    """Marks complete checkpoints, and carries a step out in the passes that there is `room` for.

    `tell` gets a sentence when a step had to be carried out otherwise than planned.
    """

    tell: Callable[[str], None] = staticmethod(print)
    ranks = ALONE
    room = Room()

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir)
        checkpoint = folder / f"checkpoint-{self.state.global_step}"
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
            prune(folder, self.state.best_global_step)

    def _load_callback_state(self):
        """transformers counts the checks that brought nothing better anew in each sitting, or takes the old patience along."""
        kept = self.state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
        for callback in self.callback_handler.callbacks:
            if kept and isinstance(callback, EarlyStoppingCallback):
                callback.early_stopping_patience_counter = kept["attributes"]["early_stopping_patience_counter"]

    def _run_epoch(self, *arguments, **options):
        """transformers trains one step more when a run goes on that had all its steps behind it."""
        if self._is_over():
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*arguments, **options)

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

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The same gradient whatever the number of passes: each one's loss is its share of the whole step's tokens."""
        learn = super().training_step
        if self.ranks.share_base:  # they meet in every layer, so a step is neither cut nor repeated
            return learn(model, inputs, num_items_in_batch)
        model.train()  # which transformers does, too, but only once the passes are known
        before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

        def step():
            # Ranks meet after the backward pass, not within it, so that one can give up and all begin anew.
            with self._together(), self.accelerator.no_sync(model):
                losses = [learn(model, part, num_items_in_batch) for part in self._passes(inputs)]
            self._average_gradients()
            return sum(losses)

        def undo():
            for name, parameter in model.named_parameters():
                parameter.grad = before.get(name)

        return self._with_room(inputs, step, undo)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The mean loss of a batch whatever the number of passes: each one weighs what it has to predict."""
        predict = super().prediction_step
        if self.ranks.share_base:
            return predict(model, inputs, prediction_loss_only, ignore_keys)

        def check():
            total = count = 0
            for part in self._passes(inputs):
                learned = (part["labels"][:, 1:] != IGNORED).sum().item()
                loss, _, _ = predict(model, part, True, ignore_keys)
                total, count = total + loss * learned, count + learned
            return total / count

        return self._with_room(inputs, check), None, None

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
