"""The waiting line of the Train tab."""

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.device import Lease
from ftui.ui.train_tab.parts import Parts
from ftui.ui.train_tab.waiting import Waiting


@pytest.mark.parametrize("chosen", ["gone", None])
@pytest.mark.parametrize("button", ["move_up", "take_out"])
def test_a_choice_that_waits_no_longer_or_is_none_is_told_in_words(store, button, chosen):
    trainer = BackgroundTrainer(store, Lease())
    with gr.Blocks() as studio:
        waiting = Waiting(trainer)
        waiting.wire(Parts(trainer, waiting))
    act = next(function.fn for function in studio.fns.values() if function.name == button)
    with pytest.raises(gr.Error, match="Choose one of the runs that wait"):
        act(None, chosen)
