"""What a model's files say of it, and whether it can be tuned, before any weight is loaded."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ftui.errors import UserError


class ModelFacts(NamedTuple):
    """What a model's files say of it. `problem`: why it cannot be tuned, or None. `weights` in bytes."""

    name: str
    origin: str
    architecture: str
    parameters: int
    weights: int
    context: int | None
    chat_template: bool
    license: str | None
    problem: str | None


def facts_of(name: str, folder: Path, origin: str) -> ModelFacts:
    config = config_of(folder)
    card = folder / "README.md"
    found = re.search(r"^license:\s*(\S+)", card.read_text("utf-8", "replace"), re.M) if card.is_file() else None
    tokenizer = read_json(folder / "tokenizer_config.json")
    return ModelFacts(
        name=name,
        origin=origin,
        architecture=next(iter(config.get("architectures") or [config.get("model_type", "unknown")])),
        parameters=count_parameters(folder),
        weights=weights_size(folder),
        context=config.get("text_config", config).get("max_position_embeddings"),
        chat_template=(folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template")),
        license=found and found[1],
        problem=problem_of(folder),
    )


def problem_of(folder: Path, has_safetensors: bool | None = None) -> str | None:
    """Why the model in `folder` cannot be tuned, in a sentence, or None. `has_safetensors`: where the weights are not here yet."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = config_of(folder)
    kind = config.get("model_type")
    if not config:
        return "This folder has no config.json, so it is not a transformers model. Choose the folder that holds config.json and *.safetensors."
    if config.get("auto_map") and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "This model runs code of its own from its repository, which ftui does not execute. Choose a model that transformers supports itself."
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not _generates(config):
        return (
            f"This is not a causal language model ({kind}), so it cannot write answers. Choose a text-generation model."
        )
    if config.get("quantization_config"):
        return "These weights are already quantized; an adapter cannot be merged into them. Choose the original 16-bit model: ftui quantizes it itself."
    if not (weight_files(folder) if has_safetensors is None else has_safetensors):
        return "This model has no .safetensors weights (only .bin, .pt or GGUF), which ftui does not open. Choose a repository with safetensors."
    return None


def _generates(config: dict) -> bool:
    """Encoders such as BERT stand in the causal mapping, too; what they were saved as tells them apart."""
    architectures = config.get("architectures") or []
    return not architectures or any(
        "CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in architectures
    )


def count_parameters(folder: Path) -> int:
    return sum(
        prod(tensor["shape"]) for path in weight_files(folder) for tensor in weights_header(path).tensors.values()
    )


# its files


class Header(NamedTuple):
    """What a safetensors file begins with. `tensors`: dtype, shape and data_offsets by name. `size`: in bytes, before the data."""

    tensors: dict[str, dict[str, Any]]
    size: int


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def weights_size(folder: Path) -> int:
    """Bytes of all weights in a folder."""
    return sum(path.stat().st_size for path in weight_files(folder))


def weights_header(path: Path) -> Header:
    """UserError for a file that is cut, or that is no safetensors file at all."""
    try:
        with path.open("rb") as file:
            length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
            if length > size:  # such as the first letters of a Git LFS pointer
                raise ValueError
            tensors = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        if 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0) > size:
            raise ValueError
        return Header(tensors, 8 + length)
    except (ValueError, AttributeError, TypeError, LookupError):
        raise UserError(
            f"{path.name} is not a whole safetensors file (a Git LFS pointer?). Fetch it again, with git lfs pull."
        ) from None


def config_of(folder: Path) -> dict[str, Any]:
    """The model's config.json; nothing where there is none, or a broken one: `problem_of` says so."""
    return read_json(folder / "config.json")


def ties_words(config: dict[str, Any]) -> bool:
    """Whether a model reads and writes words with the same weights. A config.json leaves out what its family usually does."""
    from transformers import CONFIG_MAPPING

    text = config.get("text_config") or config
    kind = text.get("model_type") or config.get("model_type")
    usual = getattr(CONFIG_MAPPING[kind], "tie_word_embeddings", False) if kind in CONFIG_MAPPING else "n_embd" in text
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", usual)))


def read_json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
