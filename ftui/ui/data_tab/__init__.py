"""2 Data: where the rows come from, what is asked and what is learned, what is wrong with them, and how the model sees them."""

from __future__ import annotations

import gradio as gr

from ftui.config import RunConfig
from ftui.runs import RunStore
from ftui.ui.data_tab.downloads import downloads
from ftui.ui.data_tab.examined import Findings, Pages, examined
from ftui.ui.data_tab.mapping import Mapping
from ftui.ui.data_tab.proposal import Table, proposed
from ftui.ui.data_tab.source import Advanced, Source
from ftui.ui.draft import Draft
from ftui.ui.events import LATEST
from ftui.ui.fieldset import Fields, Form
from ftui.ui.preview import Preview

__all__ = ["data_tab"]


def data_tab(first: RunConfig, store: RunStore, preview: Preview, others: Draft, tab: gr.Tab) -> Fields:
    """Returns its inputs. `others`: those of other tabs, on which depends what the model sees of the rows."""
    with gr.Row():
        with gr.Column(scale=1):
            source = Source(first.dataset)
            recognized = gr.Markdown(elem_id="recognized")
            mapping = Mapping(first.template)
            advanced = Advanced(first)
        with gr.Column(scale=2):
            table = Table()
            findings = Findings()
            pages = Pages()
            below = gr.Column()

    own = {**source.fields, **mapping.fields, **advanced.split, **advanced.reading}
    form = Form({**others.form.by_path, **own})
    with below:
        downloads(form, preview)

    show = table.shown(Form({**source.fields, **advanced.reading}), mapping)
    propose = proposed(source.upload, table, recognized, mapping, Draft(others.length, form))
    examine, examine_mapping = examined(findings, pages, form, preview)
    tab.select(**show).then(**examine)
    for chosen in source.wire(store):
        chosen(**propose).success(**examine)
    findings.look.click(**examine)
    pages.wire(form, preview)
    for changed in findings.wire(form, store, preview):
        changed(**show).success(**examine)
    for changed in mapping.wire():
        changed(**examine_mapping, **LATEST)
    return own
