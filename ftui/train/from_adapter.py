"""The start from an adapter: a new run that goes on from what another one learned, under its own rank and targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.config import RunConfig
from ftui.errors import UserError
from ftui.runs import Run, RunStore
from ftui.train.checkpoints import checkpoint_at

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
UNFIT = "adapter: its weights do not fit this base model. An adapter fits the base that it was trained on only."
SHAPING = ("r", "lora_alpha", "use_rslora", "use_dora")  # what the weights mean; dropout may change


def with_start(config: RunConfig, store: RunStore) -> RunConfig:
    """The config with the full name of the run that it starts from. UserError where that does not fit, before anything runs."""
    if not config.adapter:
        return config
    if is_adapter(Path(config.adapter)):
        return _fitting(config, Path(config.adapter))
    name, at, step = config.adapter.partition("@")
    run = store.find(name)
    base, other = (config.base_model, config.revision), (run.config.base_model, run.config.revision)
    if base != other:
        raise UserError(
            f"adapter: run {run.run_id} was trained on {_model(*other)}, this config names {_model(*base)}. An adapter fits its own base only."
        )
    named = config.model_copy(update={"adapter": f"{run.run_id}{at}{step}"})
    folder = start_of(named, run.path.parent)
    if run.path.parent.resolve() != store.folder.resolve():
        named = config.model_copy(update={"adapter": str(folder)})
    return _fitting(named, folder)


def start_of(config: RunConfig, runs_dir: Path) -> Path:
    """The folder with the adapter that a config starts from. UserError when it is not there."""
    folder = Path(str(config.adapter))
    if is_adapter(folder):
        return folder
    name, at, step = str(config.adapter).partition("@")
    run = Run(runs_dir / Path(name).name)
    if at and not step.isdigit():
        raise UserError(f"adapter: “{config.adapter}” names no step; write RUN@STEP, as in {name}@12.")
    folder = checkpoint_at(run, int(step)) if at else run.adapter_dir
    if not is_adapter(folder):
        raise UserError(
            f"adapter: “{config.adapter}” is neither a run with a trained adapter nor a folder with {WEIGHTS}."
        )
    return folder


def is_adapter(folder: Path) -> bool:
    """Weights as safetensors only: other formats can run code."""
    return (folder / WEIGHTS).is_file() and (folder / "adapter_config.json").is_file()


def settings_of(folder: Path) -> dict[str, Any]:
    """adapter_config.json. UserError when it cannot be read."""
    try:
        return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"adapter: adapter_config.json in {folder.name} cannot be read.") from None


def targets_of(folder: Path, model: PreTrainedModel) -> list[str] | str:
    """The layers that the adapter in `folder` sits on. UserError where `model` does not have them."""
    targets = settings_of(folder)["target_modules"]
    names = [f".{name}" for name, _ in model.named_modules()]
    if isinstance(targets, list) and not all(any(name.endswith(f".{target}") for name in names) for target in targets):
        raise UserError(UNFIT)
    return targets


def check_same(checkpoint: Path, model: PeftModel) -> None:
    """UserError where the settings of the adapter were changed since a checkpoint of this very run was written."""
    kept, asked = settings_of(checkpoint), model.peft_config["default"].to_dict()
    differ = [key for key in (*SHAPING, "target_modules") if _listed(kept.get(key)) != _listed(asked[key])]
    if differ:
        raise UserError(
            f"The checkpoints of this run were trained with other settings: {' and '.join(f'lora.{key}' for key in differ)}. "
            "Put them back, then resume; or start a new run."
        )


def _listed(value: Any) -> Any:
    """A set of names, which a file keeps as a list in any order."""
    return sorted(value) if isinstance(value, set | list) else value


def load_start(model: PeftModel, folder: Path) -> None:
    """Puts the weights of the adapter in `folder` into the new adapter of `model`. UserError where they are broken or do not fit."""
    from peft import load_peft_weights, set_peft_model_state_dict
    from safetensors import SafetensorError

    try:
        weights = load_peft_weights(str(folder), device="cpu")
    except SafetensorError:
        raise UserError(f"adapter: {WEIGHTS} in {folder.name} cannot be read.") from None
    try:
        result = set_peft_model_state_dict(model, weights)
    except RuntimeError:  # torch's word for a size mismatch
        raise UserError(UNFIT) from None
    if result.unexpected_keys or any("lora_" in name for name in result.missing_keys):
        raise UserError(UNFIT)


def _fitting(config: RunConfig, folder: Path) -> RunConfig:
    """The same config. UserError where its adapter settings are not those of the adapter."""
    if config.lora.starts_from_base:
        raise UserError("adapter: it has weights already. Set lora.init_lora_weights to true.")
    own, asked = settings_of(folder), config.lora.model_dump()
    differ = [key for key in SHAPING if key in asked and own.get(key) is not None and asked[key] != own[key]]
    if differ:
        has = " and ".join(f"{key} {own[key]}" for key in differ)
        wants = " and ".join(f"{key} {asked[key]}" for key in differ)
        cure = " and ".join(f"lora.{key} to {own[key]}" for key in differ)
        raise UserError(f"adapter: it has {has}, this config {wants}. An adapter keeps its own; set {cure}.")
    return config


def _model(base_model: str, revision: str | None) -> str:
    return f"{base_model} ({revision})" if revision else base_model
