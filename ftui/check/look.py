"""A look at a run before it starts: its rows read, rendered, encoded and examined. Of the model it reads only small files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.doctor import Examination, Problem, examine
from ftui.encoding import Encoding
from ftui.examples import Examples, encoding_of, prepare
from ftui.models import config_of, model_folder


class Look(NamedTuple):
    """A run before it starts: its rows, how they are encoded, what is wrong with them, and the model's config.json."""

    rows: Rows
    encoding: Encoding
    examples: Examples
    examined: Examination
    model_config: dict[str, Any]

    @property
    def problems(self) -> list[Problem]:
        return self.examined.problems

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


def look(config: RunConfig, report: Callable[[str], None] = print) -> Look:
    """Reads, renders, encodes and examines the rows; of the model only its small files. UserError when that cannot be done."""
    rows = config.dataset.load()
    base_dir = model_folder(config.base_model, config.revision, report=report, weights=False)
    encoding = encoding_of(config, base_dir)
    examples = prepare(config, encoding, rows)
    examined = examine(config, encoding, examples.rows, examples)
    return Look(examples.rows, encoding, examples, examined, config_of(base_dir))
