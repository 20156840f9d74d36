"""merge: the adapter folded into the original 16-bit weights, shard by shard, and the proof that nothing was lost.

Never into 4-bit weights: rounding to 4 bits again would erase what was learned. The shards are streamed, a tensor at a
time, so the memory needed does not grow with the model. This file does not know how the adapter was trained.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.config import QuantizationSettings
from ftui.device import disk_free
from ftui.encoding import Encoded
from ftui.errors import UserError
from ftui.models.facts import weight_files, weights_header, weights_size
from ftui.replies import Progress, evaluating, labeled_logits
from ftui.runs import Run

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BLOCK_ELEMENTS = 1 << 18
COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")


Rounding = Callable[["torch.Tensor"], "torch.Tensor"]


class Delta(NamedTuple):
    """What the adapter adds to one weight (out, in): scaling · B (out, r) @ A (r, in).

    `magnitude` (out): the length that DoRA gives to each row of the sum; None for plain LoRA.
    """

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None


def merge_into(folder: Path, run: Run, base_dir: Path, rounding: Rounding | None = None) -> None:
    """Base and adapter of a run in one, loadable by plain transformers, in an empty folder. UserError says what is in the way.

    `rounding` is applied to each adapted base weight first; without it the original weights are taken as they are.
    """
    _check_space(folder, base_dir)
    deltas = read_adapter(run.adapter_dir)
    if deltas is not None and _fits(deltas, base_dir):
        merge_shards(base_dir, deltas, folder, rounding, run.counting("written", weights_size(base_dir)))
    else:
        _merge_with_peft(base_dir, run.adapter_dir, folder, rounding)
    for pattern in COPIED:
        for path in run.adapter_dir.glob(pattern):
            if not path.name.startswith("adapter_"):
                shutil.copy(path, folder)


def as_trained(settings: QuantizationSettings) -> Rounding:
    """Rounds a weight to 4 bits and back, so that merging yields the very function that was trained, in 16 bits."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    def rounding(weight: torch.Tensor) -> torch.Tensor:
        kind, double = settings.bnb_4bit_quant_type, settings.bnb_4bit_use_double_quant
        return dequantize_4bit(*quantize_4bit(weight, quant_type=kind, compress_statistics=double))

    return rounding


def prove(
    adapted: PreTrainedModel,
    merged: PreTrainedModel,
    examples: Sequence[Encoded],
    progress: Progress = lambda done: None,
) -> dict[str, Any]:
    """How far the merged model is from the adapter on its base, over the learned tokens of held-out rows.

    max_abs_logit_difference; top1_agreement, the share of tokens where both would write the same; and the mean loss of
    each, in nats a token.
    """
    from torch.nn.functional import cross_entropy

    widest, agreed, tokens, losses = 0.0, 0, 0, [0.0, 0.0]
    with evaluating(adapted), evaluating(merged):
        for number, example in enumerate(examples):
            progress(number)
            (before, targets), (after, _) = labeled_logits(adapted, example), labeled_logits(merged, example)
            after = after.to(before.device)
            widest = max(widest, float((before - after).abs().max()))
            agreed += int((before.argmax(-1) == after.argmax(-1)).sum())
            tokens += len(targets)
            losses = [
                total + float(cross_entropy(logits, targets, reduction="sum"))
                for total, logits in zip(losses, (before, after), strict=True)
            ]
    return {
        "rows": len(examples),
        "tokens": tokens,
        "max_abs_logit_difference": widest,
        "top1_agreement": agreed / max(tokens, 1),
        "validation_loss_adapter": losses[0] / max(tokens, 1),
        "validation_loss_merged": losses[1] / max(tokens, 1),
    }


def read_adapter(folder: Path) -> dict[str, Delta] | None:
    """The delta of each adapted weight by its name in the base; None for adapters that are more than LoRA or DoRA on them.

    UserError for an adapter that is missing or has learned nothing.
    """
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError("This run has no adapter yet, so there is nothing to merge. Train it first.")
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(path)
    plain = all(name.endswith((".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")) for name in tensors)
    if not any(bool(tensor.any()) for name, tensor in tensors.items() if "lora_B" in name):
        raise UserError(
            "The adapter is empty (all zero): the run learned nothing, so merging it would only copy the base."
        )
    if not plain or any(config.get(key) for key in ("fan_in_fan_out", "rank_pattern", "alpha_pattern")):
        return None
    scaling = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    deltas = {}
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            b, magnitude = tensors[f"{layer}.lora_B.weight"], tensors.get(f"{layer}.lora_magnitude_vector")
            deltas[f"{layer.removeprefix('base_model.model.')}.weight"] = Delta(
                a.float(), b.float(), scaling, magnitude if magnitude is None else magnitude.float()
            )
    return deltas


def merge_shards(
    base_dir: Path, deltas: dict[str, Delta], folder: Path, rounding: Rounding | None, progress: Progress
) -> None:
    """Copies each safetensors file with the same header and layout; adapted weights are W + delta, rounded once.

    `progress` gets the bytes written so far.
    """
    done = 0
    for path in weight_files(base_dir):
        tensors, size = weights_header(path)
        with path.open("rb") as source, (folder / path.name).open("wb") as target:
            target.write(source.read(size))
            for name, entry in sorted(tensors.items(), key=lambda tensor: tensor[1]["data_offsets"][0]):
                raw = bytearray(source.read(entry["data_offsets"][1] - entry["data_offsets"][0]))
                kept = None if _is_head(name) else rounding
                target.write(_merged(raw, entry, deltas[name], kept) if name in deltas else raw)
                done += len(raw)
                progress(done)
            target.flush()
            os.fsync(target.fileno())
    for path in (*base_dir.glob("*.json"), *base_dir.glob("*.txt"), *base_dir.glob("*.model")):
        if path.name != "source.json":
            shutil.copy(path, folder)


def _merged(raw: bytearray, entry: dict[str, Any], delta: Delta, rounding: Rounding | None) -> memoryview:
    """The bytes of W + scaling · B A, in fp32 a block of rows at a time, in the dtype of the file.

    With DoRA each row of the sum gets its learned length (Liu et al. 2024, eq. 5).
    """
    import torch
    from safetensors.torch import _TYPES

    weight = torch.frombuffer(raw, dtype=_TYPES[entry["dtype"]]).view(entry["shape"])
    if rounding is not None:
        weight.copy_(rounding(weight))
    block = max(1, BLOCK_ELEMENTS // weight.shape[1])
    for start in range(0, len(weight), block):
        rows = weight[start : start + block]
        total = rows.float().addmm_(delta.b[start : start + block], delta.a, alpha=delta.scaling)
        if delta.magnitude is not None:
            total *= (delta.magnitude[start : start + block] / total.norm(dim=1)).unsqueeze(1)
        rows.copy_(total)
    return memoryview(raw)


def _is_head(name: str) -> bool:
    """The layer that writes the words is never in 4 bits."""
    return "lm_head" in name or "embed_out" in name


def _fits(deltas: dict[str, Delta], base_dir: Path) -> bool:
    """Whether every delta has its weight, of the right shape and a 16- or 32-bit type, under that very name."""
    shapes = {
        name: tuple(entry["shape"])
        for path in weight_files(base_dir)
        for name, entry in weights_header(path).tensors.items()
        if entry["dtype"] in ("BF16", "F16", "F32")
    }
    return all(shapes.get(name) == (len(delta.b), delta.a.shape[1]) for name, delta in deltas.items())


def _merge_with_peft(base_dir: Path, adapter_dir: Path, folder: Path, rounding: Rounding | None) -> None:
    """For adapters and layouts that are not LoRA on weights of the same name: peft, with the model in memory."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import transpose
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype="auto", device_map={"": "cpu"}, use_safetensors=True)
    adapted = PeftModel.from_pretrained(base, adapter_dir)
    for name, layer in adapted.named_modules() if rounding else ():
        if isinstance(layer, LoraLayer) and layer.lora_A and not _is_head(name):
            weight, turned = layer.get_base_layer().weight, getattr(layer, "fan_in_fan_out", False)
            weight.data = transpose(rounding(transpose(weight.data, turned).contiguous()), turned)
    adapted.merge_and_unload().save_pretrained(folder)


def _check_space(folder: Path, base_dir: Path) -> None:
    needed = weights_size(base_dir)
    free = disk_free(folder)
    if free < needed * 1.05:
        raise UserError(
            f"The merged model needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free. "
            "The adapter is safe; free some space, then merge this run again."
        )
