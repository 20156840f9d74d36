"""The waiting line of the Train tab."""

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.device import Lease
from ftui.ui.train_tab.parts import Parts
from ftui.ui.train_tab.waiting import Waiting


@pytest.mark.parametrize("button", ["move_up", "take_out"])
def test_a_waiting_run_that_is_gone_is_told_in_words(store, button):
    trainer = BackgroundTrainer(store, Lease())
    with gr.Blocks() as studio:
        waiting = Waiting(trainer)
        waiting.wire(Parts(trainer, waiting))
    act = next(function.fn for function in studio.fns.values() if function.name == button)
    with pytest.raises(gr.Error, match="There is no run “gone”"):
        act(None, "gone")
