"""Kernels: what a CPU spends its time on in a decoder, each as one step that keeps little and has its own backward pass.

Only the forward methods of modules are swapped, and only where a gradient is wanted: names, weights, generation and
evaluation stay the libraries' own, and so does whatever does not look as expected (dropout, DoRA, other families).
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.attention import NAME, varlen_attention

if TYPE_CHECKING:
    from peft import PeftModel

# Families of which these parts are written alike.
PARTS = re.compile("(Llama|Mistral|Qwen2|Qwen3)(RMSNorm|MLP|Attention)")


def fuse(model: PeftModel) -> None:
    """Swaps the forward methods of LoRA layers, norms, MLPs and attention."""
    from peft.tuners.lora import LoraLayer

    makers = {"RMSNorm": _norm, "MLP": _mlp, "Attention": _attention}
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
        return _steps().lora(x, lora_a, lora_b, self.scaling[name], weight, bias)

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
    scales: dict[Any, Any] = {}

    def unpacked() -> Any:
        state = layer.weight.quant_state
        if id(state) not in scales:  # unpacked twice a step, doubly quantized scales cost 3 % of it
            absmax = state.absmax
            if state.nested:
                absmax = bitsandbytes.functional.dequantize_blockwise(absmax, state.state2) + state.offset
            scales.clear()
            scales[id(state)] = absmax.float()
        return torch.ops.bitsandbytes.dequantize_4bit(
            layer.weight.data.view(-1, 1),
            scales[id(state)],
            state.blocksize,
            state.quant_type,
            state.shape,
            state.dtype,
        )

    return unpacked


def _norm(module: Any, theirs: Callable) -> Callable:
    import torch

    def forward(self: Any, x: Any) -> Any:
        if not torch.is_grad_enabled() or self.weight.requires_grad:
            return theirs(x)
        return _steps().norm(x, self.weight, self.variance_epsilon)

    return forward


def _mlp(module: Any, theirs: Callable) -> Callable | None:
    import torch

    if not isinstance(module.act_fn, torch.nn.SiLU) and type(module.act_fn).__name__ != "SiLUActivation":
        return None

    def forward(self: Any, x: Any) -> Any:
        if not torch.is_grad_enabled():
            return theirs(x)
        return self.down_proj(_steps().swiglu(self.gate_proj(x), self.up_proj(x)))

    return forward


def _attention(module: Any, theirs: Callable) -> Callable | None:
    import torch

    if module.config._attn_implementation != NAME:
        return None

    def forward(self: Any, hidden_states: Any, position_embeddings: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or args or kwargs.get("past_key_values") is not None:
            return theirs(hidden_states, position_embeddings, *args, **kwargs)
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (project(hidden_states).view(shape) for project in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        cos, sin = (part[:, :, None] for part in position_embeddings)
        heads = [_steps().rotary(query, cos, sin), _steps().rotary(key, cos, sin), value]
        mask = kwargs.pop("attention_mask", None)
        out, _ = varlen_attention(self, *(part.transpose(1, 2) for part in heads), mask, self.scaling, **kwargs)
        return self.o_proj(out.reshape(*shape[:-2], -1)), None

    return forward


class _Steps(NamedTuple):
    """`lora(x, A, B, scale, weight, bias)`, `norm(x, weight, epsilon)`, `swiglu(gate, up)`, `rotary(x, cos, sin)`."""

    lora: Callable
    norm: Callable
    swiglu: Callable
    rotary: Callable


@cache
def _steps() -> _Steps:
    """Made on first use, so that nothing imports torch before it trains."""
    import torch
    from torch.nn.functional import linear, silu

    class Lora(torch.autograd.Function):
        """Keeps x and xAᵀ."""

        @staticmethod
        def forward(ctx, x, lora_a, lora_b, scale, weight, bias):
            rows, down, up = x.flatten(0, -2), lora_a.to(x.dtype), (lora_b * scale).to(x.dtype)
            with torch.autocast("cpu", enabled=False):
                inner = rows @ down.t()
                out = linear(rows, weight(), bias).addmm_(inner, up.t())
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
                grad_x = (grads @ ctx.weight()).addmm_(grad_inner, down).view(*grad.shape[:-1], -1)
            grad_a, grad_b = grad_inner.t() @ rows, (inner.t() @ grads).t()
            return grad_x, grad_a.float(), grad_b.float() * ctx.scale, None, None, None

    class Norm(torch.autograd.Function):
        """Keeps x and a number a token, where autograd keeps three copies of x."""

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

    class SwiGlu(torch.autograd.Function):
        """Keeps its two inputs."""

        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return silu(gate).mul_(up)

        @staticmethod
        def backward(ctx, grad):
            gate, up = ctx.saved_tensors
            return torch.ops.aten.silu_backward(grad * up, gate), silu(gate).mul_(grad)

    class Rotary(torch.autograd.Function):
        """Keeps the angles; the way back is the turn the other way."""

        @staticmethod
        def forward(ctx, x, cos, sin):
            ctx.save_for_backward(cos, sin)
            return turn(x, cos, sin)

        @staticmethod
        def backward(ctx, grad):
            cos, sin = ctx.saved_tensors
            return turn(grad, cos, -sin), None, None

    def turn(x, cos, sin):
        half = x.shape[-1] // 2
        out = x * cos
        out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return out

    return _Steps(Lora.apply, Norm.apply, SwiGlu.apply, Rotary.apply)
