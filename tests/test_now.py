"""Which run the Train tab shows, and the one that ended before it."""

import os
import time

from ftui.runs import Run
from ftui.ui.language import Voice
from ftui.ui.run_html import status_html
from ftui.ui.train_tab.now import ended_before


def test_the_verdict_of_a_run_stands_beside_the_one_that_waited_for_it(store, config):
    earlier, first, second = (store.create(config) for _ in range(3))
    earlier.end("stopped", "Long ago.")
    for run in (first, second):
        run.log("state", "Waiting to start.", state="queued")
    assert ended_before(first, store) is None, "what ended before it began to wait is no news"
    earlier.log("message", "It is compared once more.")
    assert ended_before(first, store) is None
    time.sleep(0.002)  # events count milliseconds
    first.end("done", "The tuned model is better than the base on held-out rows.")
    second.log("state", "Training.", state="training")
    with second.held():
        before = ended_before(second, store)
        assert before == first
        html = status_html(second, "training", second.events(), Voice(None), before)
        assert "Before it: rows" in html and "Done: The tuned model is better than the base on held-out rows." in html
    second.end("stopped", "Stopped.")
    assert ended_before(second, store) is None


def test_of_many_runs_only_those_written_to_since_it_waits_are_read_for_the_one_before_it(store, config, monkeypatch):
    old = [store.create(config) for _ in range(3)]
    for run in old:
        run.end("done", "Long ago.")
        os.utime(run.path / "events.jsonl", (time.time() - 60,) * 2)
    resumed, other, waiting = old[0], store.create(config), store.create(config)
    time.sleep(0.01)  # events are told apart by the millisecond
    other.end("done", "The run before it.")
    read, read_tail = [], Run._read_tail
    monkeypatch.setattr(Run, "_read_tail", lambda self, size: read.append(self) or read_tail(self, size))
    assert ended_before(waiting, store) == other
    assert set(read) == {other, waiting}
    time.sleep(0.01)
    resumed.end("stopped", "An old one went on, and ended last.")
    assert ended_before(waiting, store) == resumed
