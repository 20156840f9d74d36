"""The tables of the Runs tab say why something cannot be done."""

from ftui.train import checkpoints_of
from ftui.ui.language import Voice
from ftui.ui.runs_table import checkpoints_html, size_of


def test_the_checkpoints_say_why_a_run_does_not_go_on_from_them(run_to_change):
    found, voice = checkpoints_of(run_to_change), Voice(None)
    assert "A finished run is not trained again" in checkpoints_html(run_to_change, found, True, voice)
    assert "Restore the run first" in checkpoints_html(run_to_change, found, False, voice)
    run_to_change.end("stopped", "Stopped.")
    assert "<p" not in checkpoints_html(run_to_change, found, True, voice), "it can"
    with run_to_change.held():
        assert "its checkpoints wait" in checkpoints_html(run_to_change, found, True, voice)


def test_a_checkpoint_that_was_compared_shows_its_verdict_where_it_was_asked_for(run_to_change):
    found, voice = checkpoints_of(run_to_change), Voice(None)
    first, second = found
    run_to_change.write(f"report-step-{first.step}.json", '{"verdict": "better"}')
    _, _, of_first, of_second = checkpoints_html(run_to_change, found, True, voice).split("<tr>")
    assert f"<td data-label='Step'>{first.step}</td>" in of_first and "<span class='good'>better</span>" in of_first
    assert f"<td data-label='Step'>{second.step}</td>" in of_second and "<td data-label='Verdict'>–</td>" in of_second


def test_a_small_size_is_not_told_as_none():
    shown = [size_of(size, Voice(None)) for size in (40_000, 1_500_000, 2_000_000_000)]
    assert shown == ["40.0 kB", "1.5 MB", "2.00 GB"]
