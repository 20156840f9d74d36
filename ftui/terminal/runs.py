"""runs: the list of all runs, and the trash."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import TYPE_CHECKING, Any

from ftui.terminal.arguments import Commands, add_command, usual_runs

if TYPE_CHECKING:
    from ftui.history import RunLine


def add_runs(commands: Commands) -> None:
    added = add_command(commands, "runs", runs, "all runs, the newest first").add_mutually_exclusive_group()
    added.add_argument("--delete", metavar="RUN", help="move a run, or the last one, to the trash")
    added.add_argument("--restore", metavar="RUN", help="bring a run back from the trash")
    added.add_argument("--trash", action="store_true", help="list what is in the trash")
    added.add_argument("--empty-trash", action="store_true", help="delete what is in the trash for good")


def runs(options: argparse.Namespace) -> list[dict[str, Any]] | dict[str, Any]:
    from ftui.backup import backup_of
    from ftui.history import History
    from ftui.runs import RunStore

    store = RunStore(options.runs)
    if options.delete:
        run = store.find("last") if options.delete == "last" else store.open(options.delete)
        store.trash(run)
        where = "" if options.runs == usual_runs() else f" --runs {shlex.quote(str(options.runs))}"
        print(f"{run.run_id} is in the trash. `python -m ftui runs --restore {run.run_id}{where}` brings it back.")
        return {"run": run.run_id, "state": "deleted"}
    if options.restore:
        run = store.restore(options.restore)
        print(f"{run.run_id} is back.")
        return {"run": run.run_id, "state": run.state, "path": str(run.path)}
    if options.empty_trash:
        backup = backup_of(os.environ.get("FTUI_BACKUP"))
        size = store.empty_trash(backup.forget if backup else None)
        print(f"{size / 1e9:.2f} GB deleted for good.")
        return {"bytes": size}
    history = History(store)
    lines = history.trash() if options.trash else history.lines()
    folder = store.trash_dir if options.trash else store.folder
    if not lines and not options.json:
        print(_why_none(options))
    _print_table(lines)
    return [line._asdict() | {"path": str(folder / line.run)} for line in lines]


def _why_none(options: argparse.Namespace) -> str:
    """Why the list of runs is empty: perhaps it is the wrong folder."""
    if not options.runs.is_dir():
        return f"There is no folder {options.runs}. Name the folder of runs with --runs, or start a run."
    return f"The trash of {options.runs} is empty." if options.trash else f"There is no run in {options.runs} yet."


def _print_table(lines: list[RunLine]) -> None:
    cells = [
        (
            line.run,
            line.state,
            f"{line.bytes / 1e9:6.2f} GB",
            line.base_model,
            line.data,
            f"{line.step}/{line.steps}" if line.steps else "",
            line.verdict or "",
        )
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
