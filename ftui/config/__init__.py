"""Everything that is needed to repeat a run, under the names the libraries use; in YAML and out of it."""

from ftui.config.presets import Preset, presets
from ftui.config.run_config import RunConfig
from ftui.config.sections import FEWEST_ROWS, EvaluationSettings, LoraSettings, QuantizationSettings, TrainingSettings
from ftui.config.written import PRESETS_DIR

__all__ = [
    "FEWEST_ROWS",
    "PRESETS_DIR",
    "EvaluationSettings",
    "LoraSettings",
    "Preset",
    "QuantizationSettings",
    "RunConfig",
    "TrainingSettings",
    "presets",
]
