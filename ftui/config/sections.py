"""The sections of a config, each handed over as it is to the library whose field names it bears.

A setting is declared once, here: title, description, bounds and default. The page's inputs, the help, the checks, the
YAML file and the hand-over to peft and trl all follow from the field.
"""

from __future__ import annotations

import re
from math import ceil
from typing import Literal

from pydantic import Field, field_validator

from ftui.settings import Number, Settings, Whole

FEWEST_ROWS = 20  # held out, for a verdict


class QuantizationSettings(Settings):
    """Fields of `transformers.BitsAndBytesConfig`."""

    load_in_4bit: bool = Field(
        True, title="4-bit base (QLoRA)", description="Keeps the frozen base in 4 bits: a quarter of the memory."
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field(
        "nf4", title="4-bit type", description="nf4 fits normally distributed weights."
    )
    bnb_4bit_use_double_quant: bool = Field(
        True, title="Double quantization", description="Quantizes the scales, too: saves 0.4 bits a weight."
    )


class LoraSettings(Settings):
    """Fields of `peft.LoraConfig`."""

    r: Whole = Field(
        16, ge=1, le=1024, title="Rank", description="How much the adapter can hold. 8 to 32 suits most tasks."
    )
    lora_alpha: Whole = Field(
        32,
        ge=1,
        le=4096,
        title="Alpha",
        description="Strength of the adapter: scaled by alpha / rank. Usually rank to twice the rank.",
    )
    lora_dropout: Number = Field(
        0.0, ge=0, lt=1, title="Dropout", description="Share of adapter inputs dropped while training."
    )
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", title="Target modules", description="Layers that get an adapter: all-linear, or names."
    )
    use_rslora: bool = Field(False, title="rsLoRA", description="Scales by alpha / √rank: steadier at high ranks.")
    use_dora: bool = Field(
        False,
        title="DoRA",
        description="Learns how strong each output is apart from its direction: better at low ranks, and slower.",
    )
    init_lora_weights: Literal[True, "gaussian", "olora", "pissa", "pissa_niter_16"] = Field(
        True,
        title="First weights",
        description="olora and pissa begin with the main directions of the base and learn faster; the adapter is saved with twice the rank.",
    )

    @field_validator("target_modules")
    @classmethod
    def _named(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """A name alone is a list of one. Any other text is a pattern for whole paths, as peft reads it."""
        if isinstance(targets, str) and re.fullmatch(r"[\w.]*", targets):
            targets = (targets,)
        if not targets or "" in targets and not isinstance(targets, str):
            raise ValueError("names no layer. Write all-linear, or names such as q_proj, v_proj.")
        if isinstance(targets, str):
            try:
                re.compile(targets)
            except re.error as error:
                raise ValueError(f"is no pattern: {error}.") from None
        return targets

    @property
    def starts_from_base(self) -> bool:
        """Whether the first weights are taken out of the base's (PiSSA, OLoRA)."""
        return self.init_lora_weights not in (True, "gaussian")

    @property
    def rank(self) -> int:
        """Of the adapter as peft holds it: weights taken out of the base come with a frozen half."""
        return 2 * self.r if self.starts_from_base else self.r


class TrainingSettings(Settings):
    """Fields of `trl.SFTConfig`."""

    num_train_epochs: Number = Field(3, gt=0, le=1000, title="Epochs", description="How often every row is seen.")
    max_steps: Whole = Field(
        -1, ge=-1, le=10_000_000, title="Steps at most", description="Overrides epochs when above 0; -1 turns it off."
    )
    learning_rate: Number = Field(
        2e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Size of a step. 1e-4 to 1e-3 for LoRA; halve it when the loss jumps.",
    )
    per_device_train_batch_size: Whole = Field(
        4,
        ge=1,
        le=4096,
        title="Batch size",
        description="Rows taken together; × accumulation = rows a step. The plan chooses how many tokens go through at once.",
    )
    gradient_accumulation_steps: Whole = Field(
        1,
        ge=1,
        le=4096,
        title="Accumulation",
        description="Batch size × this = rows a step, whatever the memory.",
    )
    max_length: Whole = Field(
        1024,
        ge=8,
        le=1_048_576,
        title="Longest row (tokens)",
        description="Longer rows are cut; the Data tab says which.",
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        "linear", title="Schedule", description="How the learning rate falls."
    )
    warmup_steps: Number = Field(
        0.03, ge=0, title="Warm-up", description="Below 1: a share of all steps; else a number of steps."
    )
    weight_decay: Number = Field(0.0, ge=0, le=1, title="Weight decay", description="Pulls adapter weights towards 0.")
    max_grad_norm: Number = Field(
        1.0, ge=0, le=1000, title="Gradient clipping", description="Longest gradient allowed; 0 turns it off."
    )
    optim: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw_torch", title="Optimizer", description="The 8-bit ones need a GPU."
    )
    logging_steps: Whole = Field(
        1, ge=1, le=10_000, title="Log every … steps", description="How often the training loss is read."
    )
    eval_steps: Number = Field(
        0.2,
        gt=0,
        title="Check every … steps",
        description="Validation loss, watch prompts and a checkpoint. Below 1: a share of all steps.",
    )
    gradient_checkpointing: bool = Field(
        False, title="Recompute activations", description="Saves memory for about a third more time. For large models."
    )
    neftune_noise_alpha: Number | None = Field(
        None,
        ge=0,
        le=100,
        title="NEFTune noise",
        description="Noise on the embeddings while training, 5 is usual; empty turns it off.",
    )
    completion_only_loss: bool = Field(
        True, title="Learn the answers only", description="Off: questions and system prompts are learned, too."
    )
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        "none", title="Report to", description="Sends the curves to a tracker as well, where it is installed."
    )
    seed: Whole = Field(
        42, ge=0, le=2**31 - 1, title="Seed", description="Same seed, same data, same machine: same run."
    )

    def steps(self, rows: int, processes: int = 1) -> int:
        """Optimizer steps on `rows` rows."""
        if self.max_steps > 0:
            return self.max_steps
        batches = ceil(ceil(rows / self.per_device_train_batch_size) / processes)
        return ceil(ceil(batches / self.gradient_accumulation_steps) * self.num_train_epochs)

    def check_every(self, rows: int, processes: int = 1) -> int:
        """Steps between two checks."""
        steps = self.steps(rows, processes)
        return max(1, min(steps, ceil(self.eval_steps * steps if self.eval_steps < 1 else self.eval_steps)))


class EvaluationSettings(Settings):
    metrics: Literal["auto"] | tuple[str, ...] = Field(
        "auto", title="Metrics", description="auto chooses by the shape of the answers."
    )
    baselines: tuple[Literal["zero_shot", "few_shot", "retrieval"], ...] = Field(
        ("zero_shot",), title="Baselines", description="What the tuned model has to beat."
    )
    early_stopping_patience: Whole = Field(
        3,
        ge=0,
        le=1000,
        title="Patience",
        description="Stops when so many checks in a row bring no better validation loss; 0 never does.",
    )
    limit: Whole = Field(
        100,
        ge=0,
        le=100_000,
        title="Test rows",
        description="At most so many held-out rows are answered; 0 turns the comparison off.",
    )
    max_new_tokens: Whole = Field(
        256, ge=1, le=8192, title="Longest answer (tokens)", description="Answers are cut here."
    )
