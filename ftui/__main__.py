"""The terminal door: `python -m ftui app|check|train|evaluate|merge|chat|runs|presets|starter`.

Every command: exit 0 on success, 1 for a run that was stopped, 2 on a mistake told in one line on standard error; `--json` prints one JSON object as
the last line of standard output.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.errors import UserError

SHAPES = ("openai", "sharegpt", "alpaca", "prompt-completion")  # as in shapes.py, which --help does not wait for

if TYPE_CHECKING:
    from ftui.config import RunConfig
    from ftui.runs import Run

SIGTERM_SECONDS = 20
OVERDUE = (
    "Another process of this run died, or ftui was shut down in the middle of a long step. "
    "Resume goes on from the newest checkpoint."
)
BEFORE_TORCH = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning workers starve the page and each other
    "TOKENIZERS_PARALLELISM": "true",
    # Every pass has another number of tokens, for which oneDNN and torch prepare their products anew. With room for a
    # thousand, as they come, what they keep grows by 10 MB a step; 64 are all that one pass needs, at the same speed.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
}
for name, value in BEFORE_TORCH.items():
    os.environ.setdefault(name, value)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        found = options.command(options)
    except UserError as error:
        print(f"ftui: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        print(f"ftui: {error.strerror}. Free some space, or choose a folder that can be written to.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ftui: interrupted; what was saved is kept.", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(found, ensure_ascii=False, default=str))
    ended_early = isinstance(found, dict) and found.get("state") in ("stopped", "interrupted")
    return 1 if ended_early else 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--runs",
        type=Path,
        default=_usual_runs(),
        metavar="DIR",
        help="the folder of runs; FTUI_RUNS, or runs, if not said",
    )
    common.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser = argparse.ArgumentParser(prog="ftui", description="Fine-tune, prove and show a small language model.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function: Any, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=help, description=help)
        added.set_defaults(command=function)
        return added

    app = command("app", _app, "the page")
    app.add_argument("--host", default="127.0.0.1")
    app.add_argument("--port", type=int, default=7860)
    app.add_argument("--password", help="needed on any address but this machine's own; better set FTUI_PASSWORD")
    check = command("check", _check, "what a run would learn, and what stands in its way; trains nothing")
    train = command("train", _train, "the whole loop: data, base answers, training, tuned answers, merge, proof")
    train.add_argument("--resume", metavar="RUN", help="go on with a run that ended early, from its newest checkpoint")
    check.add_argument("--report", type=Path, metavar="FILE", help="write what was found as .html, .md or .csv")
    check.add_argument("--export", type=Path, metavar="DIR", help="write the prepared rows, a file for each part")
    check.add_argument("--shape", choices=SHAPES, default="openai", help="of the exported rows; openai if not said")
    check.add_argument("--rehearse", action="store_true", help="run a few real steps and correct the plan by them")
    for added in (check, train):
        added.add_argument("config", metavar="CONFIG", nargs="?", help="a YAML file or the name of a preset")
        added.add_argument("--set", action="append", default=[], metavar="key=value", dest="overrides")
    chat = command("chat", _chat, "replies of a run's model; without a prompt, a conversation")
    evaluate = command("evaluate", _evaluate, "base and tuned model on the test rows once more")
    merge = command("merge", _merge, "adapter + base -> merged, with proof")
    for added in (chat, evaluate, merge):
        added.add_argument("run", metavar="RUN", help="a run's name or folder, or last")
    for added, use in ((train, "with --resume: go back to"), (chat, "ask the adapter of"), (evaluate, "compare")):
        added.add_argument("--checkpoint", type=int, metavar="STEP", help=f"{use} the checkpoint of this step")
    chat.add_argument("--prompt", action="append", default=[], metavar="TEXT")
    chat.add_argument(
        "--column", action="append", default=[], metavar="NAME=VALUE", help="a value for the prompt template"
    )
    chat.add_argument("--model", choices=("merged", "adapter", "base"), default=None)
    chat.add_argument("--temperature", type=float, default=0.0)
    chat.add_argument("--max-new-tokens", type=int, default=256)
    runs = command("runs", _runs, "all runs, the newest first").add_mutually_exclusive_group()
    runs.add_argument("--delete", metavar="RUN", help="move a run, or the last one, to the trash")
    runs.add_argument("--restore", metavar="RUN", help="bring a run back from the trash")
    runs.add_argument("--trash", action="store_true", help="list what is in the trash")
    runs.add_argument("--empty-trash", action="store_true", help="delete what is in the trash for good")
    command("presets", _presets, "all presets")
    command("starter", _starter, "fetch the starter model, once")
    return parser


def _usual_runs() -> Path:
    return Path(os.environ.get("FTUI_RUNS") or "runs")


def _app(options: argparse.Namespace) -> None:
    from ftui.web import serve

    serve(options.runs, options.host, options.port, options.password)


def _config(options: argparse.Namespace) -> RunConfig:
    """The config of the command line. UserError also where its data or its base model are not there, before a run is made."""
    from ftui.config import RunConfig
    from ftui.models import check_named

    if not options.config:
        raise UserError("Name a CONFIG: a YAML file, or a preset such as starter.")
    config = RunConfig.load(options.config, options.overrides)
    config.dataset.check_there()
    check_named(config.base_model)
    return config


def _check(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.check import look, numbers, rehearsed, report_text, write_report
    from ftui.device import Lease
    from ftui.shapes import write_parts

    config = _config(options)
    looked = look(config)
    found = numbers(config, looked)
    if options.rehearse:
        found["plan"] = rehearsed(config, looked, Lease())
    if options.report:
        write_report(found, options.report)
    if options.export:
        options.export.mkdir(parents=True, exist_ok=True)
        written = write_parts(looked.examples, options.shape, options.export)
        found["exported"] = written.sentence
    if not options.json:
        print(report_text(found))
        if options.export:
            print(f"\n{found['exported']}")
    return found


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.backup import backup_of
    from ftui.device import Lease
    from ftui.loop import accompany, carry_out, summary
    from ftui.ranks import join_ranks
    from ftui.runs import RunStore
    from ftui.train import rewind, with_start

    ranks = join_ranks()
    if not ranks.is_first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank 0 stops all after the same step
        sys.exit(0 if accompany(ranks) else 1)
    store = RunStore(options.runs)
    if options.resume and options.config:
        raise UserError("A resumed run has its config already. Give --resume RUN alone, or a CONFIG for a new run.")
    if options.checkpoint is not None and not options.resume:
        raise UserError("--checkpoint says where --resume RUN goes on; a new run starts with --set adapter=RUN@STEP.")
    backup = backup_of(os.environ.get("FTUI_BACKUP"))
    if backup and options.resume:
        backup.bring(options.resume, store)
    run = store.find(options.resume) if options.resume else store.create(with_start(_config(options), store))
    if options.checkpoint is not None:
        rewind(run, options.checkpoint)
    if options.resume:
        with run.held():  # the wish to stop a run that another process works on stays
            run.forget_stop()
    signal.signal(signal.SIGTERM, lambda *_: run.stop("shutdown"))
    if ranks.count > 1:
        _end_in_time(run)
    print(f"Run {run.run_id}", flush=True)
    done = threading.Event()
    printer = threading.Thread(
        target=_print_events, args=(run, done, len(run.events()) if options.resume else 0), daemon=True
    )
    printer.start()
    try:
        state = carry_out(run, Lease(), ranks, backup)
    finally:
        done.set()
        printer.join()
    if state == "failed":
        raise UserError(next(event.message for event in reversed(run.events()) if event.type == "state"))
    found = summary(run)
    if run.discarded:  # a page wished that
        store.trash(run)
    return found


def _end_in_time(run: Run) -> None:
    """Ends the run in a sentence when, after SIGTERM, it does not end by itself, as beside a dead rank on a GPU.

    Python's own handlers wait for the main thread, which may wait for the dead one; the descriptor is written at once.
    The launcher kills 30 seconds after SIGTERM.
    """
    from ftui.runs import WORKING

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())

    def wait() -> None:
        with reader, writer:
            while reader.recv(1)[0] != signal.SIGTERM:
                pass
        time.sleep(SIGTERM_SECONDS)
        if run.state in WORKING:
            run.end("failed", OVERDUE, "error")
            print(f"ftui: {OVERDUE}", file=sys.stderr, flush=True)
            os._exit(2)

    threading.Thread(target=wait, daemon=True).start()


def _print_events(run: Any, done: threading.Event, printed: int) -> None:
    """Every state, message and measurement of the run as it comes, after those that were `printed` or are old."""
    while True:
        last = done.wait(0.5)
        events = run.events()
        for event in events[printed:]:
            line = _event_line(event)
            if line:
                print(line, flush=True)
        printed = len(events)
        if last:
            return


def _event_line(event: Any) -> str:
    if event.data.get("state") == "failed":
        return ""  # the last line on standard error says it
    if event.type in ("state", "message", "resumed"):
        return event.message
    if event.type == "metrics":
        loss, name = (
            (event.data["loss"], "loss")
            if event.data["loss"] is not None
            else (event.data["validation_loss"], "validation loss")
        )
        return f"  step {event.data['step']} of {event.data['steps']}: {name} {loss:.4f}, {event.data['tokens_per_second']:.0f} tokens/s"
    if event.type == "sample":
        return f"  asked at step {event.data['step']}: {event.data['reply'][:150]!r}"
    return ""


def _chat(options: argparse.Namespace) -> dict[str, Any] | None:
    from ftui.chat import ChatSettings, load_for_chat, stream_reply
    from ftui.config import checked
    from ftui.runs import RunStore
    from ftui.train import checkpoint_at

    run = RunStore(options.runs).find(options.run)
    settings = checked(ChatSettings, {"temperature": options.temperature, "max_new_tokens": options.max_new_tokens})
    values = dict(_column(text) for text in options.column)
    checkpoint = None if options.checkpoint is None else checkpoint_at(run, options.checkpoint)
    if checkpoint and options.model not in (None, "adapter"):
        raise UserError("A checkpoint holds an adapter; leave --model away, or take it without --checkpoint.")
    which = options.model or ("merged" if run.merged_dir.is_dir() and not checkpoint else "adapter")
    model, encoding = load_for_chat(run, which, checkpoint)

    def reply(text: str, history: list[dict[str, Any]]) -> dict[str, Any]:
        messages = run.config.template.turn(text, values, history)
        *_, (words, is_cut) = stream_reply(model, encoding, messages, settings, threading.Event())
        tokens = len(encoding.tokenizer(words, add_special_tokens=False)["input_ids"])
        return {
            "reply": words,
            "prompt": encoding.prompt(messages),
            "tokens": tokens,
            "cut": is_cut,
            "model": which,
            "messages": messages,
        }

    prompts = options.prompt or ([""] if values else [])
    if not prompts:
        return _converse(reply)
    replies = [reply(text, []) for text in prompts]
    for found in replies:
        print(found["reply"])
        found.pop("messages")
    return {**replies[-1], "replies": replies}


def _converse(reply: Any) -> None:
    """A conversation in the terminal, until an empty line or the end of input."""
    history: list[dict[str, Any]] = []
    while True:
        try:
            text = input("> ")
        except EOFError:
            return
        if not text.strip():
            return
        found = reply(text, history)
        print(found["reply"])
        history = [message for message in found["messages"] if message["role"] != "system"]
        history.append({"role": "assistant", "content": found["reply"]})


def _column(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--column takes NAME=VALUE; “{text}” has no “=”.")
    return name.strip(), value


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.device import Lease
    from ftui.evaluate import report_markdown
    from ftui.loop import evaluate_again
    from ftui.runs import RunStore

    report = evaluate_again(RunStore(options.runs).find(options.run), Lease(), options.checkpoint)
    print(report_markdown(report))
    return report


def _merge(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.device import Lease
    from ftui.loop import merge_again
    from ftui.runs import RunStore

    run = RunStore(options.runs).find(options.run)
    proof = merge_again(run, Lease())
    print(f"Merged into {run.merged_dir}")
    return {"merged": str(run.merged_dir), "proof": proof}


def _runs(options: argparse.Namespace) -> list[dict[str, Any]] | dict[str, Any]:
    from ftui.history import History
    from ftui.runs import RunStore

    store = RunStore(options.runs)
    if options.delete:
        run = store.find("last") if options.delete == "last" else store.open(options.delete)
        store.trash(run)
        where = "" if options.runs == _usual_runs() else f" --runs {shlex.quote(str(options.runs))}"
        print(f"{run.run_id} is in the trash. `python -m ftui runs --restore {run.run_id}{where}` brings it back.")
        return {"run": run.run_id, "state": "deleted"}
    if options.restore:
        run = store.restore(options.restore)
        print(f"{run.run_id} is back.")
        return {"run": run.run_id, "state": run.state, "path": str(run.path)}
    if options.empty_trash:
        size = store.empty_trash()
        print(f"{size / 1e9:.2f} GB deleted for good.")
        return {"bytes": size}
    history = History(store)
    lines = history.trash() if options.trash else history.lines()
    folder = store.folder / ".trash" if options.trash else store.folder
    if not lines and not options.json:
        print(_why_none(options))
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
    return [line._asdict() | {"path": str(folder / line.run)} for line in lines]


def _why_none(options: argparse.Namespace) -> str:
    """Why the list of runs is empty: perhaps it is the wrong folder."""
    if not options.runs.is_dir():
        return f"There is no folder {options.runs}. Name the folder of runs with --runs, or start a run."
    return f"The trash of {options.runs} is empty." if options.trash else f"There is no run in {options.runs} yet."


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
