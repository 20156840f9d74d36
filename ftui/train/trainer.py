"""trl's trainer as ftui uses it: rows side by side without padding, an adapter in fp32, and a step that survives a lack of memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.attention import PACKABLE
from ftui.config import RunConfig
from ftui.device import is_out_of_memory, release_memory, this_device
from ftui.encoding import IGNORED, Encoding
from ftui.errors import UserError
from ftui.examples import Examples
from ftui.plan import Choice
from ftui.ranks import ALONE, Ranks
from ftui.train.checkpoints import mark_complete, prune
from ftui.train.from_adapter import load_start, targets_of
from ftui.train.head import compact_head
from ftui.train.kernels import fuse
from ftui.train.start import lora_config, start_from_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import SFTConfig, SFTTrainer

Tell = Callable[[str], None]
SHORTEST = 32  # tokens; a run whose rows must be shorter than that learns nothing
ALONG = ("input_ids", "labels", "position_ids", "seq_idx")  # what a batch holds for each token


class OutOfMemory(MemoryError):
    """Of one rank, and agreed upon by all."""


class NoRoom(UserError):
    """Memory ran out, and there is no smaller way to carry a step out."""


def build_trainer(
    config: RunConfig,
    model: PreTrainedModel,
    encoding: Encoding,
    examples: Examples,
    folder: Path,
    tell: Tell = print,
    ranks: Ranks = ALONE,
    start: Path | None = None,
    choice: Choice | None = None,
) -> SFTTrainer:
    """trl's trainer over rows that are encoded already, its adapter in fp32 on every device.

    With a `choice` a batch is a whole step, which goes through the model in as many passes as the choice says. `tell`
    gets a sentence when a step had to be carried out otherwise than planned. `start`: a folder with the adapter to go on
    from, in place of a new one.
    """
    from transformers import EarlyStoppingCallback, PrinterCallback

    lora = lora_config(config.lora)
    if start:
        lora.target_modules = targets_of(start, model)
    trainer = _trainer_class()(
        model=model,
        args=_arguments(config, model, examples, folder, ranks, is_whole=choice is not None),
        train_dataset=examples.train.dataset(),
        eval_dataset=examples.validation.dataset() if examples.validation else None,
        processing_class=encoding.tokenizer,
        peft_config=lora,
    )
    trainer.tell, trainer.ranks, trainer.may_shorten = tell, ranks, config.shorten_rows
    if choice is not None:
        trainer.tokens = choice.tokens
        if choice.recomputed:
            recompute(trainer.model, choice.recomputed)
    # trl casts the adapter of a quantized base to bf16, where AdamW loses small updates and a T4 cannot train at all.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if start:
        load_start(trainer.model, start)
    elif config.lora.starts_from_base:
        start_from_base(trainer.model, config.lora)
    trainer.remove_callback(PrinterCallback)
    if examples.validation and config.evaluation.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(config.evaluation.early_stopping_patience))
    if trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler._init_scale = 1024.0  # from 65536 the first steps overflow and are skipped
    if this_device().kind == "cpu" and not ranks.share_base:
        compact_head(trainer.model.get_base_model())
        fuse(trainer.model)
    return trainer


@cache
def _trainer_class() -> type[SFTTrainer]:
    """Made on first use, so that nothing imports trl before it trains."""
    from transformers import EarlyStoppingCallback
    from trl import SFTTrainer

    class Trainer(SFTTrainer):
        """Marks complete checkpoints, and carries a step out in passes of at most `tokens`, fewer when memory runs out.

        Where that is not enough and `may_shorten` allows it, rows are cut to their first `longest` tokens.
        """

        tell: Tell = staticmethod(print)
        ranks = ALONE
        tokens: float = inf
        may_shorten = False
        longest: float = inf

        def _save_checkpoint(self, model, trial):
            folder = Path(self.args.output_dir)
            checkpoint = folder / f"checkpoint-{self.state.global_step}"
            if self.ranks.is_first:
                shutil.rmtree(checkpoint, ignore_errors=True)  # what a crash left of an earlier sitting
            self.ranks.wait()
            try:
                super()._save_checkpoint(model, trial)
                self.ranks.wait()  # each rank writes the state of its own random numbers
            except Exception:
                shutil.rmtree(checkpoint, ignore_errors=True)  # on a full disk, room for the run's last words
                raise
            if self.ranks.is_first:
                mark_complete(checkpoint)
                prune(folder, self.state.best_global_step)

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
            if self.ranks.share_base:  # they meet in every layer, so a step is neither cut nor repeated
                return super().training_step(model, inputs, num_items_in_batch)
            model.train()  # which transformers does, too, but only once the passes are known
            before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

            def step():
                # Ranks meet after the backward pass, not within it, so that one can give up and all begin anew.
                with self._together(), self.accelerator.no_sync(model):
                    losses = [
                        super(Trainer, self).training_step(model, part, num_items_in_batch)
                        for part in self._passes(inputs)
                    ]
                self._average_gradients()
                return sum(losses)

            def undo():
                for name, parameter in model.named_parameters():
                    parameter.grad = before.get(name)

            return self._with_room(inputs, step, undo)

        def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
            """The mean loss of a batch whatever the number of passes: each one weighs what it has to predict."""
            if self.ranks.share_base:
                return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

            def check():
                total = count = 0
                for part in self._passes(inputs):
                    learned = (part["labels"][:, 1:] != IGNORED).sum().item()
                    loss, _, _ = super(Trainer, self).prediction_step(model, part, True, ignore_keys)
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
                self._make_room(inputs)

        def _passes(self, inputs):
            """Ranks meet in every pass, so all of them make as many as the one that needs most."""
            inputs = self._shortened(inputs)
            passes = split_tokens(inputs, self.tokens)
            return passes if self.ranks.count == 1 else split_rows(inputs, self.ranks.most(len(passes)))

        def _shortened(self, inputs):
            """Rows are checked whole, whatever is learned of them, so that losses before and after compare."""
            whole = self.longest == inf or not self.model.training
            return inputs if whole else shorten_rows(inputs, int(self.longest))

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
            import torch

            learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            for parameter in learned:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            mean = self.accelerator.reduce(torch.cat([parameter.grad.flatten() for parameter in learned]), "mean")
            for parameter, part in zip(learned, mean.split([each.numel() for each in learned]), strict=True):
                parameter.grad.copy_(part.view_as(parameter))

        def _make_room(self, inputs):
            """Halves the largest pass; once the rows go one by one, recomputes more layers, and cuts rows where it may."""
            inputs, step = self._shortened(inputs), self.state.global_step
            layers, recomputed = len(recomputing_layers(self.model)), recomputed_layers(self.model)
            passes = [part for part in split_tokens(inputs, self.tokens) if rows_of(part) > 1]
            if passes:
                self.tokens = max(tokens_of(half) for part in passes for half in split_rows(part, 2))
                parts = len(split_tokens(inputs, self.tokens))
                if self.model.training:
                    where = f"step {step + 1}: the step is repeated in {parts} parts"
                else:
                    where = f"the check after step {step}: its rows go in {parts} parts"
                self.tell(f"Memory ran out at {where}, which gives the same result and takes longer.")
            elif self.model.training and recomputed < layers:
                recomputed = layers if recomputed >= layers // 2 else ceil(layers / 2)
                recompute(self.model, recomputed)
                self.tell(
                    f"Memory ran out at step {step + 1} with one row at a time: activations of {recomputed} "
                    f"of {layers} layers are recomputed from here on, which gives the same result and takes up to a third longer."
                )
            elif self.model.training and self.may_shorten and longest_of(inputs) > SHORTEST:
                self.longest = max(SHORTEST, longest_of(inputs) // 2)
                self.tell(
                    f"Memory ran out at step {step + 1} although the rows go one by one and activations are recomputed: "
                    f"rows are cut to {self.longest} tokens from here on, as the settings allow. Answers that stand further back are not learned."
                )
            else:
                raise NoRoom(
                    "Memory ran out although the rows go one by one and activations are recomputed. "
                    "Shorten max_length, or choose a smaller model."
                )

    return Trainer


def recomputing_layers(model: PreTrainedModel) -> list[Any]:
    """The layers that can recompute their activations in the backward pass instead of keeping them, in their order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def recompute(model: PreTrainedModel, count: int) -> None:
    """The first `count` layers recompute. The backward pass comes to them last, when the others have let go of theirs."""
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    for number, layer in enumerate(recomputing_layers(model)):
        layer.gradient_checkpointing = number < count


def recomputed_layers(model: PreTrainedModel) -> int:
    return sum(layer.gradient_checkpointing for layer in recomputing_layers(model))


def rows_of(inputs: dict[str, Any]) -> int:
    """How many rows a batch holds, laid side by side or padded."""
    bounds = inputs.get("cu_seq_lens_q")
    return len(bounds) - 1 if bounds is not None else len(inputs["input_ids"])


def tokens_of(inputs: dict[str, Any]) -> int:
    """How many tokens a batch holds, padding included."""
    return inputs["input_ids"].numel()


def longest_of(inputs: dict[str, Any]) -> int:
    """The tokens of the longest row of a batch, padding included."""
    return int(inputs["max_length_q"]) if "max_length_q" in inputs else inputs["input_ids"].shape[-1]


def shorten_rows(inputs: dict[str, Any], longest: int) -> dict[str, Any]:
    """The batch with only the first `longest` tokens of each row."""
    import torch

    bounds = inputs.get("cu_seq_lens_q")
    if bounds is None:
        return {key: value[:, :longest] for key, value in inputs.items()}
    lengths = bounds.diff().clamp(max=longest)
    starts = bounds[:-1]
    kept = torch.cat([torch.arange(*row) for row in torch.stack([starts, starts + lengths], 1).tolist()])
    after = torch.cat([bounds[:1], lengths.cumsum(0, dtype=bounds.dtype)])
    widest = int(lengths.max())
    return {key: inputs[key][:, kept] for key in ALONG if key in inputs} | {
        "cu_seq_lens_q": after,
        "cu_seq_lens_k": after,
        "max_length_q": widest,
        "max_length_k": widest,
    }


def split_tokens(inputs: dict[str, Any], tokens: float) -> list[dict[str, Any]]:
    """The batch cut between rows into batches of at most so many tokens; a row that is longer goes alone."""
    bounds = inputs.get("cu_seq_lens_q")
    width = inputs["input_ids"].shape[-1]
    lengths = bounds.diff().tolist() if bounds is not None else [width] * rows_of(inputs)
    cuts, held = [0], 0
    for row, length in enumerate(lengths):
        if held and held + length > tokens:
            cuts.append(row)
            held = 0
        held += length
    cuts.append(len(lengths))
    return [_rows_between(inputs, *cut) for cut in pairwise(cuts)] if len(cuts) > 2 else [dict(inputs)]


def split_rows(inputs: dict[str, Any], parts: int) -> list[dict[str, Any]]:
    """The batch cut into `parts` batches of whole rows, as even as they come."""
    rows = rows_of(inputs)
    if parts <= 1 or rows <= 1:
        return [dict(inputs)]
    cuts = [round(index * rows / min(parts, rows)) for index in range(min(parts, rows) + 1)]
    return [_rows_between(inputs, start, end) for start, end in pairwise(cuts)]


def _rows_between(inputs: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    bounds = inputs.get("cu_seq_lens_q")
    if bounds is None:
        return {key: value[start:end] for key, value in inputs.items()}
    first, last = int(bounds[start]), int(bounds[end])
    part = {key: inputs[key][:, first:last] for key in ALONG if key in inputs}
    lengths = bounds[start : end + 1] - bounds[start]
    longest = int(lengths.diff().max())
    return part | {"cu_seq_lens_q": lengths, "cu_seq_lens_k": lengths, "max_length_q": longest, "max_length_k": longest}


def _arguments(
    config: RunConfig, model: PreTrainedModel, examples: Examples, folder: Path, ranks: Ranks, is_whole: bool
) -> SFTConfig:
    """`is_whole`: a batch holds all rows of a step, which the trainer carries out in passes of its own."""
    from trl import SFTConfig

    device, settings = this_device(), config.training
    every = settings.check_every(len(examples.train), ranks.count)
    checks = (
        {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True} if examples.validation else {}
    )
    values = settings.model_dump(exclude={"eval_steps", "max_length", "gradient_checkpointing", "completion_only_loss"})
    if is_whole:
        rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
        values |= {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}
    if ranks.share_base:
        values["fsdp"] = True  # FSDP2, by layers, whole checkpoints
    arguments = SFTConfig(
        output_dir=str(folder),
        **values,
        **checks,
        per_device_eval_batch_size=settings.per_device_train_batch_size,
        save_strategy="steps",
        save_steps=every,
        # Rows lie side by side, unpadded; they are cut to max_length before they come here.
        padding_free=model.config.model_type in PACKABLE,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        # FSDP's own would give the layers other names, under which peft finds no adapter to save.
        activation_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing=False,
        bf16=device.bf16,
        fp16=device.kind == "cuda" and not device.bf16,
        use_cpu=device.kind == "cpu",
        logging_nan_inf_filter=False,
        dataloader_pin_memory=device.kind == "cuda",
        ddp_broadcast_buffers=False,  # they are the same, and a rank that gave up would wait for them
        disable_tqdm=True,
    )
    if ranks.share_base:
        arguments.fsdp_plugin_args["mixed_precision_policy"] = _precision_of_shares()
    return arguments


def _precision_of_shares() -> Any:
    """The adapter is kept and its gradients are summed in fp32, and multiplied in the type of the base. Another type would
    turn packed 4-bit weights into other numbers."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(param_dtype=this_device().dtype, reduce_dtype=torch.float32)
