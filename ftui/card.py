"""The model card of a run, every number in it measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftui.config import RunConfig
from ftui.device import this_device
from ftui.evaluate import report_markdown
from ftui.examples import Examples
from ftui.history import data_name
from ftui.models import hub_name, origin
from ftui.proof import merge_sentence
from ftui.runs import Run
from ftui.train import Trained


def model_card(
    run: Run, base_dir: Path, examples: Examples, trained: Trained, report: dict[str, Any] | None, proof: dict[str, Any]
) -> str:
    """The model card, every number measured in this run."""
    config = run.config
    lines = [
        "---",
        f"base_model: {hub_name(config.base_model)}",
        "library_name: transformers",
        "tags: [ftui, lora, sft]",
        "---",
        "",
        f"# {run.run_id}",
        "",
        f"Tuned with ftui from {origin(config.base_model, base_dir)}.",
        "",
        f"- Data: {data_name(config)}, {len(examples.train)} training rows, sha256 {examples.sha256[:16]}…",
        f"- {trained.steps} steps, LoRA rank {config.lora.r}, learning rate {config.training.learning_rate:g}, {precision(config)}",
        *([f"- It goes on from the adapter of {Path(config.adapter).name}."] if config.adapter else []),
        f"- {trained.kept}",
        f"- {merge_sentence(proof)}",
        "- May be wrong: have a person review important decisions.",
        "",
    ]
    return "\n".join(lines) + (report_markdown(report).replace("# ", "## ", 1) if report else "")


def precision(config: RunConfig) -> str:
    """Of the base and of what is computed."""
    dtype = str(this_device().dtype).removeprefix("torch.")
    return (
        f"4-bit {config.quantization.bnb_4bit_quant_type} weights and {dtype}"
        if config.quantization.load_in_4bit
        else dtype
    )
