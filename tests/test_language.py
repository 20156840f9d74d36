"""The page's two languages: nothing is said that is not translated, and nothing is translated that is not said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ftui.chat import ChatSettings
from ftui.config import EvaluationSettings, LoraSettings, QuantizationSettings, RunConfig, TrainingSettings, presets
from ftui.dataset import DatasetSource, SplitSettings
from ftui.ui.language import SPANISH, Voice

HOME = Path(__file__).parents[1] / "ftui"
DRAWN = (
    ChatSettings,
    DatasetSource,
    EvaluationSettings,
    LoraSettings,
    QuantizationSettings,
    SplitSettings,
    TrainingSettings,
)


def source() -> str:
    texts = [path.read_text(encoding="utf-8") for path in HOME.rglob("*.py") if path.name != "language.py"]
    texts += [f"{preset.title}\n{preset.needs}" for preset in presets()]
    texts += [
        f"{field.title}\n{field.description}" for model in (*DRAWN, RunConfig) for field in model.model_fields.values()
    ]
    return re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts)))


@pytest.mark.parametrize("settings", DRAWN, ids=lambda settings: settings.__name__)
def test_every_title_and_help_of_a_drawn_setting_has_a_translation(settings):
    fields = settings.model_fields.values()
    assert [text for field in fields for text in (field.title, field.description) if text not in SPANISH] == []


def test_no_translation_is_left_over():
    said = source()
    assert [english for english in SPANISH if re.sub(r"\s+", " ", english) not in said] == []


@pytest.mark.parametrize(("english", "spanish"), SPANISH.items())
def test_a_translation_fills_the_same_blanks(english, spanish):
    if "{{" not in english:
        assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", spanish))


def test_numbers_are_written_as_the_language_writes_them():
    english, spanish = Voice(None), Voice(None)
    spanish.spanish = True
    assert (english.number(1234.5, 1), spanish.number(1234.5, 1)) == ("1,234.5", "1.234,5")
