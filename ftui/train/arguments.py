"""What a run's settings are for trl's trainer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.attention import PACKABLE
from ftui.config import RunConfig
from ftui.device import this_device
from ftui.errors import UserError
from ftui.examples import Examples
from ftui.train.way import Way

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import SFTConfig


def check_possible(config: RunConfig) -> None:
    """UserError for settings that this machine cannot carry out."""
    wanted = config.training.report_to
    if wanted != "none" and find_spec(wanted) is None:
        raise UserError(f"training.report_to: {wanted} is not installed. Install it with pip, or choose none.")
    if "8bit" in config.training.optim and this_device().kind == "cpu":
        raise UserError(f"training.optim: {config.training.optim} needs a GPU. Choose adamw_torch.")


def arguments_of(config: RunConfig, model: PreTrainedModel, examples: Examples, folder: Path, way: Way) -> SFTConfig:
    from trl import SFTConfig

    device, settings = this_device(), config.training
    every = settings.check_every(len(examples.train), way.ranks.count)
    values = settings.model_dump(exclude={"eval_steps", "max_length", "gradient_checkpointing", "completion_only_loss"})
    values["max_steps"] = settings.max_steps or -1  # 0 would be no step at all
    if examples.validation:
        values |= {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True}
    if settings.steps(len(examples.train), way.ranks.count) == 1:
        values["warmup_steps"] = 0  # a warm-up begins with a rate of zero
    if way.choice:  # a batch is a whole step, of which the trainer makes the passes
        rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
        values |= {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}
    if way.ranks.share_base:
        values["fsdp"] = True  # FSDP2, by layers, whole checkpoints
    arguments = SFTConfig(
        output_dir=str(folder),
        **values,
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
    if way.ranks.count == 1 and arguments.n_gpu > 1:
        arguments._n_gpu = (
            1  # the model lies on the first; transformers would replicate it to all others, which trl refuses
        )
    if way.ranks.share_base:
        arguments.fsdp_plugin_args["mixed_precision_policy"] = _precision_of_shares()
    return arguments


def _precision_of_shares() -> Any:
    """The adapter is kept and its gradients are summed in fp32, and multiplied in the type of the base. Another type would
    turn packed 4-bit weights into other numbers."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(param_dtype=this_device().dtype, reduce_dtype=torch.float32)
