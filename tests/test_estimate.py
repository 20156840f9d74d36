"""The estimate that the Train tab shows before the click."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from ftui.config import RunConfig
from ftui.device import Device
from ftui.plan import Choice, Measured, Plan, Tokens, plan, price_here
from ftui.ui.language import Voice
from ftui.ui.train_tab.estimate import Estimate, plan_html

GB = 10**9


def test_the_estimate_says_what_each_part_takes_and_what_was_measured(config):
    model_config = json.loads((Path(config.base_model) / "config.json").read_text())
    device = Device("cpu", "CPU", 16 * GB, 2, True)
    measured = Measured({"loading": 75.0}, 2 * GB, Choice(70, 1, 2), "Measured: <so>.")
    price = price_here({"FTUI_PRICE_PER_HOUR": "36"}, device)
    english, spanish = Voice.of(False), Voice.of(True)
    html = plan_html(plan(config, model_config, Tokens([100] * 20), device, price, measured), GB, english)
    assert "loading 1 min 15 s" in html and "measured in a rehearsal" in html and "about $0." in html
    assert "1 of 2 layers" in html and "2.0 GB of memory" in html and "&lt;so&gt;" in html
    guessed = plan_html(plan(config, model_config, Tokens([100] * 20), device), GB, spanish)
    assert "carga" in guessed and "estimación" in guessed and "$" not in guessed


def test_a_disk_that_is_too_small_is_told_before_the_click(config):
    model_config = json.loads((Path(config.base_model) / "config.json").read_text())
    found = plan(config, model_config, Tokens([100] * 20), Device("cpu", "CPU", 16 * GB, 2, True))
    enough, too_small = found.disk_bytes, found.disk_bytes - 1
    assert "Make room" not in plan_html(found, enough, Voice.of(False))
    assert "Make room" in plan_html(found, too_small, Voice.of(False))
    assert "Haz sitio" in plan_html(found, too_small, Voice.of(True))


def test_what_a_rehearsal_found_still_says_which_adapter_the_run_starts_from(config):
    class Ended(NamedTuple):
        config: RunConfig
        plan: Plan
        is_going: bool = False

    model_config = json.loads((Path(config.base_model) / "config.json").read_text())
    found = plan(config, model_config, Tokens([100] * 20), Device("cpu", "CPU", 16 * GB, 2, True))
    ended = Ended(config.model_copy(update={"adapter": "earlier-run"}), found)
    assert (
        "Starts from the adapter of earlier-run."
        in Estimate._rehearsal(SimpleNamespace(_disk=GB), ended, Voice.of(False))[0]
    )
