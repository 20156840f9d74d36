"""The question before something goes: a Yes does what was asked, with the run that it was asked about."""

from collections.abc import Callable

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.device import Lease
from ftui.ui.language import Voice
from ftui.ui.question import Question


@pytest.fixture
def page(store) -> tuple[Question, Callable]:
    """The question, and what a Yes calls."""
    with gr.Blocks() as studio:
        question = Question(BackgroundTrainer(store, Lease()))
        question.wire()
    return question, next(function.fn for function in studio.fns.values() if function.name == "do_it")


def test_yes_goes_back_to_the_step_that_was_asked_about(page, run_to_change):
    question, yes = page
    run_to_change.end("stopped", "Stopped.")
    wish, _, text = question.ask("rewind", run_to_change, Voice(None), 999)
    assert "from step 999?" in text
    with pytest.raises(gr.Error, match=f"Run {run_to_change.run_id} has no complete checkpoint of step 999"):
        yes(wish)


@pytest.mark.parametrize("verb", ["delete", "discard"])
def test_yes_moves_the_run_to_the_trash_and_empties_it_only_when_that_was_asked(page, run_to_change, verb):
    question, yes = page
    store = question.trainer.store
    yes(question.ask(verb, run_to_change, Voice(None))[0])
    assert store.list() == [] and [run.run_id for run in store.trashed()] == [run_to_change.run_id]
    wish, _, text = question.ask("empty", store.trashed()[0], Voice.of(True), trash_size=2_000_000)
    assert "(2,0 MB)" in text
    yes(wish)
    assert store.trashed() == []


def test_without_a_question_nothing_is_done(page, run_to_change):
    question, yes = page
    yes(question.close()[0])
    assert [run.run_id for run in question.trainer.store.list()] == [run_to_change.run_id]
