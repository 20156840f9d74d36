"""The question that is asked before something goes."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.history import line_of
from ftui.runs import Run
from ftui.ui.events import QUIET, UNSEEN, telling
from ftui.ui.language import Voice, say
from ftui.ui.run_html import run_title
from ftui.ui.runs_table import size_of

SENTENCES = {
    "discard": "Stop {run} and throw it away? It goes to the trash and can be restored from there.",
    "delete": "Move {run} to the trash ({size})? It can be restored from there.",
    "empty": "Delete everything in the trash for good ({trash})? This cannot be undone.",
    "rewind": "Continue {run} from step {step}? What was learned after it is gone.",
}
# The answer that changes nothing has the focus and is Escape; afterwards the focus is back where it was.
BY_KEYBOARD = """
function ask() {
  const before = document.activeElement;
  requestAnimationFrame(() => {
    const box = element.closest('.ask'), no = box?.querySelector('[id$=no]');
    if (!no || !element.textContent.trim()) return;
    no.focus();
    no.addEventListener('click', () => before.focus(), {once: true});
    box.onkeydown = event => { if (event.key === 'Escape') no.click(); };  // false would hold back every other key
  });
}
watch('value', ask);
ask();
"""


class Wish(NamedTuple):
    """What a Yes carries out. `verb`: a key of SENTENCES; `step`: the one to go back to."""

    verb: str
    run_id: str
    step: int | None = None


class Question:
    """The wish waits in `outputs` with the run that it was asked about, whatever the page looks at by then."""

    def __init__(self, trainer: BackgroundTrainer, prefix: str = "") -> None:
        """`prefix` tells its elements from those of another tab."""
        self.trainer = trainer
        self.wish = gr.State(None)
        with gr.Column(visible=False, elem_id=f"{prefix}ask", elem_classes="ask") as self.box:
            self.text = gr.HTML(js_on_load=BY_KEYBOARD, padding=False, elem_id=f"{prefix}question")
            with gr.Row():
                self.yes = gr.Button(say("Yes, do it"), variant="stop", size="sm", elem_id=f"{prefix}yes")
                self.no = gr.Button(say("No, leave it"), size="sm", elem_id=f"{prefix}no")
        self.outputs = [self.wish, self.box, self.text]

    def ask(self, verb: str, run: Run, voice: Voice, step: int | None = None, trash_size: int = 0) -> list[Any]:
        size, title = size_of(line_of(run).bytes, voice), escape(run_title(run, voice))
        text = voice(SENTENCES[verb], run=f"<b>{title}</b>", size=size, trash=size_of(trash_size, voice), step=step)
        return [Wish(verb, run.run_id, step), gr.Column(visible=True), f"<p role='alert'>{text}</p>"]

    def close(self) -> list[Any]:
        return [None, gr.Column(visible=False), ""]

    def wire(self) -> gr.events.Dependency:
        """Returns the event after which what was asked has been done."""

        def do_it(wish: Wish | None) -> list[Any]:
            with telling():
                if wish:
                    self._carry_out(wish)
            return self.close()

        self.no.click(self.close, outputs=self.outputs, **QUIET)
        return self.yes.click(do_it, self.wish, self.outputs, **UNSEEN)

    def _carry_out(self, wish: Wish) -> None:
        store = self.trainer.store
        if wish.verb == "empty":
            self.trainer.empty_trash()
        elif wish.verb == "rewind":
            self.trainer.resume(store.open(wish.run_id), wish.step)
        else:
            self.trainer.discard(store.open(wish.run_id))
