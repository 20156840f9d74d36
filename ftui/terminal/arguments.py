"""What several commands take: the folder of runs, a config, a run, a checkpoint."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.errors import UserError

if TYPE_CHECKING:
    from ftui.config import RunConfig

Commands = argparse._SubParsersAction


def add_command(
    commands: Commands, name: str, command: Callable[[argparse.Namespace], Any], help: str
) -> argparse.ArgumentParser:
    """One more command, which takes what all of them take."""
    added = commands.add_parser(name, help=help, description=help)
    added.set_defaults(command=command)
    folder = "the folder of runs; FTUI_RUNS, or runs, if not said"
    added.add_argument("--runs", type=Path, default=usual_runs(), metavar="DIR", help=folder)
    added.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return added


def usual_runs() -> Path:
    return Path(os.environ.get("FTUI_RUNS") or "runs")


def add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file or the name of a preset")
    command.add_argument("--set", action="append", default=[], metavar="key=value", dest="overrides")


def config_of(options: argparse.Namespace) -> RunConfig:
    """The config of the command line. UserError also where its data or its base model are not there, before a run is made."""
    from ftui.config import RunConfig
    from ftui.models import check_named

    if not options.config:
        raise UserError("Name a CONFIG: a YAML file, or a preset such as starter.")
    config = RunConfig.load(options.config, options.overrides, print)
    config.dataset.check_there()
    check_named(config.base_model)
    return config


def add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="a run's name or folder, or last")


def add_checkpoint(command: argparse.ArgumentParser, use: str) -> None:
    """`use`: what is done with the checkpoint, as the beginning of its help."""
    command.add_argument("--checkpoint", type=int, metavar="STEP", help=f"{use} the checkpoint of this step")
