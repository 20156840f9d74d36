"""The simple questions: what a step sets is read back as that step, and the length changes nothing but the length."""

import pytest

from ftui.config import LoraSettings, RunConfig, TrainingSettings, presets
from ftui.errors import UserError
from ftui.ui.simple import STEPS, lengthened, settings_of, strength_of


def settings(values: dict) -> tuple[LoraSettings, TrainingSettings]:
    split = {path.partition(".")[2]: value for path, value in values.items()}
    rate = split.pop("learning_rate")
    return LoraSettings(**split), TrainingSettings(learning_rate=rate)


@pytest.mark.parametrize("parameters", [None, 135_000_000, 8_000_000_000])
@pytest.mark.parametrize("strength", STEPS)
def test_what_a_step_sets_is_read_back_as_that_step(strength, parameters):
    assert strength_of(*settings(settings_of(strength, parameters))) == strength


def test_a_step_more_is_more_and_a_small_model_learns_in_larger_steps():
    ranks = [settings_of(strength, None)["lora.r"] for strength in STEPS]
    assert ranks == sorted(set(ranks))
    small, large = (settings_of("normal", size)["training.learning_rate"] for size in (135_000_000, 8_000_000_000))
    assert small == 5 * large


@pytest.mark.parametrize("changed", [{"lora.r": 12}, {"training.learning_rate": 3e-4}, {"lora.lora_alpha": 16}])
def test_settings_that_are_no_step_are_the_persons_own(changed):
    assert strength_of(*settings(settings_of("normal", None) | changed)) == "own"


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_every_preset_is_one_of_the_steps(preset):
    assert strength_of(preset.config.lora, preset.config.training) in STEPS


def test_the_length_of_a_run_is_all_that_changes():
    config = RunConfig.load("labels")
    assert lengthened(config, "standard") == config
    assert lengthened(config, "thorough").training.steps(100) == 2 * config.training.steps(100)
    quick = lengthened(config, "quick")
    assert quick.training.steps(100) == 5 and quick.evaluation.limit == 8
    assert quick.lora == config.lora and quick.training.learning_rate == config.training.learning_rate


@pytest.mark.parametrize("longest", ["training.num_train_epochs=600", "training.max_steps=6000000"])
def test_a_run_that_would_be_longer_than_a_config_allows_is_told_before_it_is_made(longest):
    with pytest.raises(UserError, match="training.* must be less than or equal to"):
        lengthened(RunConfig.load("labels", [longest]), "thorough")
