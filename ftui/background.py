"""BackgroundTrainer: one run at a time, in a daemon thread of this process; the others wait in a queue.

It belongs to the server, never to a page. Nothing passes from the work to the page but through the run's folder.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ftui.backup import Backup
from ftui.config import RunConfig
from ftui.device import Lease, release_memory
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import Examples
from ftui.failures import explain_failure
from ftui.plan import Plan
from ftui.runs import WORKING, Run, RunStore, Stopped
from ftui.train import check_possible, checkpoint_at, rewind, with_start

SHUTDOWN_SECONDS = 25


class Rehearsal:
    """A rehearsal of one config in a thread: what it does now in `said`; in the end its `plan`, or why there is none."""

    def __init__(self, config: RunConfig, encoding: Encoding, examples: Examples, lease: Lease) -> None:
        self.config = config
        self.plan: Plan | None = None
        self.said = "Rehearsing: the model is loaded."
        self._thread = threading.Thread(
            target=self._work, args=(encoding, examples, lease), name="ftui-rehearsal", daemon=True
        )
        self._thread.start()

    @property
    def is_going(self) -> bool:
        return self._thread.is_alive()

    def _work(self, encoding: Encoding, examples: Examples, lease: Lease) -> None:
        be_nice()
        from ftui.rehearse import rehearse

        try:
            self.plan = rehearse(self.config, encoding, examples, lease, self._say)
        except Exception as error:  # a thread that ends silently would leave the page waiting
            self._say(explain_failure(error))

    def _say(self, sentence: str) -> None:
        self.said = sentence


class BackgroundTrainer:
    """Starts runs, one after the other. A start while one works is refused; it can be queued instead."""

    def __init__(self, store: RunStore, lease: Lease, backup: Backup | None = None) -> None:
        self._store = store
        self._lease = lease
        self._backup = backup
        self._changing = threading.RLock()
        self._waiting: list[Run] = []
        self._run: Run | None = None
        self.rehearsal: Rehearsal | None = None
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self._is_discarded = False  # the run at work: it goes to the trash as soon as it has ended

    @property
    def store(self) -> RunStore:
        return self._store

    def start(self, config: RunConfig) -> Run:
        """A new run, at work. UserError while another works, in this process or in a terminal."""
        with self._changing:
            self._check_free()
            return self._work_on(self._create(config))

    def resume(self, run: Run, step: int | None = None) -> Run:
        """A run that ended early, at work again, from its newest checkpoint or from that of `step`, without what came later.

        UserError for one that is done, and while another works.
        """
        with self._changing:
            if run.written_state == "done":
                raise UserError(f"Run {run.run_id} is done, and a finished run is not trained again.")
            if run.is_held and run != self._run:  # its wish to stop, and its state, are those of that work
                raise UserError(f"Run {run.run_id} is being worked on by another process.")
            self._check_free()
            if step is not None:
                rewind(run, step, self._backup.follow_back if self._backup else None)
            try:
                run.forget_stop()
                run.log("state", "Waiting to go on.", state="queued")
            except OSError as error:
                raise UserError(
                    f"The folder of run {run.run_id} cannot be written to: {error.strerror}. Mend that, then resume."
                ) from None
            if run in self._waiting:
                self._waiting.remove(run)
            return self._work_on(run)

    def queue(self, config: RunConfig) -> Run:
        """A new run that begins when those before it have ended; at once if there are none. In a queue that rests, and
        beside a run of another process, it waits until somebody starts the queue."""
        with self._changing:
            is_busy = self._is_working or self._waiting or self.at_work or self._store.held()
            run = self._create(config)
            if is_busy:
                self._waiting.append(run)
                return run
            return self._work_on(run)

    def rehearse(self, config: RunConfig, encoding: Encoding, examples: Examples) -> Rehearsal:
        """A rehearsal, under way. UserError while a run works or another rehearsal goes on."""
        with self._changing:
            if working := self._run or self.at_work or self._store.held():
                raise UserError(f"Run {working.run_id} is at work. Rehearse when it is done.")
            if self.rehearsal and self.rehearsal.is_going:
                raise UserError("Another rehearsal is under way. It takes a minute or two.")
            self.rehearsal = Rehearsal(config, encoding, examples, self._lease)
            return self.rehearsal

    def rehearsed(self, config: RunConfig) -> Plan | None:
        """The corrected plan, if it was this config that was rehearsed last."""
        return self.rehearsal.plan if self.rehearsal and self.rehearsal.config == config else None

    def _create(self, config: RunConfig) -> Run:
        """A new run, with the plan that was rehearsed for it. UserError for one that this machine cannot carry out."""
        check_possible(config)
        run = self._store.create(with_start(config, self._store))
        if plan := self.rehearsed(config):
            run.write("plan.json", json.dumps(plan.values(), indent=1))
        return run

    @property
    def waiting(self) -> list[Run]:
        """The queue, the next one first."""
        return list(self._waiting)

    @property
    def rests(self) -> bool:
        """Whether runs wait although nothing works: so they do after a start of the app, until a person wishes that one begins."""
        return bool(self._waiting) and not self._is_working

    @property
    def at_work(self) -> Run | None:
        """The run that works or is about to, in this process or another; none of those that wait here."""
        own, waiting = self._run, self.waiting
        if own and own.state in (*WORKING, "queued"):
            return own
        other = self._store.working()
        return None if other in waiting else other

    def take_back(self) -> None:
        """Puts back into the queue what an app that ended has left in it, and throws away what it did not come to. Nothing
        begins by itself."""
        with self._changing:
            for run in self._store.list():
                if (run.discarded or run.discarding) and not run.is_held:
                    self._put_away(run)
            self._waiting = self._store.left_waiting()

    def go_on(self) -> None:
        """Begins with the queue that rests. UserError while something works."""
        with self._changing:
            self._check_free()
            if run := self._next():
                self._work_on(run)

    def _next(self) -> Run | None:
        """Takes out the next run that still waits: another process may have carried one out, or thrown it away.

        None while ftui ends or must be restarted: they wait for the next process.
        """
        while self._waiting and not (self._is_ending or self._lease.trouble):
            run = self._waiting.pop(0)
            if run.path.is_dir() and run.written_state == "queued" and not run.is_held:
                return run
        return None

    @property
    def trouble(self) -> str | None:
        """Why nothing can begin before ftui is restarted, if so."""
        return self._lease.trouble

    def move_up(self, run: Run) -> None:
        with self._changing:
            place = self._waiting.index(run) if run in self._waiting else 0
            if place:
                self._waiting[place - 1 : place + 1] = [run, self._waiting[place - 1]]
                self._store.keep_order(self._waiting)

    def remove(self, run: Run) -> None:
        """Takes a run out of the queue; what never began goes to the trash folder."""
        with self._changing:
            if run in self._waiting:
                self._waiting.remove(run)
                self._store.trash(run)

    def restore(self, run: Run) -> None:
        """Brings a run back from the trash; one that never began waits again."""
        with self._changing:
            restored = self._store.restore(run.run_id)
            if restored.written_state == "queued":
                self._waiting.append(restored)

    def empty_trash(self) -> None:
        """Deletes what is in the trash for good, in the backup as well. UserError where that cannot be done."""
        with self._changing:
            self._store.empty_trash(self._backup.forget if self._backup else None)

    def evaluate(self, run: Run, step: int | None = None) -> None:
        """Compares a run with its base once more, or its checkpoint of `step`. UserError while something works."""
        with self._changing:
            self._check_free()
            if step is not None:
                checkpoint_at(run, step)
            self._work_on(run, lambda run: _evaluate(run, self._lease, step))

    def merge(self, run: Run) -> None:
        """Merges what a run has learned, with proof, as its end would have. UserError while something works."""
        with self._changing:
            self._check_free()
            self._work_on(run, lambda run: _merge(run, self._lease))

    def discard(self, run: Run) -> None:
        """Throws a run away: one that waits or has ended goes to the trash now, one at work as soon as it has stopped."""
        with self._changing:
            if run in self._waiting:
                self.remove(run)
            elif run == self._run:
                self._is_discarded = True
                run.stop("discard")
            elif run.state in WORKING:
                run.stop("discard")
            else:
                self._store.trash(run)

    def shut_down(self) -> None:
        """Saves the run at work within 25 seconds and lets it read "interrupted", so that it can be resumed. None follows it."""
        self._is_ending = True
        run, thread = self._run, self._thread
        if run and thread and thread.is_alive():
            run.stop("shutdown")
            thread.join(SHUTDOWN_SECONDS)

    @property
    def _is_working(self) -> bool:
        return self._run is not None

    def _check_free(self) -> None:
        if self._lease.trouble:
            raise UserError(self._lease.trouble)
        if self._run:
            raise UserError(
                f"Run {self._run.run_id} is still at work. Stop it first, wait until it is done, or queue this one."
            )
        if other := self.at_work or self._store.held():
            raise UserError(
                f"Run {other.run_id} is at work in another process. Stop it first, or wait until it is done."
            )

    def _work_on(self, run: Run, work: Callable[[Run], None] | None = None) -> Run:
        self._run = run
        self._thread = threading.Thread(
            target=self._work, args=(run, work or self._carry_out), name="ftui-runs", daemon=True
        )
        self._thread.start()
        return run

    def _work(self, run: Run | None, work: Callable[[Run], None]) -> None:
        """Does the work at hand, then carries out the runs in the queue."""
        be_nice()
        while run:
            try:
                work(run)
            except BaseException as error:  # not even that could be written down: the queue goes on
                print(
                    f"ftui: run {run.run_id} ended, and its folder cannot say why: {explain_failure(error)}", flush=True
                )
            work = self._carry_out
            with self._changing:
                if self._is_discarded or run.discarded:
                    self._put_away(run)
                self._is_discarded = False
                run = self._run = self._next()

    def _put_away(self, run: Run) -> None:
        """Throws away what has ended, as somebody wished while it was at work, or before this process began."""
        try:
            run.forget_stop()
            self._store.trash(run)
        except (UserError, OSError) as error:
            print(f"ftui: {error}", flush=True)

    def _carry_out(self, run: Run) -> None:
        from ftui.loop import carry_out

        try:
            carry_out(run, self._lease, backup=self._backup)
        except BaseException as error:  # the lock or the accelerator is taken, or the failure could not be written
            if not run.is_held:  # or its state is that of whoever works on it
                run.end("interrupted", explain_failure(error), "error")


def _evaluate(run: Run, lease: Lease, step: int | None) -> None:
    from ftui.loop import evaluate_again

    with _told_in_log(run):
        evaluate_again(run, lease, step)


def _merge(run: Run, lease: Lease) -> None:
    from ftui.loop import merge_again

    with _told_in_log(run):
        merge_again(run, lease)


@contextmanager
def _told_in_log(run: Run) -> Iterator[None]:
    """What is done with a run that has ended: it keeps its state, and the queue goes on, whatever becomes of the work."""
    try:
        yield
    except Stopped as stopped:
        run.log("message", str(stopped), "warning")
    except Exception as error:
        run.log("message", explain_failure(error), "error")
    finally:
        release_memory()


def be_nice() -> None:
    """Lets the page go first by its share of the time, though not by pushing the work off its core (`web.give_way`); on
    Linux a thread has its own priority and policy, and OpenMP's workers inherit them."""
    with suppress(AttributeError, OSError):  # another system, or one that lets nobody choose
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
