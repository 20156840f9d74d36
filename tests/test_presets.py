"""Every preset is a config that can be started as it stands."""

import pytest
import yaml

from ftui.config import PRESETS_DIR, RunConfig, presets

NAMES = sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_parses_and_its_template_fits_its_rows(name):
    config = RunConfig.load(name)
    rows = config.dataset.load()
    config.template.check(rows.columns)
    split = config.split.apply(rows)
    assert split.train and split.validation and split.test
    assert config.template.render(rows[split.train[0]])[-1]["role"] == "assistant"


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is_for_and_what_it_needs(name):
    about = yaml.safe_load((PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8"))["about"]
    assert set(about) == {"title", "needs"} and about["needs"].endswith(".")


def test_the_starter_comes_first_and_every_preset_is_listed():
    found = presets()
    assert found[0].name == "starter"
    assert sorted(preset.name for preset in found) == NAMES
    starters = [preset.config.base_model == "starter" for preset in found]
    assert starters == sorted(starters, reverse=True)


def test_a_preset_takes_overrides():
    assert RunConfig.load("starter", ["training.max_steps=2"]).training.max_steps == 2
