"""The page's two languages: nothing is said that is not translated, and nothing is translated that is not said."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ftui.chat import ChatSettings
from ftui.config import EvaluationSettings, LoraSettings, QuantizationSettings, RunConfig, TrainingSettings, presets
from ftui.dataset import DatasetSource, SplitSettings
from ftui.doctor.problem import some_rows
from ftui.errors import UserError
from ftui.ui.language import Voice
from ftui.ui.sentences import SENTENCES, WORDS
from ftui.ui.spanish import SPANISH

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
    texts = [path.read_text(encoding="utf-8") for path in HOME.rglob("*.py") if path.name != "spanish.py"]
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


def core_strings() -> set[str]:
    """Every string of the code, with {} for each blank."""
    found = set()
    for path in HOME.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.add(without_names("".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "sentences.py":
                found.add(without_names(node.value))
    return found


def without_names(sentence: str) -> str:
    return re.sub(r"{\w*}", "{}", sentence)


def test_every_sentence_that_is_translated_is_one_that_the_core_says():
    said = core_strings()
    assert [english for english in SENTENCES if without_names(english) not in said] == []


def test_what_the_core_says_is_said_in_spanish_with_what_it_named():
    spanish = Voice(None)
    spanish.spanish = True
    with pytest.raises(UserError) as caught:
        RunConfig.load("starter", ["training.learning_rate=-1", "lora.r=0", "training.max_steps=many"])
    assert spanish.known(str(caught.value)) == (
        "lora.r: debe ser mayor o igual que 1, no 0. · training.max_steps: debe ser un número entero, no 'many'. · "
        "training.learning_rate: debe ser mayor que 0, no -1."
    )
    assert Voice(None).known(str(caught.value)) == str(caught.value)
    empty = (
        "template: The template is empty. Write a prompt and a completion, or name a column of conversations or text."
    )
    assert spanish.known(empty).startswith("template: La plantilla está vacía.")
    problem = f"{some_rows([4, 8])}: the same prompt and answer as an earlier row. They weigh double."
    assert spanish.known(problem).startswith("2 filas (5, 9): misma pregunta")
    assert spanish.known("Nobody has translated this.") == "Nobody has translated this."


@pytest.mark.parametrize(("english", "spanish"), {**SPANISH, **SENTENCES, **WORDS}.items())
def test_a_translation_fills_the_same_blanks(english, spanish):
    if "{{" not in english:
        assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", spanish))


def test_numbers_are_written_as_the_language_writes_them():
    english, spanish = Voice(None), Voice(None)
    spanish.spanish = True
    assert (english.number(1234.5, 1), spanish.number(1234.5, 1)) == ("1,234.5", "1.234,5")
