"""The terminal door: `python -m ftui app|check|train|evaluate|merge|chat|runs|presets|starter`.

Every command: exit 0 on success, 1 for a run that was stopped, 2 on a mistake told in one line on standard error; `--json` prints one JSON object as
the last line of standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftui.device import core_limit
from ftui.errors import UserError
from ftui.failures import known_failure
from ftui.terminal.arguments import Commands, add_checkpoint, add_command, add_run
from ftui.terminal.chat import add_chat
from ftui.terminal.check import add_check
from ftui.terminal.runs import add_runs
from ftui.terminal.train import add_train

BEFORE_TORCH = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning workers starve the page and each other
    "TOKENIZERS_PARALLELISM": "true",
    # Every pass has another number of tokens, for which oneDNN and torch prepare their products anew. With room for a
    # thousand, as they come, what they keep grows by 10 MB a step; 64 are all that one pass needs, at the same speed.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
}
if limit := core_limit():
    BEFORE_TORCH["OMP_NUM_THREADS"] = str(limit)
for name, value in BEFORE_TORCH.items():
    os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        found = options.command(options)
    except KeyboardInterrupt:
        print("ftui: interrupted; what was saved is kept.", file=sys.stderr)
        return 130
    except Exception as error:
        if (said := known_failure(error)) is None:
            raise  # a bug stays a bug
        print(f"ftui: {said}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, ensure_ascii=False, default=str))
    ended_early = isinstance(found, dict) and found.get("state") in ("stopped", "interrupted")
    return 1 if ended_early else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ftui", description="Fine-tune, prove and show a small language model.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_app(commands)
    add_check(commands)
    add_train(commands)
    add_chat(commands)
    _add_evaluate(commands)
    add_run(add_command(commands, "merge", _merge, "adapter + base -> merged, with proof"))
    add_runs(commands)
    add_command(commands, "presets", _presets, "all presets")
    add_command(commands, "starter", _starter, "fetch the starter model, once")
    return parser


def _add_app(commands: Commands) -> None:
    added = add_command(commands, "app", _app, "the page")
    added.add_argument("--host", default="127.0.0.1")
    added.add_argument("--port", type=int, default=7860)
    added.add_argument("--password", help="needed on any address but this machine's own; better set FTUI_PASSWORD")


def _add_evaluate(commands: Commands) -> None:
    added = add_command(commands, "evaluate", _evaluate, "base and tuned model on the test rows once more")
    add_run(added)
    add_checkpoint(added, "compare")


def _app(options: argparse.Namespace) -> None:
    from ftui.web import serve

    serve(options.runs, options.host, options.port, options.password)


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.device import Lease
    from ftui.evaluate import report_markdown
    from ftui.loop import evaluate_again
    from ftui.runs import RunStore

    run = RunStore(options.runs).find(options.run)
    with _stopped_in_words():
        report = evaluate_again(run, Lease(), options.checkpoint)
    print(report_markdown(report))
    return report


def _merge(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.device import Lease
    from ftui.loop import merge_again
    from ftui.runs import RunStore

    run = RunStore(options.runs).find(options.run)
    with _stopped_in_words():
        proof = merge_again(run, Lease())
    print(f"Merged into {run.merged_dir}")
    return {"merged": str(run.merged_dir), "proof": proof}


@contextmanager
def _stopped_in_words() -> Iterator[None]:
    """A page may wish that what a terminal does with a run stops."""
    from ftui.runs import Stopped

    try:
        yield
    except Stopped as stopped:
        raise UserError(str(stopped)) from None


def _presets(options: argparse.Namespace) -> list[dict[str, Any]]:
    from ftui.config import presets

    found = [
        {"preset": p.name, "title": p.title, "needs": p.needs, "base_model": p.config.base_model} for p in presets()
    ]
    for preset in found:
        print(f"{preset['preset']:<10} {preset['title']}. {preset['needs']}")
    return found


def _starter(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.models import STARTER, origin, starter_folder

    folder = starter_folder()
    print(f"Starter model: {origin(STARTER, folder)}.")
    return {"path": str(folder), "origin": origin(STARTER, folder)}


if __name__ == "__main__":
    sys.exit(main())
