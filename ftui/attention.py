"""Attention for rows packed side by side on a CPU: each row attends to itself alone, and no padding is computed.

transformers' own packed path is correct, too, but multiplies a T × T mask; here the work is the sum of the rows'
squares. On a GPU the stock path stays.
"""

from __future__ import annotations

from typing import Any

NAME = "ftui_varlen"
# Architectures whose rows may lie side by side: transformers builds their masks from position_ids.
PACKABLE = ("llama", "mistral", "qwen2", "qwen3")


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
    # enable_gqa is four times slower than copying the heads on a CPU.
    key, value = repeat_kv(key, module.num_key_value_groups), repeat_kv(value, module.num_key_value_groups)
    lengths = bounds.diff().tolist()
    segments = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    out = [scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in segments]
    return torch.cat(out, 2).transpose(1, 2), None


def _mask(*args: Any, allow_is_causal_skip: bool = True, attention_mask: Any = None, **kwargs: Any) -> Any:
    """No mask for packed rows (transformers forbids the causal shortcut only for them), SDPA's own otherwise."""
    from transformers.masking_utils import sdpa_mask

    if attention_mask is None and not allow_is_causal_skip:
        return None
    return sdpa_mask(*args, allow_is_causal_skip=allow_is_causal_skip, attention_mask=attention_mask, **kwargs)
