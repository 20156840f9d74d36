"""Kernels: what a CPU spends its time on in a decoder, each as one step that keeps little and has its own backward pass.

Only the forward methods of modules are swapped, and only where a gradient is wanted: names, weights, generation and
evaluation stay the libraries' own, and so does whatever does not look as expected (dropout, DoRA, other families).
For its backward pass a layer keeps 8h + 4(q + kv) + 6f + 14r bytes a token in 16 bits, a third less than the libraries.
On a CPU only: a GPU starts one kernel for each of these operations, and other choices pay there.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel

# Families of which these parts are written alike.
PARTS = re.compile("(Llama|Mistral|Qwen2|Qwen3)(RMSNorm|MLP)")


def fuse(model: PeftModel) -> None:
    """Swaps the forward methods of LoRA layers, norms and MLPs."""
    from peft.tuners.lora import LoraLayer

    makers = {"RMSNorm": _norm, "MLP": _mlp}
    for module in model.modules():
        part = PARTS.fullmatch(type(module).__name__)
        make = _lora if isinstance(module, LoraLayer) else makers[part[2]] if part else None
        forward = make(module, module.forward) if make else None
        if forward:
            module.forward = types.MethodType(forward, module)


def _lora(module: Any, theirs: Callable) -> Callable | None:
    import torch

    weight = _weight_of(module.get_base_layer())
    if weight is None:
        return None

    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not torch.is_grad_enabled() or not _is_plain(self, x):
            return theirs(x, *args, **kwargs)
        (name,) = self.active_adapters
        lora_a, lora_b, bias = self.lora_A[name].weight, self.lora_B[name].weight, self.get_base_layer().bias
        return _lora_step()(x, lora_a, lora_b, self.scaling[name], weight, bias)

    return forward


def _is_plain(layer: Any, x: Any) -> bool:
    """One adapter of plain LoRA over a frozen base, without dropout, and `x` in the precision that is multiplied in."""
    import torch

    if layer.disable_adapters or layer.merged or layer.lora_variant or len(layer.active_adapters) != 1:
        return False
    name = layer.active_adapters[0]
    if name not in layer.lora_A or layer.lora_bias[name] or not isinstance(layer.lora_dropout[name], torch.nn.Identity):
        return False
    autocast = torch.is_autocast_enabled("cpu")
    computed = torch.get_autocast_dtype("cpu") if autocast else layer.lora_A[name].weight.dtype
    return x.dtype == computed and not any(parameter.requires_grad for parameter in layer.get_base_layer().parameters())


def _weight_of(layer: Any) -> Callable[[], Any] | None:
    """Gives the weights of a linear layer, unpacked if they are 4-bit; None for a layer of another kind."""
    import torch

    if type(layer) is torch.nn.Linear:
        return lambda: layer.weight
    import bitsandbytes

    if type(layer) is not bitsandbytes.nn.Linear4bit:
        return None
    seen = scales = None

    def unpacked() -> Any:
        nonlocal seen, scales
        state = layer.weight.quant_state
        if seen is not state:  # doubly quantized scales, else unpacked twice a step
            seen, scales = state, state.absmax
            if state.nested:
                scales = bitsandbytes.functional.dequantize_blockwise(scales, state.state2) + state.offset
            scales = scales.float()
        packed, shape = layer.weight.data.view(-1, 1), state.shape
        return torch.ops.bitsandbytes.dequantize_4bit(
            packed, scales, state.blocksize, state.quant_type, shape, state.dtype
        )

    return unpacked


def _norm(module: Any, theirs: Callable) -> Callable:
    import torch

    def forward(self: Any, x: Any) -> Any:
        if not torch.is_grad_enabled() or self.weight.requires_grad:
            return theirs(x)
        return _norm_step()(x, self.weight, self.variance_epsilon)

    return forward


def _mlp(module: Any, theirs: Callable) -> Callable | None:
    import torch

    if not isinstance(module.act_fn, torch.nn.SiLU) and type(module.act_fn).__name__ != "SiLUActivation":
        return None

    def forward(self: Any, x: Any) -> Any:
        if not torch.is_grad_enabled():
            return theirs(x)
        return self.down_proj(_swiglu_step()(self.gate_proj(x), self.up_proj(x)))

    return forward


# The steps are made on first use, so that nothing imports torch before it trains.


@cache
def _lora_step() -> Callable:
    """Of x, A, B, the scale, a function that gives the weight, and the bias."""
    import torch
    from torch.nn.functional import linear

    class Lora(torch.autograd.Function):
        """y = xWᵀ + s(xAᵀ)Bᵀ. Keeps x and xAᵀ; nothing is copied or cast twice: a quarter to a third less time than peft's
        own path for the same layer, measured on one thread."""

        @staticmethod
        def forward(ctx, x, lora_a, lora_b, scale, weight, bias):
            rows, down, up = x.flatten(0, -2), lora_a.to(x.dtype), (lora_b * scale).to(x.dtype)
            with torch.autocast("cpu", enabled=False):
                inner = rows @ down.t()
                base = linear(rows, weight().to(x.dtype), None if bias is None else bias.to(x.dtype))
                out = base.addmm_(inner, up.t())
            ctx.save_for_backward(rows, inner, down, up)
            ctx.scale, ctx.weight = scale, weight
            return out.view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx, grad):
            rows, inner, down, up = ctx.saved_tensors
            grads = grad.flatten(0, -2)
            grad_inner = grads @ up
            grad_x = None
            if ctx.needs_input_grad[0]:
                grad_x = (grads @ ctx.weight().to(grads.dtype)).addmm_(grad_inner, down).view(*grad.shape[:-1], -1)
            grad_a, grad_b = grad_inner.t() @ rows, (inner.t() @ grads).t()
            return grad_x, grad_a.float(), grad_b.float() * ctx.scale, None, None, None

    return Lora.apply


@cache
def _norm_step() -> Callable:
    """Of x, the weight and epsilon."""
    import torch

    class Norm(torch.autograd.Function):
        """Keeps x and a number a token, where autograd keeps x three times, twice in fp32. For memory; the time is the same."""

        @staticmethod
        def forward(ctx, x, weight, epsilon):
            normed = x.float()
            inverse = normed.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
            ctx.save_for_backward(x, weight, inverse)
            return (normed * inverse).to(x.dtype) * weight

        @staticmethod
        def backward(ctx, grad):
            x, weight, inverse = ctx.saved_tensors
            normed, grad = x.float() * inverse, (grad * weight).float()
            along = (grad * normed).mean(-1, keepdim=True)
            return grad.addcmul_(normed, along, value=-1).mul_(inverse).to(x.dtype), None, None

    return Norm.apply


@cache
def _swiglu_step() -> Callable:
    """Of the gate and what it lets through."""
    import torch
    from torch.nn.functional import silu

    class SwiGlu(torch.autograd.Function):
        """Keeps its two inputs, where autograd keeps silu(gate) as well. For memory; the time is the same."""

        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return silu(gate).mul_(up)

        @staticmethod
        def backward(ctx, grad):
            gate, up = ctx.saved_tensors
            return torch.ops.aten.silu_backward(grad * up, gate), silu(gate).mul_(grad)

    return SwiGlu.apply
