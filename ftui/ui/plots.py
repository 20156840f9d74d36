"""The loss plots. LinePlot keeps the axes and colors that it is drawn with, so a plot stays hidden until there is a curve."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.ui.language import Voice

SERIES = {"training": "#4f46e5", "validation": "#ea580c"}


def loss_plot(elem_id: str, colors: dict[str, str], height: int, label: object = None) -> gr.LinePlot:
    return gr.LinePlot(
        None,
        x="step",
        y="loss",
        color="series",
        color_map=colors,
        x_title=" ",
        y_title=" ",
        color_title=" ",
        height=height,
        label=label,
        show_label=label is not None,
        visible=False,
        elem_id=elem_id,
    )


def plotted(curves: Any, loss: str, voice: Voice) -> gr.LinePlot:
    """`curves`: a frame with the columns step, loss and series; None hides the plot. `loss`: whose it is, in words."""
    return gr.LinePlot(curves, visible=curves is not None, x_title=voice("step"), y_title=voice(loss))
