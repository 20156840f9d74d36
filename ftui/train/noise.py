"""NEFTune: noise on the embeddings while a model learns (Jain et al. 2023), each row's by its own length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel


def add_noise(model: PeftModel, alpha: float) -> None:
    """Each number of an embedding moves by at most alpha / √(tokens of its row · width).

    transformers takes all tokens of a pass for one row: with rows side by side that is too little noise, and another amount
    for each number of passes.
    """
    import torch

    base, bounds = model.get_base_model(), None

    def remember(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal bounds
        bounds = kwargs.get("cu_seq_lens_q")

    def disturb(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        rows = torch.tensor([output.shape[1]]) if bounds is None else bounds.diff()
        tokens = rows.repeat_interleave(rows).to(output.device, non_blocking=True)
        most = alpha / (tokens * output.shape[-1]).sqrt()
        return output + torch.empty_like(output).uniform_(-1, 1) * most[:, None].to(output.dtype)

    base.register_forward_pre_hook(remember, with_kwargs=True)
    base.get_input_embeddings().register_forward_hook(disturb)
