"""train: a run carried out in this process, which is told line by line as it goes."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ftui.errors import UserError
from ftui.terminal.arguments import Commands, add_checkpoint, add_command, add_config, config_of

if TYPE_CHECKING:
    from ftui.backup import Backup
    from ftui.config import RunConfig
    from ftui.runs import Event, Run, RunStore

SIGTERM_SECONDS = 20


def add_train(commands: Commands) -> None:
    added = add_command(
        commands, "train", train, "the whole loop: data, base answers, training, tuned answers, merge, proof"
    )
    added.add_argument("--resume", metavar="RUN", help="go on with a run that ended early, from its newest checkpoint")
    add_config(added)
    add_checkpoint(added, "with --resume: go back to")


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Does not return where this process is not the first of its run."""
    from ftui.backup import backup_of
    from ftui.device import Lease
    from ftui.loop import accompany, carry_out, summary
    from ftui.ranks import join_ranks
    from ftui.runs import RunStore

    ranks = join_ranks()
    if not ranks.is_first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank 0 stops all after the same step
        came_to_end = accompany(ranks)
        sys.stdout.flush()
        sys.stderr.flush()
        # Gloo's threads may outlive Python's objects and abort a process that ends as usual (pytorch#179291); the
        # launcher would then end rank 0, too, which has the rest of the run before it.
        os._exit(0 if came_to_end else 1)
    store = RunStore(options.runs)
    _check_resumption(options)
    backup = backup_of(os.environ.get("FTUI_BACKUP"))
    run = _resumed(options, store, backup) if options.resume else _new(config_of(options), store)
    signal.signal(signal.SIGTERM, lambda *_: run.stop("shutdown"))
    if ranks.count > 1:
        _end_in_time(run)
    print(f"Run {run.run_id}", flush=True)
    with _told(run, after=len(run.events()) if options.resume else 0):
        state = carry_out(run, Lease(), ranks, backup)
    if state == "failed":
        raise UserError(next(event.message for event in reversed(run.events()) if event.type == "state"))
    found = summary(run)
    if run.discarded:  # a page wished that
        store.trash(run)
    return found


def _check_resumption(options: argparse.Namespace) -> None:
    if options.resume and (options.config or options.overrides):
        raise UserError("A resumed run has its config already. Give --resume RUN alone, or a CONFIG for a new run.")
    if options.checkpoint is not None and not options.resume:
        raise UserError("--checkpoint says where --resume RUN goes on; a new run starts with --set adapter=RUN@STEP.")


def _new(config: RunConfig, store: RunStore) -> Run:
    """UserError, before a run is made, for one that this machine cannot carry out."""
    from ftui.train import check_possible, with_start

    check_possible(config)
    return store.create(with_start(config, store))


def _resumed(options: argparse.Namespace, store: RunStore, backup: Backup | None) -> Run:
    """The run to go on with, from the backup where it is only there, and taken back to its checkpoint."""
    from ftui.train import rewind

    if backup:
        backup.bring(options.resume, store)
    run = store.find(options.resume)
    if options.checkpoint is not None:
        rewind(run, options.checkpoint, backup.follow_back if backup else None)
    with run.held():  # the wish to stop a run that another process works on stays
        run.forget_stop()
    return run


def _end_in_time(run: Run) -> None:
    """Ends the run in a sentence when, after SIGTERM, it does not end by itself, as beside a dead rank on a GPU.

    Python's own handlers wait for the main thread, which may wait for the dead one; the descriptor is written at once.
    The launcher kills 30 seconds after SIGTERM.
    """
    from ftui.loop import OVERDUE
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


@contextmanager
def _told(run: Run, after: int) -> Iterator[None]:
    """Within it, every state, message and measurement of the run is printed as it comes; the first `after` are old."""
    done = threading.Event()

    def tell() -> None:
        printed, last = after, False
        while not last:
            last = done.wait(0.5)
            events = run.events()
            for line in filter(None, map(event_line, events[printed:])):
                print(line, flush=True)
            printed = len(events)

    printer = threading.Thread(target=tell, daemon=True)
    printer.start()
    try:
        yield
    finally:
        done.set()
        printer.join()


def event_line(event: Event) -> str:
    """What the terminal says of an event; nothing of some."""
    data = event.data
    if data.get("state") == "failed":
        return ""  # the last line on standard error says it
    if event.type in ("state", "message", "resumed"):
        return event.message
    if event.type == "metrics":
        is_learned = data["loss"] is not None
        loss, name = (data["loss"], "loss") if is_learned else (data["validation_loss"], "validation loss")
        return f"  step {data['step']} of {data['steps']}: {name} {loss:.4f}, {data['tokens_per_second']:.0f} tokens/s"
    if event.type == "sample":
        return f"  asked at step {data['step']}: {data['reply'][:150]!r}"
    return ""
