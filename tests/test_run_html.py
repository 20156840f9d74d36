"""A run on the page says what its folder says: how far each stage is, in counts that were measured."""

import json
import re

from ftui.history import line_of
from ftui.runs import Event, Run
from ftui.ui.language import Voice
from ftui.ui.run_html import _sittings, run_title, status_html, watched_html
from ftui.ui.runs_table import runs_html


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


SAMPLES = [
    {"step": 0, "prompt": "first", "reply": "lamp"},
    {"step": 0, "prompt": "second", "reply": ""},
    {"step": 4, "prompt": "first", "reply": "boat"},
]


def test_an_answer_without_words_is_told_from_one_that_was_not_asked():
    samples = [Event("2026-11-22T00:00:00", "info", "sample", "", data) for data in SAMPLES]
    assert watched_html(samples, Voice(None)).count("(no words)") == 1


def test_a_run_that_is_stopped_says_what_becomes_of_it(store, config):
    run = store.create(config)
    run.log("state", "Training.", state="training")
    run.stop()
    assert "what was learned is kept" in status_html(run, "training", run.events(), Voice(None))
    run.stop("discard")
    assert "goes to the trash" in status_html(run, "training", run.events(), Voice(None))


def test_the_time_that_a_run_took_is_that_of_all_its_sittings(run_to_change):
    (peak,) = (event.data["peak_memory"] for event in run_to_change.events() if event.data.get("state") == "merging")
    assert peak >= max(data["peak_memory"] for data in run_to_change.metrics()), "the most until the merge began"

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
    compared = ("31:00", "state", {"state": "merging", "peak_memory": 2.1e9})
    end = [("31:04", "state", {"state": "done"}), ("55:00", "message", {"message": "Compared once more."})]
    assert "took 31 min 04 s and 2.1 GB<" in shown(*first, compared, *end), "the tuned answers are planned as well"
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


def test_an_interrupted_run_says_why_where_somebody_could_write_it_down(store, config):
    run = store.create(config)
    run.log("state", "Learning.", state="training")
    assert "The process that worked on this run ended." in status_html(run, run.state, run.events(), Voice(None))
    run.end("interrupted", "The accelerator is busy: the chat. Wait until it is done, or stop it.", "error")
    assert "The accelerator is busy: the chat." in status_html(run, run.state, run.events(), Voice(None))


def test_a_run_whose_config_cannot_be_read_says_so_in_the_language_of_the_page(store, config):
    run, spanish = store.create(config), Voice.of(spanish=True)
    run.write("config.yaml", "base_model: [")
    for said in (run_title(run, spanish), status_html(run, run.state, run.events(), spanish)):
        assert "no se puede leer su configuración" in said and "cannot" not in said


def test_runs_of_the_same_minute_are_told_apart_wherever_one_is_chosen(store, config):
    assert len({run_title(store.create(config), Voice(None)) for _ in range(3)}) == 3


def test_runs_on_the_same_rows_are_told_apart_aloud(store, config):
    lines = [line_of(store.create(config))._replace(created=f"2026-11-2{day}T09:30:00") for day in (1, 2)]
    labels = re.findall("aria-label='([^']* Nov [^']*)'", runs_html(lines, None, [], "", Voice(None)))
    assert len(set(labels)) == len(labels) == 4


def test_a_run_that_waits_says_so_once(store, config):
    run = store.create(config)
    for spanish, said in ((False, "Waiting to start"), (True, "En espera")):
        assert status_html(run, "queued", run.events(), Voice.of(spanish)).count(said) == 1
