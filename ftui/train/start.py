"""The adapter at its start: peft's settings for it, and first weights that are taken out of the base.

PiSSA and OLoRA begin with the main directions of the base, A0 and B0, and subtract their product from it. Here the base
stays as it is: a frozen half of the adapter, -B0 and A0, subtracts them. So the adapter is a plain LoRA of twice the rank
at every step: it can be resumed, loaded, switched off and merged like any other, on a 4-bit base as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ftui.config import LoraSettings
from ftui.errors import UserError

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import PreTrainedModel


def lora_config(settings: LoraSettings) -> LoraConfig:
    """peft's config; twice the rank, at the same scaling, where a frozen half comes with it."""
    from peft import LoraConfig

    values = settings.model_dump()
    if isinstance(settings.target_modules, tuple):
        values["target_modules"] = list(settings.target_modules)
    if settings.starts_from_base:
        wider = 2**0.5 if settings.use_rslora else 2
        values |= {"r": settings.rank, "lora_alpha": wider * settings.lora_alpha, "init_lora_weights": True}
    return LoraConfig(task_type="CAUSAL_LM", **values)


def check_targets(model: PreTrainedModel, targets: str | tuple[str, ...]) -> None:
    """UserError where `model` does not have the layers that `targets` names, or they can hold no adapter."""
    from torch.nn import Embedding, Linear
    from transformers.pytorch_utils import Conv1D

    if targets == "all-linear":
        return
    fitting = {name: isinstance(module, Linear | Conv1D | Embedding) for name, module in model.named_modules()}
    patterns = [targets] if isinstance(targets, str) else [rf"(.*\.)?{re.escape(name)}" for name in targets]
    for target, pattern in zip([targets] if isinstance(targets, str) else targets, patterns, strict=True):
        named = [fits for name, fits in fitting.items() if re.fullmatch(pattern, name)]
        if not named or not all(named):
            known = ", ".join(sorted({name.rpartition(".")[2] for name, fits in fitting.items() if fits}))
            raise UserError(
                f"lora.target_modules: “{target}” names no layers of this model that can hold an adapter. It has: {known}."
            )


def start_from_base(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Gives every layer of peft's `model` its first weights, [A0; A0] and [B0, -B0], whose second half never learns.

    UserError where a layer has fewer directions than the rank.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight
    from peft.utils.other import transpose

    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or not layer.lora_A:
            continue
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        weight = dequantize_module_weight(layer.get_base_layer()).detach().float()
        weight = transpose(weight, getattr(layer, "fan_in_fan_out", False))
        if settings.r > min(weight.shape):
            raise UserError(
                f"lora.r: {settings.r} is more than {name.rpartition('.')[2]} has directions. With "
                f"lora.init_lora_weights: {settings.init_lora_weights} choose at most {min(weight.shape)}."
            )
        first_a, first_b = _main_directions(weight, settings, layer.scaling["default"])
        a.data.copy_(torch.cat([first_a, first_a]))
        b.data.copy_(torch.cat([first_b, -first_b], dim=1))
        a.register_hook(lambda gradient: _without_second_half(gradient, dim=0))
        b.register_hook(lambda gradient: _without_second_half(gradient, dim=1))


def _main_directions(weight: torch.Tensor, settings: LoraSettings, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, in) and B (out, r) of a weight (out, in), as in peft's `pissa_init` and `olora_init`."""
    import torch

    r = settings.r
    if settings.init_lora_weights == "olora":
        q, upper = torch.linalg.qr(weight)
        return upper[:r], q[:, :r]
    if settings.init_lora_weights == "pissa":
        left, strength, right = torch.linalg.svd(weight, full_matrices=False)
        left, strength, right = left[:, :r], strength[:r], right[:r]
    else:
        left, strength, right = torch.svd_lowrank(weight, r, niter=16)
        right = right.T
    root = (strength / scaling).sqrt()
    return root[:, None] * right, left * root


def _without_second_half(gradient: torch.Tensor, dim: int) -> torch.Tensor:
    half = gradient.shape[dim] // 2
    gradient = gradient.clone()
    gradient.narrow(dim, half, half).zero_()
    return gradient
