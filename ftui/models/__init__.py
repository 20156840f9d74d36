"""Base models: the starter, local folders and Hub ids. What they are, whether they can be tuned, and how they load."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ftui.errors import UserError
from ftui.models import hub
from ftui.models.facts import ModelFacts, config_of, facts_of, problem_of, read_json, ties_words
from ftui.models.load import load_model, load_tokenizer, place_for
from ftui.models.starter import STARTER, STARTER_ID, Report, home, starter_folder

__all__ = [
    "STARTER",
    "ModelFacts",
    "check_named",
    "check_tunable",
    "config_of",
    "describe",
    "hub_name",
    "home",
    "load_model",
    "load_tokenizer",
    "model_folder",
    "origin",
    "place_for",
    "starter_folder",
    "ties_words",
]


def model_folder(base_model: str, revision: str | None = None, report: Report = print, weights: bool = True) -> Path:
    """The local folder with the files of `base_model`, fetched first where need be; without `weights` only the small ones.

    UserError says why it cannot be had, or, before anything large is fetched, why it cannot be tuned.
    """
    if base_model == STARTER:
        return starter_folder(report)
    if not _is_hub_id(base_model):
        return Path(base_model).expanduser()
    token = os.environ.get("HF_TOKEN")
    report(f"Fetching {base_model} from the Hugging Face Hub.")
    found = hub.look(base_model, revision, token)
    problem = problem_of(found.folder, found.has_safetensors)
    if problem and weights:
        raise UserError(f"{base_model}: {problem}")
    return hub.fetch(base_model, revision, token) if weights else found.folder


def check_named(base_model: str) -> None:
    """UserError for a name that is no model for certain: neither a folder nor a Hub id. Opens nothing and asks nobody."""
    if base_model != STARTER:
        _is_hub_id(base_model)


def describe(base_model: str, revision: str | None = None, report: Report = print) -> ModelFacts:
    """What the model is and whether it can be tuned; of a model on the Hub only the small files are fetched."""
    if base_model != STARTER and _is_hub_id(base_model):
        found = hub.look(base_model, revision, os.environ.get("HF_TOKEN"))
        facts = facts_of(
            base_model, found.folder, f"{base_model} from the Hugging Face Hub, commit {found.commit[:12]}"
        )
        return facts._replace(
            parameters=found.parameters or facts.parameters,
            weights=found.weights or facts.weights,
            problem=problem_of(found.folder, found.has_safetensors),
        )
    folder = model_folder(base_model, revision, report)
    facts = facts_of(base_model, folder, origin(base_model, folder))
    return facts._replace(license="apache-2.0") if base_model == STARTER else facts


def origin(base_model: str, folder: Path) -> str:
    """Which weights these are, in a sentence for the page and the model card."""
    source = read_json(folder / "source.json").get("origin")
    if base_model == STARTER and source:
        return source
    if _is_hub_id(base_model):
        return f"{base_model} from the Hugging Face Hub, commit {folder.name[:12]}"
    return f"the local folder {folder.name}"


def hub_name(base_model: str) -> str:
    """What the model is called where others look for it; a local folder by its name."""
    if base_model == STARTER:
        return STARTER_ID
    return Path(base_model).name if Path(base_model).expanduser().is_dir() else base_model


def check_tunable(folder: Path) -> None:
    problem = problem_of(folder)
    if problem:
        raise UserError(problem)


def _is_hub_id(base_model: str) -> bool:
    """A folder that is there wins. UserError where it can be neither."""
    if Path(base_model).expanduser().is_dir():
        return False
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", base_model) or ".." in base_model:
        raise UserError(f"There is no model folder “{base_model}”, and it is not a Hub id such as {STARTER_ID}.")
    return True
