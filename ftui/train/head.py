"""The head of the model on a CPU: logits only where something is learned. trl does the same on CUDA alone."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

from ftui.encoding import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HEAD_TOKENS = 2048
SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def compact_head(model: PreTrainedModel) -> None:
    """Lets trl's fused head compute only the learned tokens, as it does on CUDA; on a CPU it computes all of them.

    A fifth of a small model's work. Heads that scale or cap their logits keep trl's own path.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from trl.trainer.utils import FusedCausalLMOutput

    config = model.config.get_text_config().to_dict()
    if any(config.get(key) for key in SCALED):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        learned = labels[:, 1:] != IGNORED if fused_lm_head else None
        if learned is None or int(learned.sum()) > HEAD_TOKENS:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        kwargs["use_cache"] = False
        hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1][learned]
        logits, targets = self.get_output_embeddings()(hidden).float(), labels[:, 1:][learned]
        log_probs = -cross_entropy(logits, targets, reduction="none")
        zeros = log_probs.new_zeros(learned.shape)
        return FusedCausalLMOutput(
            log_probs=zeros.masked_scatter(learned, log_probs),
            entropy=zeros.detach(),
            is_top1=torch.zeros_like(learned).masked_scatter(learned, logits.detach().argmax(-1) == targets),
            label_mask=learned,
        )

    model.forward = types.MethodType(forward, model)
