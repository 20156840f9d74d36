"""The presets: whole configs to begin with."""

from __future__ import annotations

import yaml
from pydantic import BaseModel

from ftui.config.run_config import RunConfig
from ftui.config.written import PRESETS_DIR


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
