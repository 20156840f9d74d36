"""Layers that recompute their activations in the backward pass instead of keeping them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def recomputing_layers(model: PreTrainedModel) -> list[Any]:
    """Those that can, in their order."""
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
