"""A config as people write it: a YAML file or the name of a preset, and `key.key=value` beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ftui.errors import UserError

PRESETS_DIR = Path(__file__).parents[2] / "presets"

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


def text_of(source: str | Path) -> str:
    """What stands in a YAML file, or in the preset of that name."""
    path = Path(source)
    if not path.is_file() and (PRESETS_DIR / f"{source}.yaml").is_file():
        path = PRESETS_DIR / f"{source}.yaml"
    if not path.is_file():
        raise UserError(f"There is no config file or preset “{source}”. `python -m ftui presets` lists the presets.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path.name} is not a text file in UTF-8, so it is no config.") from None


def values_of(text: str, overrides: Iterable[str] = ()) -> Any:
    """What a config of this text says: a dictionary, unless it is none."""
    try:
        values = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise UserError(f"The config is not valid YAML: {' '.join(str(error).split())}") from None
    for override in overrides:
        _override(values, override)
    if isinstance(values, dict):
        values.pop("about", None)  # a preset's own title and needs, not part of the run
    return values


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
