"""Attention for rows packed side by side on a CPU: each row attends to itself alone, and no padding is computed.

transformers' own packed path is correct, too, but multiplies a T × T mask; here the work is the sum of the rows'
squares. On a GPU the stock path stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

NAME = "ftui_varlen"
# Architectures whose rows may lie side by side: transformers builds their masks from position_ids.
PACKABLE = ("llama", "mistral", "qwen2", "qwen3")
BLOCK = 128  # queries at a time: what lies right of the diagonal is not computed, and the scores stay in the cache


def register_varlen_attention() -> str:
    """Makes the attention known to transformers; its name goes into `attn_implementation`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, varlen_attention)
    AttentionMaskInterface.register(NAME, _mask)
    return NAME


def varlen_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """Causal attention within each segment of `cu_seq_lens_q`; without segments, transformers' SDPA.

    query (1, heads, T, d), key and value (1, kv_heads, T, d) -> (1, T, heads, d).
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    bounds = kwargs.get("cu_seq_lens_q")
    if bounds is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _function().apply(query, key, value, bounds.tolist(), scaling), None


def _blocks(bounds: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Where the row starts, where the block of its queries starts and where it ends."""
    for start, end in zip(bounds, bounds[1:], strict=False):
        for first in range(start, end, BLOCK):
            yield start, first, min(first + BLOCK, end)


@cache
def _function() -> type:
    """torch's own attention takes most of its time, in the backward pass, for short rows; plain products do not."""
    import torch

    def grouped(heads: Any, keys: int) -> Any:
        """(1, heads, T, d) -> (kv_heads, T, group, d) in fp32: the queries of a key lie together, row after row."""
        tokens, width = heads.shape[2:]
        return (
            heads.view(keys, -1, tokens, width).transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        )

    def weights(query, key, scaling, later):
        """softmax of a block of queries over the keys up to its end."""
        scores = torch.bmm(query, key.transpose(1, 2)).mul_(scaling)
        count = query.shape[1] // later.shape[1]
        scores[:, :, -count:] += later[:count].flatten(0, 1)[:, :count]
        return scores.softmax(-1)

    def future(group):
        return torch.full((BLOCK, BLOCK), float("-inf")).triu_(1)[:, None].expand(-1, group, -1)

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, query, key, value, bounds, scaling):
            ctx.save_for_backward(query, key, value)
            ctx.bounds, ctx.scaling = bounds, scaling
            with torch.autocast("cpu", enabled=False):
                q, k, v = grouped(query, key.shape[1]), key[0].float(), value[0].float()
                out, later = torch.empty_like(q), future(q.shape[2])
                for start, first, end in _blocks(bounds):
                    rows = q[:, first:end].flatten(1, 2)
                    probabilities = weights(rows, k[:, start:end], scaling, later)
                    out[:, first:end] = torch.bmm(probabilities, v[:, start:end]).view(out[:, first:end].shape)
            return out.to(query.dtype).transpose(0, 1).flatten(1, 2)[None]

        @staticmethod
        def backward(ctx, grad):
            query, key, value = ctx.saved_tensors
            keys = key.shape[1]
            q, k, v, g = grouped(query, keys), key[0].float(), value[0].float(), grouped(grad.transpose(1, 2), keys)
            grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            later = future(q.shape[2])
            for start, first, end in _blocks(ctx.bounds):
                rows, grads = q[:, first:end].flatten(1, 2), g[:, first:end].flatten(1, 2)
                seen = slice(start, end)
                p = weights(rows, k[:, seen], ctx.scaling, later)
                grad_v[:, seen].baddbmm_(p.transpose(1, 2), grads)
                grad_p = torch.bmm(grads, v[:, seen].transpose(1, 2))
                grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
                grad_q[:, first:end] = torch.bmm(grad_s, k[:, seen]).view(grad_q[:, first:end].shape)
                grad_k[:, seen].baddbmm_(grad_s.transpose(1, 2), rows, alpha=ctx.scaling)
            grad_q = grad_q.mul_(ctx.scaling).to(query.dtype).transpose(1, 2).flatten(0, 1)[None]
            return grad_q, grad_k.to(key.dtype)[None], grad_v.to(value.dtype)[None], None, None

    return Attention


def _mask(*args: Any, allow_is_causal_skip: bool = True, attention_mask: Any = None, **kwargs: Any) -> Any:
    """No mask for packed rows (transformers forbids the causal shortcut only for them), SDPA's own otherwise."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and not allow_is_causal_skip:
        return None
    return sdpa_mask(*args, allow_is_causal_skip=allow_is_causal_skip, attention_mask=attention_mask, **kwargs)
