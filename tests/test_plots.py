"""The plots: lines that begin and end where they should, and values that stand alone."""

import re

from ftui.ui.language import Voice
from ftui.ui.run_html import losses_html
from ftui.ui.runs_table import compared_html


def plotted(store, config, *measured: dict) -> str:
    run = store.create(config)
    for data in measured:
        run.log("metrics", **data)
    return losses_html(run, Voice(None))


def test_the_curve_begins_with_the_first_step_and_its_axis_ends_with_the_last(store, config):
    html = plotted(store, config, *({"step": step, "loss": 8.0 / step} for step in range(1, 6)))
    assert re.search(r"<polyline points='0.00,0.00 25.00,50.00 [^']*100.00,80.00'", html)
    assert re.findall(r"class='x'[^>]*>(\d+)<", html) == ["1", "2", "3", "4", "5"], "whole steps"
    assert "never sees" not in html, "nothing was validated"
    long = plotted(store, config, *({"step": step, "loss": 1.0} for step in range(1, 1228)))
    assert re.findall(r"class='x'[^>]*>([\d,]+)<", long) == ["1", "200", "400", "600", "800", "1,000", "1,227"]
    assert long.count("<title>") < 400, "thinned out"


def test_a_single_value_is_a_dot(store, config):
    html = plotted(store, config, {"step": 1, "loss": 4.0}, {"step": 4, "loss": 2.0, "validation_loss": 3.0})
    assert re.search(r"<path class='lone' d='M 100.00 25.00 h 0'><title>rows it never sees · step 4: 3.000<", html)
    assert plotted(store, config) == "" and "class='lone'" in plotted(store, config, {"step": 1, "loss": 4.0})


def test_runs_beside_each_other_are_told_apart_even_by_one_value_each(store, config):
    runs = [store.create(config) for _ in range(3)]
    runs[0].log("metrics", step=5, validation_loss=4.0)
    runs[1].log("metrics", step=7, validation_loss=2.0)
    html = compared_html(runs, Voice(None))
    assert html.count("class='lone'") == 2 and "<span class='b'>B</span>" in html and "C</span>" not in html
