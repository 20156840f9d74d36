"""How large a decoder is, from its `config.json` alone."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ftui.errors import UserError
from ftui.models import ties_words

BLOCKS, PARTS = ("model.layers", "transformer.h"), ("self_attn", "attn", "mlp")  # where a matrix lies in a model


class Dimensions(NamedTuple):
    """What `config.json` says of a decoder. `layers` of them, each with `matrices` {name: (in, out)}."""

    hidden: int
    query: int
    key: int
    mlp: int
    layers: int
    vocabulary: int
    heads: int
    matrices: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, model_config: dict[str, Any]) -> Dimensions:
        """UserError where the config is not that of a plain decoder."""
        text = model_config.get("text_config") or model_config
        if any(text.get(key) for key in ("num_local_experts", "num_experts", "n_routed_experts")):
            raise UserError(
                "The plan does not know mixtures of experts, so nothing says beforehand whether this run fits."
            )
        try:
            hidden = text.get("hidden_size") or text["n_embd"]
            layers = text.get("num_hidden_layers") or text["n_layer"]
            heads = text.get("num_attention_heads") or text["n_head"]
            mlp = text.get("intermediate_size") or text.get("n_inner") or 4 * hidden
            width = text.get("head_dim") or hidden // heads
            query, key = heads * width, (text.get("num_key_value_heads") or heads) * width
            vocabulary = text["vocab_size"]
        except (KeyError, TypeError, ZeroDivisionError):
            raise UserError("The plan cannot be made: config.json does not say how large the model is.") from None
        matrices = {
            "q_proj": (hidden, query),
            "k_proj": (hidden, key),
            "v_proj": (hidden, key),
            "o_proj": (query, hidden),
            "gate_proj": (hidden, mlp),
            "up_proj": (hidden, mlp),
            "down_proj": (mlp, hidden),
        }
        if "n_embd" in text:
            matrices = {"c_attn": (hidden, 3 * hidden), "c_proj": (hidden + mlp, hidden), "c_fc": (hidden, mlp)}
        return cls(hidden, query, key, mlp, layers, vocabulary, 1 if ties_words(model_config) else 2, matrices)

    @property
    def body(self) -> int:
        return self.layers * sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def head(self) -> int:
        return self.vocabulary * self.hidden

    def adapter(self, r: int, target_modules: str | tuple[str, ...]) -> int:
        """Parameters of a LoRA adapter: r · (in + out) for each matrix that gets one."""

        def is_target(layer: int, name: str) -> bool:
            if target_modules == "all-linear":
                return True
            if isinstance(target_modules, str):  # a pattern for the whole name, as peft takes it
                names = (f"{block}.{layer}.{part}.{name}" for block in BLOCKS for part in PARTS)
                return any(re.fullmatch(target_modules, each) for each in names)
            return any(target.endswith(name) for target in target_modules)

        return r * sum(
            rows + columns
            for layer in range(self.layers)
            for name, (rows, columns) in self.matrices.items()
            if is_target(layer, name)
        )
