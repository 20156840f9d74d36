"""RunConfig: everything that is needed to repeat a run. It does not know how a run is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from pydantic import Field, model_validator

from ftui.config.sections import EvaluationSettings, LoraSettings, QuantizationSettings, TrainingSettings
from ftui.config.written import text_of, values_of
from ftui.dataset import DatasetSource, SplitSettings
from ftui.errors import UserError
from ftui.settings import OptionalText, Settings, checked
from ftui.template import PromptTemplate, propose

LOOKED_AT = 20  # rows, to propose a template


class RunConfig(Settings):
    """Everything needed to repeat a run."""

    base_model: str = Field(
        min_length=1, max_length=300, title="Base model", description="A Hub id, a local folder, or starter."
    )
    revision: OptionalText = Field(None, title="Revision", description="Commit or branch of a Hub model.")
    adapter: OptionalText = Field(
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
        return cls.from_yaml(text_of(source), overrides, tell)

    @classmethod
    def from_yaml(
        cls, text: str, overrides: Iterable[str] = (), tell: Callable[[str], None] = lambda sentence: None
    ) -> RunConfig:
        """The config that is written. Without a template it gets the one that its rows propose; `tell` hears which."""
        values = values_of(text, overrides)
        if isinstance(values, dict) and values.get("template") is None:
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
