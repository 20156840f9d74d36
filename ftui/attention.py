"""Attention for rows packed side by side: each row attends to itself alone, and no padding is computed.

transformers' own packed path is correct, too, but multiplies a T × T mask, which autograd keeps for every layer; here the
work is the sum of the rows' squares, and nothing is masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

NAME = "ftui_varlen"
# Architectures whose rows may lie side by side: transformers builds their masks from position_ids.
PACKABLE = ("llama", "mistral", "qwen2", "qwen3")
SHORT = 512  # tokens of a row
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
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    bounds = kwargs.get("cu_seq_lens_q")
    if bounds is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    lengths = bounds.diff().tolist()
    if query.device.type == "cpu" and max(lengths) <= SHORT:
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return _short_rows().apply(query, key, value, bounds.tolist(), scaling), None
    # enable_gqa is four times slower than copying the heads on a CPU; on a T4 it leaves only the slowest kernel.
    key, value = repeat_kv(key, module.num_key_value_groups), repeat_kv(value, module.num_key_value_groups)
    segments = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    out = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in segments]
    return torch.cat(out, 2).transpose(1, 2), None


def _blocks(bounds: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The queries of each block, and the keys that they see: of their own row, up to the block's end."""
    for start, end in pairwise(bounds):
        for first in range(start, end, BLOCK):
            last = min(first + BLOCK, end)
            yield slice(first, last), slice(start, last)


@cache
def _short_rows() -> type:
    """Attention by plain products in fp32: half the time of torch's own, whose backward pass is slow for short rows.

    Half with rows of 40 to 110 tokens, four fifths with 300; with 1,000 torch's own is the faster. Keeps its inputs alone.
    """
    import torch

    def grouped(heads, keys):
        """(1, heads, T, d) -> (kv_heads, T, group, d): the queries that share a key lie together."""
        grouped = heads.view(keys, -1, *heads.shape[2:]).transpose(1, 2)
        return grouped.to(torch.float32, memory_format=torch.contiguous_format)

    def later(group):
        """What is added to the scores of a block against its own keys: those right of the diagonal are not seen."""
        return torch.full((BLOCK, BLOCK), float("-inf")).triu_(1).repeat_interleave(group, 0)

    def weights(query, key, scaling, later, group):
        scores = torch.bmm(query, key.transpose(1, 2)).mul_(scaling)
        rows = query.shape[1]
        scores[:, :, -(rows // group) :] += later[:rows, : rows // group]
        return scores.softmax(-1)

    class ShortRows(torch.autograd.Function):
        @staticmethod
        def forward(ctx, query, key, value, bounds, scaling):
            ctx.save_for_backward(query, key, value)
            ctx.bounds, ctx.scaling = bounds, scaling
            with torch.autocast("cpu", enabled=False):
                q, k, v = grouped(query, key.shape[1]), key[0].float(), value[0].float()
                out, group = torch.empty_like(q), q.shape[2]
                unseen = later(group)
                for asking, seen in _blocks(bounds):
                    p = weights(q[:, asking].flatten(1, 2), k[:, seen], scaling, unseen, group)
                    out[:, asking] = torch.bmm(p, v[:, seen]).unflatten(1, (-1, group))
            return out.to(query.dtype).transpose(0, 1).flatten(1, 2)[None]

        @staticmethod
        def backward(ctx, grad):
            query, key, value = ctx.saved_tensors
            q, g = (grouped(heads, key.shape[1]) for heads in (query, grad.transpose(1, 2)))
            k, v, group, scaling = key[0].float(), value[0].float(), q.shape[2], ctx.scaling
            grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            unseen = later(group)
            for asking, seen in _blocks(ctx.bounds):
                rows, grads = q[:, asking].flatten(1, 2), g[:, asking].flatten(1, 2)
                p = weights(rows, k[:, seen], scaling, unseen, group)
                grad_v[:, seen].baddbmm_(p.transpose(1, 2), grads)
                grad_p = torch.bmm(grads, v[:, seen].transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype).mul_(scaling)
                grad_q[:, asking] = torch.bmm(grad_scores, k[:, seen]).unflatten(1, (-1, group))
                grad_k[:, seen].baddbmm_(grad_scores.transpose(1, 2), rows)
            grad_q = grad_q.to(query.dtype).transpose(1, 2).flatten(0, 1)[None]
            return grad_q, grad_k.to(key.dtype)[None], grad_v.to(value.dtype)[None], None, None

    return ShortRows


def _mask(*args: Any, allow_is_causal_skip: bool = True, attention_mask: Any = None, **kwargs: Any) -> Any:
    """No mask for packed rows (transformers forbids the causal shortcut only for them), SDPA's own otherwise."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and not allow_is_causal_skip:
        return None
    return sdpa_mask(*args, allow_is_causal_skip=allow_is_causal_skip, attention_mask=attention_mask, **kwargs)
