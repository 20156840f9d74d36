"""What the Chat tab shows for a run, also for one that it cannot ask."""

import gradio as gr
import pytest

from ftui.config import RunConfig
from ftui.runs import Run
from ftui.ui.chat_tab.chooser import Chooser, ready_runs
from ftui.ui.chat_tab.talk import Talk
from ftui.ui.language import Voice

MANY = " ".join(f"{{{{{column}}}}}" for column in "abcdefg")


@pytest.fixture
def page() -> tuple[Chooser, Talk]:
    with gr.Blocks():
        return Chooser(), Talk()


def ended(store, values) -> Run:
    run = store.create(RunConfig.parse(values))
    run.adapter_dir.mkdir()
    run.end("done", "Done.")
    return run


def test_a_run_with_more_columns_than_boxes_says_so_and_others_can_still_be_chosen(page, store, values):
    chooser, talk = page
    other = ended(store, values)
    run = ended(store, values | {"template": {"prompt": MANY, "completion": "{{answer}}"}})
    runs, which, *rest = chooser.show(ready_runs(store), run, None, Voice(None))
    assert {name for _, name in runs.choices} == {run.run_id, other.run_id} and runs.value == run.run_id
    assert not which.interactive and len(rest) == len(chooser.outputs) - 2
    message, *buttons = talk.show(run, Voice(None), False)
    assert "uses 7 columns" in message.placeholder and not any(button.interactive for button in buttons)
    assert "usa 7 columnas" in talk.show(run, Voice.of(spanish=True), False)[0].placeholder
    shown = dict(zip(talk.outputs, talk.show(other, Voice(None), False), strict=True))
    assert [button.interactive for button in (shown[talk.send], shown[talk.halt])] == [True, False]


def test_columns_beside_the_message_get_boxes_with_their_names(page, store, values):
    run = ended(
        store, values | {"template": {"system": "{{who}}", "prompt": "{{a}} {{b}}", "completion": "{{answer}}"}}
    )
    boxes = page[0].show(ready_runs(store), run, None, Voice(None))[4:]
    assert [box.label for box in boxes if box.visible] == ["who", "a"]
