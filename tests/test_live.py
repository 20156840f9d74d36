"""The live view says what a run's folder says: how far each stage is, in counts that were measured."""

import json
import os
import re
import time

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.device import Lease
from ftui.runs import Event, Run
from ftui.train import checkpoints_of
from ftui.ui.language import Voice
from ftui.ui.live import _sittings, losses_html, proof_html, status_html, watched_html
from ftui.ui.runs_table import checkpoints_html, compared_html
from ftui.ui.train_tab.live import Live, ended_before
from ftui.ui.train_tab.waiting import Waiting


def status(run) -> str:
    return status_html(run, "evaluating", run.events(), Voice(None))


def test_a_stage_shows_its_count_and_its_bar_and_the_next_begins_anew(store, config):
    run = store.create(config)
    run.log("state", "The tuned model answers the same 32 rows.", state="evaluating")
    count = run.counting("answered", 32)
    count(8)
    count(9)
    assert "8 of 32 rows answered" in status(run) and "value='0.250'" in status(run), "at most once a second"
    run.log("state", "Merging.", state="merging")
    assert "answered" not in status(run)
    run.counting("written", 2.7e8)(1.35e8)
    assert "0.1 of 0.3 GB written" in status(run) and "value='0.500'" in status(run)


def test_a_quick_check_claims_no_verdict_and_says_so(run_to_change):
    report = run_to_change.read_json("report.json")
    assert report["verdict"] == "too few rows"
    assert "Too few held-out rows (6)" in proof_html(run_to_change, Voice(None)), "there were no more"
    run_to_change.write("report.json", json.dumps(report | {"limit": 8}))
    assert "A quick check: it works." in proof_html(run_to_change, Voice(None))


def test_a_report_shows_mistakes_first_and_says_how_many_there_are(run_to_change):
    report = run_to_change.read_json("report.json")
    example = {"prompt": "?", "expected": "right", "zero_shot": "base"}
    examples = [{**example, "tuned": "right", "row": row} for row in range(23)] + [{**example, "tuned": "mistaken"}]
    spread = {"difference": {"mean": 0.875, "low": 0.75, "high": 1.0}, "metric": "exact_match"}
    run_to_change.write("report.json", json.dumps(report | spread | {"examples": examples}))
    html = proof_html(run_to_change, Voice(None))
    assert "1 of 24 tuned answers are not exactly as expected; they come first. 12 of 24 rows are shown." in html
    assert html.count("class='right'") == 11 and html.index("mistaken") < html.index("class='right'")
    assert "Difference 88 percentage points, 95 % interval 75 to 100." in html


def test_an_answer_without_words_is_told_from_one_that_was_not_asked(run_to_change):
    report = run_to_change.read_json("report.json")
    example = {"prompt": "?", "expected": "right", "zero_shot": " \n", "tuned": "", "row": 1}
    run_to_change.write("report.json", json.dumps(report | {"examples": [example]}))
    assert proof_html(run_to_change, Voice(None)).count("(no words)") == 2
    samples = [Event("2026-11-22T00:00:00", "info", "sample", "", data) for data in SAMPLES]
    assert watched_html(samples, Voice(None)).count("(no words)") == 1


SAMPLES = [
    {"step": 0, "prompt": "first", "reply": "lamp"},
    {"step": 0, "prompt": "second", "reply": ""},
    {"step": 4, "prompt": "first", "reply": "boat"},
]


def test_a_run_that_is_stopped_says_what_becomes_of_it(store, config):
    run = store.create(config)
    run.log("state", "Training.", state="training")
    run.stop()
    assert "what was learned is kept" in status_html(run, "training", run.events(), Voice(None))
    run.stop("discard")
    assert "goes to the trash" in status_html(run, "training", run.events(), Voice(None))


def test_the_time_that_a_run_took_is_that_of_all_its_sittings(run_to_change):
    def shown(*times: tuple[str, str, dict]) -> str:
        lines = [
            {"time": f"2026-11-21T10:{time}+00:00", "level": "info", "type": type, "message": data.get("message", "")}
            | {"data": data}
            for time, type, data in times
        ]
        run_to_change.write("events.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return status_html(run := Run(run_to_change.path), "done", run.events(), Voice(None))

    reading = {"state": "preparing", "message": "Reading."}
    plan = {"plan": {"seconds": 150, "peak_memory_bytes": 1.4e9}}
    measured = {"step": 1, "steps": 1, "loss": 2.0, "memory": 2e9, "tokens_per_second": 9.0}
    first = [
        ("00:00", "state", reading),
        ("00:01", "message", plan),
        ("00:20", "state", {"state": "preparing", "message": "The base answers."}),
        ("01:00", "metrics", measured),
    ]
    end = [("31:04", "state", {"state": "done"}), ("55:00", "message", {"message": "Compared once more."})]
    assert "planned 2 min 30 s and 1.4 GB, took 31 min 04 s and 2.0 GB<" in shown(*first, *end)
    waiting, again = ("25:00", "state", {"state": "queued"}), [("30:00", "state", reading), ("30:01", "message", plan)]
    assert "took 2 min 04 s and 2.0 GB, in 2 sittings" in shown(*first, waiting, *again, *end)
    assert "took 2 min 04 s and 2.0 GB, in 2 sittings" in shown(*first, *again, *end), "killed, and gone on with"


def test_a_clock_that_is_set_back_takes_no_time_away(store, config):
    run = store.create(config)
    states = {"00:00": {"state": "preparing"}, "10:00": {}, "04:00": {"state": "merging"}, "04:30": {"state": "done"}}
    for clock, data in states.items():
        event = {
            "time": f"2026-11-21T10:{clock}+00:00",
            "level": "info",
            "type": "message",
            "message": "",
            "data": data,
        }
        with (run.path / "events.jsonl").open("a") as file:
            file.write(json.dumps(event | ({"type": "state"} if data else {})) + "\n")
    assert _sittings(run.events()) == [10 * 60 + 30]


@pytest.mark.parametrize("spanish", [False, True])
def test_a_merge_that_could_not_be_proven_says_so_beside_the_report(run_to_change, spanish):
    why = "the merged model fits neither the GPU nor the memory beside it"
    run_to_change.write("proof.json", json.dumps({"base_weights": "original", "not_proven": why}))
    shown = proof_html(run_to_change, Voice.of(spanish))
    assert ("pero no comparado con lo entrenado" if spanish else "but not compared with what was trained") in shown


def plotted(store, config, *measured: dict) -> str:
    run = store.create(config)
    for data in measured:
        run.log("metrics", **data)
    return losses_html(run, Voice(None))


def test_the_curve_begins_with_the_first_step_and_its_axis_ends_with_the_last(store, config):
    html = plotted(store, config, *({"step": step, "loss": 8.0 / step} for step in range(1, 6)))
    assert re.search(r"<polyline points='0.00,0.00 25.00,50.00 [^']*100.00,80.00'", html)
    assert re.findall(r"class='x'[^>]*>(\d+)<", html) == ["1", "2", "3", "4", "5"], "whole steps"
    assert "never sees" not in html, "nothing was validated"
    long = plotted(store, config, *({"step": step, "loss": 1.0} for step in range(1, 1228)))
    assert re.findall(r"class='x'[^>]*>([\d,]+)<", long) == ["1", "200", "400", "600", "800", "1,000", "1,227"]
    assert long.count("<title>") < 400, "thinned out"


def test_a_single_value_is_a_dot(store, config):
    html = plotted(store, config, {"step": 1, "loss": 4.0}, {"step": 4, "loss": 2.0, "validation_loss": 3.0})
    assert re.search(r"<path class='lone' d='M 100.00 25.00 h 0'><title>rows it never sees · step 4: 3.000<", html)
    assert plotted(store, config) == "" and "class='lone'" in plotted(store, config, {"step": 1, "loss": 4.0})


def test_runs_beside_each_other_are_told_apart_even_by_one_value_each(store, config):
    runs = [store.create(config) for _ in range(3)]
    runs[0].log("metrics", step=5, validation_loss=4.0)
    runs[1].log("metrics", step=7, validation_loss=2.0)
    html = compared_html(runs, Voice(None))
    assert html.count("class='lone'") == 2 and "<span class='b'>B</span>" in html and "C</span>" not in html


def test_the_checkpoints_say_why_a_run_does_not_go_on_from_them(run_to_change):
    found, voice = checkpoints_of(run_to_change), Voice(None)
    assert "A finished run is not trained again" in checkpoints_html(run_to_change, found, True, voice)
    assert "Restore the run first" in checkpoints_html(run_to_change, found, False, voice)
    run_to_change.end("stopped", "Stopped.")
    assert "<p" not in checkpoints_html(run_to_change, found, True, voice), "it can"
    with run_to_change.held():
        assert "its checkpoints wait" in checkpoints_html(run_to_change, found, True, voice)


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


@pytest.mark.parametrize("button", ["move_up", "take_out"])
def test_a_waiting_run_that_is_gone_is_told_in_words(store, button):
    trainer = BackgroundTrainer(store, Lease())
    with gr.Blocks() as studio:
        waiting = Waiting(trainer)
        waiting.wire(Live(trainer, waiting))
    act = next(function.fn for function in studio.fns.values() if function.name == button)
    with pytest.raises(gr.Error, match="There is no run “gone”"):
        act(None, "gone")
