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


def test_a_small_size_is_not_told_as_none():
    shown = [size_of(size, Voice(None)) for size in (40_000, 1_500_000, 2_000_000_000)]
    assert shown == ["40.0 kB", "1.5 MB", "2.00 GB"]
