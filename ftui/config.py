"""RunConfig: everything that is needed to repeat a run, under the names the libraries use. YAML in and out.

A setting is declared once, here: title, description, bounds and default. The page's inputs, the help, the checks, the
YAML file and the hand-over to peft and trl all follow from the field. This file does not know how a run is carried out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from ftui.dataset import DatasetSource, SplitSettings
from ftui.errors import UserError
from ftui.template import PromptTemplate, propose

# The same language; read eight times as fast where PyYAML was built with libyaml, which a list of 200 runs notices.
SafeLoader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class Loader(SafeLoader):
    """A key that stands twice is a mistake; YAML's own readers let the last one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[object] = []
        for key, _ in node.value:
            if key.value in seen:
                raise UserError(
                    f"The config names {key.value} twice (line {key.start_mark.line + 1}). Keep one of them."
                )
            seen.append(key.value)
        return super().construct_mapping(node, deep)


PRESETS_DIR = Path(__file__).parents[1] / "presets"
FEWEST_ROWS = 20  # held out, for a verdict
LOOKED_AT = 20  # rows, to propose a template


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}.")
    return value


def _whole(value: object) -> object:
    """3.0 and "1e3" are whole; what is not is left for pydantic to explain."""
    try:
        number = float(_number(value))  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return value
    except ValueError:
        return _number(value)
    return int(number) if number.is_integer() else value


# YAML 1.1 reads 2e-4 as a string and yes as true; text boxes give text.
Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Checked = TypeVar("Checked", bound=BaseModel)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class RunConfig(Settings):
    """Everything needed to repeat a run."""

    base_model: str = Field(
        min_length=1, max_length=300, title="Base model", description="A Hub id, a local folder, or starter."
    )
    revision: str | None = Field(None, title="Revision", description="Commit or branch of a Hub model.")
    adapter: str | None = Field(
        None,
        title="Start from an adapter",
        description="A run, RUN@STEP for one of its checkpoints, or a folder. Empty: a new adapter.",
    )
    chat_template: str = Field(
        "auto", title="Chat template", description="auto: the model's own; or plain, alpaca, chatml, or a .jinja file."
    )
    dataset: DatasetSource
    template: PromptTemplate
    split: SplitSettings = SplitSettings()
    quantization: QuantizationSettings = QuantizationSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    shorten_rows: bool = Field(
        False,
        title="Cut rows when nothing else makes room",
        description="The last resort when memory runs out. Off: the run ends and says so.",
    )
    watch_prompts: tuple[str, ...] = Field(
        (),
        max_length=10,
        title="Watch prompts",
        description="Asked before training and at every check. Empty: three validation rows.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> RunConfig:
        if self.lora.starts_from_base and self.training.weight_decay:
            raise ValueError(
                f"training.weight_decay: must be 0 with lora.init_lora_weights: {self.lora.init_lora_weights}, "
                "because it would shrink what was taken out of the base."
            )
        return self

    @classmethod
    def parse(cls, values: object) -> RunConfig:
        """The config in `values`, nested dictionaries. UserError names every mistake at once, each with its path."""
        if not isinstance(values, dict):
            raise UserError("A config is a YAML mapping such as `base_model: starter`; this is something else.")
        return checked(cls, values)

    @classmethod
    def load(
        cls, source: str | Path, overrides: Iterable[str] = (), tell: Callable[[str], None] = lambda sentence: None
    ) -> RunConfig:
        """The config in a YAML file or of a preset's name, with `key.key=value` overrides; `tell` as in `from_yaml`."""
        path = Path(source)
        if not path.is_file() and (PRESETS_DIR / f"{source}.yaml").is_file():
            path = PRESETS_DIR / f"{source}.yaml"
        if not path.is_file():
            raise UserError(
                f"There is no config file or preset “{source}”. `python -m ftui presets` lists the presets."
            )
        try:
            return cls.from_yaml(path.read_text(encoding="utf-8"), overrides, tell)
        except UnicodeDecodeError:
            raise UserError(f"{path.name} is not a text file in UTF-8, so it is no config.") from None

    @classmethod
    def from_yaml(
        cls, text: str, overrides: Iterable[str] = (), tell: Callable[[str], None] = lambda sentence: None
    ) -> RunConfig:
        """The config that is written. Without a template it gets the one that its rows propose; `tell` hears which."""
        try:
            values = yaml.load(text, Loader)
        except yaml.YAMLError as error:
            raise UserError(f"The config is not valid YAML: {' '.join(str(error).split())}") from None
        for override in overrides:
            _override(values, override)
        if isinstance(values, dict):
            values.pop("about", None)  # a preset's own title and needs, not part of the run
            if values.get("template") is None:
                return cls.parse(values | {"template": {"text": "text"}})._with_proposed_template(tell)
        return cls.parse(values)

    def _with_proposed_template(self, tell: Callable[[str], None]) -> RunConfig:
        self.dataset.check_there()
        source = self.dataset.model_copy(update={"limit": min(self.dataset.limit or LOOKED_AT, LOOKED_AT)})
        proposal = propose(source.load())
        if proposal.template is None:
            raise UserError(proposal.sentence)
        tell(proposal.sentence)
        return self.model_copy(update={"template": proposal.template})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class Preset(BaseModel):
    """A RunConfig with a name and a sentence on what it is for and what it needs."""

    name: str
    title: str
    needs: str
    config: RunConfig


def presets() -> list[Preset]:
    """All presets of the `presets` folder, the starter first."""
    found = []
    for path in PRESETS_DIR.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        about = yaml.safe_load(text)["about"]
        found.append(Preset(name=path.stem, config=RunConfig.from_yaml(text), **about))
    return sorted(
        found, key=lambda preset: (preset.config.base_model != "starter", preset.name != "starter", preset.name)
    )


def checked(model: type[Checked], values: dict[str, Any]) -> Checked:
    """Settings of class `model` from `values`. UserError names every mistake at once, each with its path."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(" · ".join(sentences(model, error))) from None


def sentences(model: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence a mistake, each with its path: `training.learning_rate: must be greater than 0, not -1.`"""
    return [_sentence(model, mistake) for mistake in error.errors()]


def _sentence(model: type[BaseModel], mistake: Any) -> str:
    path = ".".join(str(part) for part in mistake["loc"]) or "config"
    if mistake["type"] == "missing":
        return f"{path}: is missing."
    if mistake["type"] == "extra_forbidden":
        return f"{path}: there is no such key.{_closest(model, mistake['loc'])}"
    if mistake["type"] in PARSED:
        return f"{path}: must be {PARSED[mistake['type']]}, not {mistake['input']!r}."
    reason = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if mistake["type"] == "value_error":
        return f"{path}: {reason}" if mistake["loc"] else reason
    given = mistake["input"]
    return f"{path}: must be {reason}, not {given!r}." if not isinstance(given, dict) else f"{path}: must be {reason}."


PARSED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "model_type": "a section with keys of its own",
}


def _closest(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    """“Did you mean …?” from the fields of the settings class at `location`."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return ""
        model = field.annotation
    close = get_close_matches(str(location[-1]), model.model_fields, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known keys: {', '.join(model.model_fields)}."


def _override(values: Any, override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--set takes key=value, as in training.learning_rate=1e-4; “{override}” has no “=”.")
    *parents, last = path.strip().split(".")
    for part in parents:
        if not isinstance(values, dict) or not isinstance(values.setdefault(part, {}), dict):
            raise UserError(f"--set {override}: “{part}” holds no settings of its own.")
        values = values[part]
    if not isinstance(values, dict):
        raise UserError(f"--set {override}: the config is no YAML mapping, so nothing can be set in it.")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        values[last] = text  # {{column}} and the like are no YAML, but a text
