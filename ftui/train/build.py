"""The trainer of a run, put together: rows side by side without padding, an adapter in fp32, and kernels for a CPU."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from ftui.config import RunConfig
from ftui.device import this_device
from ftui.encoding import Encoding
from ftui.examples import Examples
from ftui.train.arguments import arguments_of
from ftui.train.from_adapter import load_start, targets_of
from ftui.train.head import compact_head
from ftui.train.kernels import fuse
from ftui.train.noise import add_noise
from ftui.train.recompute import recompute
from ftui.train.room import Room
from ftui.train.start import check_targets, lora_config, start_from_base
from ftui.train.way import USUAL, Way

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ftui.train.trainer import Trainer


def build_trainer(
    config: RunConfig,
    model: PreTrainedModel,
    encoding: Encoding,
    examples: Examples,
    folder: Path,
    way: Way = USUAL,
) -> Trainer:
    """trl's trainer over rows that are encoded already. `folder`: for its checkpoints."""
    from transformers import EarlyStoppingCallback, PrinterCallback

    from ftui.train.trainer import Trainer

    lora, choice = lora_config(config.lora), way.choice
    if way.start:
        lora.target_modules = targets_of(way.start, model)
    else:
        check_targets(model, config.lora.target_modules)
    trainer = Trainer(
        model=model,
        args=arguments_of(config, model, examples, folder, way),
        train_dataset=examples.train.dataset(),
        eval_dataset=examples.validation.dataset() if examples.validation else None,
        processing_class=encoding.tokenizer,
        peft_config=lora,
    )
    trainer.model_accepts_loss_kwargs = True  # trl's own loss asks no model to divide by the tokens of a whole step
    trainer.ranks, trainer.room = way.ranks, Room(choice.tokens if choice else inf, config.shorten_rows)
    if choice and choice.recomputed:
        recompute(trainer.model, choice.recomputed)
    _begin_adapter(trainer.model, config, way.start)
    if trainer.neftune_noise_alpha is not None:
        add_noise(trainer.model, trainer.neftune_noise_alpha)
        trainer.neftune_noise_alpha = None  # or transformers would add its own
    trainer.remove_callback(PrinterCallback)
    if examples.validation and config.evaluation.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(config.evaluation.early_stopping_patience))
    if trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler._init_scale = 1024.0  # from 65536 the first steps overflow and are skipped
    if this_device().kind == "cpu" and not way.ranks.share_base:
        compact_head(trainer.model.get_base_model())
        fuse(trainer.model)
    return trainer


def _begin_adapter(model: PeftModel, config: RunConfig, start: Path | None) -> None:
    """Its first weights, in fp32 on every device."""
    # trl casts the adapter of a quantized base to bf16, where AdamW loses small updates and a T4 cannot train at all.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if start:
        load_start(model, start)
    elif config.lora.starts_from_base:
        start_from_base(model, config.lora)
