"""The live view says what a run's folder says: how far each stage is, in counts that were measured."""

import json

from ftui.ui.language import Voice
from ftui.ui.live import proof_html, status_html


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


def test_a_run_that_is_stopped_says_what_becomes_of_it(store, config):
    run = store.create(config)
    run.log("state", "Training.", state="training")
    run.stop()
    assert "what was learned is kept" in status_html(run, "training", run.events(), Voice(None))
    run.stop("discard")
    assert "goes to the trash" in status_html(run, "training", run.events(), Voice(None))
