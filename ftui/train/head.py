"""The head of the model on a CPU: logits only where something is learned, and never all of them at once."""

from __future__ import annotations

import functools
import types
from functools import cache
from typing import TYPE_CHECKING, Any

from ftui.encoding import IGNORED
from ftui.plan import HEAD_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def compact_head(model: PreTrainedModel) -> None:
    """Lets trl's fused head compute only the learned tokens, as it does on CUDA; on a CPU it computes all of them.

    A fifth of a small model's work. Heads that scale or cap their logits, or are trained, and mixtures of experts, whose
    routers add to the loss, keep trl's own path.
    """
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    config = model.config.get_text_config().to_dict()
    if any(config.get(key) for key in (*SCALED, "output_router_logits")):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        head = self.get_output_embeddings()
        if not fused_lm_head or not _is_frozen(head):
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        learned = labels[:, 1:] != IGNORED
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1][learned]
        log_probs, is_top1 = _frozen_head().apply(hidden, head.weight, head.bias, labels[:, 1:][learned])
        zeros = log_probs.new_zeros(learned.shape)
        return FusedCausalLMOutput(
            log_probs=zeros.masked_scatter(learned, log_probs),
            entropy=zeros.detach(),
            is_top1=torch.zeros_like(learned).masked_scatter(learned, is_top1),
            label_mask=learned,
        )

    model.forward = types.MethodType(forward, model)


def _is_frozen(head: Any) -> bool:
    import torch

    return type(head) is torch.nn.Linear and not any(parameter.requires_grad for parameter in head.parameters())


@cache
def _frozen_head() -> type:
    """log p(target) of each hidden state, in fp32. Its slope is known at once (the target's row of the weights less the
    mean row under p), so no logits are kept for the backward pass; a sixth less time than keeping them."""
    import torch
    from torch.nn.functional import linear

    class FrozenHead(torch.autograd.Function):
        @staticmethod
        def forward(ctx, hidden, weight, bias, targets):
            log_probs, is_top1 = torch.empty(len(targets)), torch.empty(len(targets), dtype=torch.bool)
            slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
            with torch.autocast("cpu", enabled=False):
                for start in range(0, len(targets), HEAD_TOKENS):
                    part = slice(start, start + HEAD_TOKENS)
                    target = targets[part, None]
                    logits = linear(hidden[part].to(weight.dtype), weight, bias).float()
                    is_top1[part] = logits.argmax(-1) == target[:, 0]
                    log_p = logits.log_softmax(-1)
                    log_probs[part] = log_p.gather(-1, target)[:, 0]
                    if slopes is not None:
                        # minus one before rounding, or the slope of a token that is nearly certain is lost
                        rest = log_p.exp_().scatter_add_(-1, target, log_p.new_full(target.shape, -1.0))
                        slopes[part] = -(rest.to(weight.dtype) @ weight)
            ctx.save_for_backward(slopes)
            ctx.mark_non_differentiable(is_top1)
            return log_probs, is_top1

        @staticmethod
        def backward(ctx, grad, _):
            (slopes,) = ctx.saved_tensors
            return (slopes * grad[:, None]).to(slopes.dtype), None, None, None

    return FrozenHead
