"""The page's two languages: nothing is said that is not translated, and nothing is translated that is not said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from ftui.chat import ChatSettings
from ftui.config import EvaluationSettings, LoraSettings, QuantizationSettings, RunConfig, TrainingSettings, presets
from ftui.dataset import DatasetSource, SplitSettings
from ftui.doctor.problem import some_rows
from ftui.errors import UserError
from ftui.ui.language import Voice
from ftui.ui.sentences import MEASURES
from ftui.ui.spanish import (
    SENTENCES,
    SPANISH,
    WORDS,
    doctor,
    mistakes,
    models,
    page,
    plan,
    rows,
    runs,
    settings,
    template,
)

HOME = Path(__file__).parents[1] / "ftui"
TRANSLATIONS = HOME / "ui" / "spanish"
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
    texts = [path.read_text(encoding="utf-8") for path in HOME.rglob("*.py") if path.parent != TRANSLATIONS]
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


# Files and folders whose words never reach the page, and why.
ELSEWHERE = {
    "__main__.py": "the terminal",
    "terminal": "the terminal",
    "__init__.py": "the floors of the house",
    "web.py": "before the page: the terminal, and a sign-in in both languages",
    "check/report.py:report_text": "the terminal",
    "check/report.py:write_report": "the terminal",
    "card.py": "the model card, a file to send on",
    "doctor/language.py": "the commonest words of languages",
    "encoding/templates.py:CHAT_TEMPLATES": "what a model reads",
    "evaluate.py:report_markdown": "the report, a file to send on",
    "device.py:STICKY": "what CUDA says",
}
# Words that nobody is told, each with who says or reads it.
UNSAID = {
    "ftui: run {} ended, and its folder cannot say why: {}": "the terminal",
    "ftui: {} Runs that are only there are not shown.": "the terminal",
    "ftui: {} was deleted": "a commit on the Hub",
    "--set takes key=value, as in training.learning_rate=1e-4; “{}” has no “=”.": "the terminal",
    "--set {}: the config is no YAML mapping, so nothing can be set in it.": "the terminal",
    "--set {}: “{}” holds no settings of its own.": "the terminal",
    "Input should be ": "pydantic",
    "Value error, ": "pydantic",
    "A Hub id, a local folder, or starter.": "the help of a setting that the page draws by itself",
    "Asked before training and at every check. Empty: three validation rows.": "the help of one that it draws itself",
    "Said before every conversation. May hold {{columns}}.": "the help of one that it draws itself",
    "What the user says, such as {{question}}. [[Parts in brackets]] vanish when their column is empty.": "the same",
    "What the model learns to answer, such as {{answer}}.": "the help of one that it draws itself",
    "Server error '5|Too Many Requests": "the Hub",
    "Config name is missing|BuilderConfig": "datasets",
    "row {} of {}": "who writes ftui",
    '{"intent": "{}", "slots": {}}': "an answer",
    "field larger": "csv",
    "unexpected end": "csv",
    "a row must be an object": "the beginning of a reason that is known",
    "account number": "written into rows in the place of one",
    "card number": "written into rows in the place of one",
    "phone number": "written into rows in the place of one",
    "Title: {}\n\nIngredients: {}\n\nGeneric ingredients: ": "a prompt",
    "No space left on device": "the system",
    "Disk quota exceeded": "the system",
    "file write failed": "safetensors",
    "can't allocate memory": "torch",
    "out of memory": "torch",
    "bad alloc": "C++",
    "connection closed by peer": "gloo",
    "connection reset by peer": "gloo",
    "broken pipe": "gloo",
    "socket timeout": "gloo",
    "`broadcast_buffers` is deprecated.*": "torch",
}
# What the core puts behind a piece of a sentence: a reason, a text in quotes, the rows.
JOINTS = ("", "{}", " {}", " “{}”", " in {}")


def skeleton(text: str) -> str:
    """A text with {} for each blank that is filled later; two braces are two braces."""
    return re.sub(r"(?<!{){\w*}(?!})", "{}", text)


def skeleton_of_key(key: str) -> str:
    return "".join(words + ("{}" if name is not None else "") for words, name, *_ in Formatter().parse(key))


def strings_in(node: ast.AST) -> Iterator[str]:
    """The strings of a piece of code but for docstrings, with {} for each blank of an f-string."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield skeleton("".join(map(str, parts)))
        blanks = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        for blank in blanks:
            yield from strings_in(blank)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield skeleton(node.value)
    elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        for child in ast.iter_child_nodes(node):
            yield from strings_in(child)


def core_strings() -> set[str]:
    """Every string of the code, the page's too."""
    files = (path for path in HOME.rglob("*.py") if path.parent != TRANSLATIONS)
    return {text for path in files for text in strings_in(ast.parse(path.read_text(encoding="utf-8")))}


def name_of(node: ast.AST) -> str:
    target = (
        node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else node
    )
    return getattr(target, "id", getattr(target, "name", ""))


def phrases(source: str, file: str) -> Iterator[str]:
    """Strings of two words and more that somebody may read: all but patterns, markup and what ELSEWHERE passes over."""
    for node in ast.parse(source).body:
        if f"{file}:{name_of(node)}" in ELSEWHERE:
            continue
        for text in strings_in(node):
            is_pattern = re.search(r"\\[bwWsd]|\(\?|\.\*|^\w+(\|\w+)+|{%|<[a-z!/]|\|[\w ?]+\|", text)
            if " " in text.strip() and len(re.findall(r"[A-Za-z]{2,}", text)) > 1 and not is_pattern:
                yield text


def untranslated(source: str, file: str) -> list[str]:
    """What the page would show in English to somebody who asked for Spanish."""
    keys = {skeleton_of_key(key).strip(" .") for key in (*SENTENCES, *WORDS)} | {key.strip(" .") for key in SPANISH}
    return [
        text
        for text in phrases(source, file)
        if text not in UNSAID and not any((text.rstrip(" ") + joint).strip(" .") in keys for joint in JOINTS)
    ]


CORE = [path for path in sorted(HOME.rglob("*.py")) if "ui" not in path.relative_to(HOME).parts]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(HOME)))
def test_all_that_the_core_says_has_a_translation(path):
    file = str(path.relative_to(HOME))
    if not {file, file.partition("/")[0]} & ELSEWHERE.keys():
        assert untranslated(path.read_text(encoding="utf-8"), file) == []


def test_what_the_page_itself_raises_has_a_translation():
    for path in sorted((HOME / "ui").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError":
                assert untranslated(ast.unparse(node), path.name) == []


def test_what_the_page_says_by_name_has_a_translation():
    """`voice(...)` and `say(...)` of a text that stands in the code; a variable is looked up when the page is drawn."""
    for path in sorted((HOME / "ui").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("voice", "say") and node.args:
                first = node.args[0]
                assert not isinstance(first, ast.JoinedStr), f"{path.name}: {ast.unparse(node)}"
                assert not isinstance(first, ast.Constant) or first.value in SPANISH, f"{path.name}: {first.value}"


def test_a_sentence_without_a_translation_is_found():
    new = 'def f(rows):\n    """Says it."""\n    raise UserError(f"The {rows} rows are blue. Paint them.")'
    assert untranslated(new, "new.py") == ["The {} rows are blue. Paint them."]
    assert untranslated("problem = 'A ' 'joined sentence.'", "new.py") == ["A joined sentence."]
    assert untranslated('raise UserError(f"{name} is empty. Choose a file with rows in it.")', "new.py") == []


def test_every_exception_is_still_needed():
    said = {text for path in CORE for text in strings_in(ast.parse(path.read_text(encoding="utf-8")))}
    assert [text for text in UNSAID if text not in said] == []
    assert [file for file in ELSEWHERE if not (HOME / file.split(":")[0]).exists()] == []


def test_every_sentence_that_is_translated_is_one_that_the_core_says():
    said = {(text.rstrip(" ") + joint).strip(" .") for text in core_strings() for joint in JOINTS}
    assert [key for key in SENTENCES if skeleton_of_key(key).strip(" .") not in said] == []


def test_no_sentence_of_the_doctor_goes_on_in_the_plural_after_one_row():
    plural = re.compile(r"\{rows\} (?:are|were|have|do|cannot)\b|\bthe rows out")
    assert [key for key in doctor.DOCTOR if plural.search(key)] == []


def test_no_sentence_is_translated_twice():
    parts = [
        *(page.PAGE, settings.SETTINGS, WORDS, doctor.DOCTOR, mistakes.MISTAKES, models.MODELS),
        *(plan.PLAN, rows.ROWS, runs.RUNS, template.TEMPLATE),
    ]
    keys = [key for part in parts for key in part]
    assert [key for key in keys if keys.count(key) > 1] == []


def said_in_spanish(sentence: str) -> str:
    return Voice.of(True).known(sentence)


# What a blank may hold, in both languages.
FILLED = {
    "words": ("the text", "el texto"), "others": ("the reasoning", "el razonamiento"), "rows": ("2 rows (5, 9)", "2 filas (5, 9)"),
    "reason": ("Permission denied", "permiso denegado"), "error": ("Permission denied", "permiso denegado"),
    "key": ("lora.r", "lora.r"), "value": ("16", "16"), "run": ("20261121-tickets", "20261121-tickets"), "suffix": (".csv", ".csv"),
    **dict.fromkeys(("count", "number"), ("1,200", "1.200")), **dict.fromkeys(MEASURES, ("1.5", "1,5")),
}  # fmt: skip


@pytest.mark.parametrize("more", [(" It does not fit.", " No cabe."), ("", "")], ids=["more", "no more"])
def test_a_sentence_is_known_again_when_its_blanks_are_filled(more):
    """No key is taken for another one that fits as well."""
    wrong = []
    for key, spanish in {**SENTENCES, **WORDS}.items():
        names = sorted({name for _, name, *_ in Formatter().parse(key) if name})
        blanks = {name: (FILLED | {"more": more}).get(name, (f"x{place}x",) * 2) for place, name in enumerate(names)}
        said, expected = (
            text.format(**{name: both[language] for name, both in blanks.items()}).strip()
            for language, text in enumerate((key, spanish))
        )
        wrong += [(said, said_in_spanish(said))] if said_in_spanish(said) != expected else []
    assert wrong == []


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
    assert Voice(None).mistakes(caught.value).startswith("Rank (lora.r): must be")
    assert " · Pasos como máximo (training.max_steps): debe ser" in spanish.mistakes(caught.value)
    plain = UserError("dataset.csv: line 3 has 4 cells.")
    assert Voice(None).mistakes(plain) == str(plain), "a file is no setting"
    empty = (
        "template: The template is empty. Write a prompt and a completion, or name a column of conversations or text."
    )
    assert spanish.known(empty).startswith("template: La plantilla está vacía.")
    problem = f"{some_rows([4, 8])}: the same prompt and answer as an earlier row. What is there twice weighs double."
    assert spanish.known(problem).startswith("2 filas (5, 9): misma pregunta")
    assert spanish.known("Leave out 4 rows: an empty field") == "Omitir 4 filas: un campo vacío"
    assert spanish.known("Nobody has translated this.") == "Nobody has translated this."


def test_a_translation_fills_the_same_blanks():
    def blanks(text: str) -> set[str]:
        return {name for _, name, *_ in Formatter().parse(text) if name}

    translated = {**SPANISH, **SENTENCES, **WORDS}.items()
    assert [english for english, spanish in translated if blanks(english) != blanks(spanish)] == []


def test_numbers_are_written_as_the_language_writes_them():
    english, spanish = Voice(None), Voice(None)
    spanish.spanish = True
    assert (english.number(1234.5, 1), spanish.number(1234.5, 1)) == ("1,234.5", "1.234,5")


def test_sentences_one_after_another_are_told_apart():
    assert said_in_spanish(
        "{rows} of validation and test (2 of the test): the prompt is trained on, too, so the score would be too good. "
        "Leave repeated prompts out.".replace("{rows}", some_rows([4, 8]))
    ).endswith("así que la puntuación sería demasiado buena. Omite las preguntas repetidas.")
    assert said_in_spanish("Nobody knows this. The disk is full. It does not fit. Nor this.") == (
        "Nobody knows this. The disk is full. No cabe. Nor this."
    )
    assert said_in_spanish(
        "There is no column “a.b c”. Did you mean “a”? There is no column “x”. The columns are: a, b."
    ) == ("No hay ninguna columna «a.b c». ¿Querías decir «a»? No hay ninguna columna «x». Las columnas son: a, b.")


def test_a_plan_and_a_proof_are_said_in_spanish_to_their_end():
    assert said_in_spanish(
        "The plan: 45 steps over 93,000 tokens: about 4 minutes, 1.3 GB of memory (tight), 0.9 GB of disk and $1.20. It fits with a 4-bit base. "
        "An estimate by arithmetic, nothing was run: 50% of 0.15 TFLOP/s (CPU, 2 cores) while training; loading, answers, checks and merging by "
        "rules of thumb. A rehearsal measures it. Money: $0.80 an hour (FTUI_PRICE_PER_HOUR)."
    ) == (
        "El plan: 45 pasos con 93.000 tokens: unos 4 minutos, 1,3 GB de memoria (justo), 0,9 GB de disco y 1,20 $. Cabe con una base de 4 bits. "
        "Una estimación aritmética, no se ejecutó nada: el 50% de 0,15 TFLOP/s (CPU, 2 núcleos) al entrenar; carga, respuestas, controles y fusión "
        "por regla general. Un ensayo lo mide. Dinero: 0,80 $ por hora (FTUI_PRICE_PER_HOUR)."
    )
    assert said_in_spanish(
        "Merged into the base's weights (original): it predicts 99.1% of 1,812 held-out tokens as the adapter does; "
        "the loss is 0.1234 with the adapter and 0.1240 merged."
    ) == (
        "Fusionado con los pesos de la base (originales): predice como el adaptador el 99,1% de 1.812 tokens apartados; "
        "la pérdida es 0,1234 con el adaptador y 0,1240 fusionado."
    )


def test_words_within_words_are_translated_and_what_is_no_word_of_the_core_stays():
    assert said_in_spanish("It fits with a 4-bit base and rows of at most 256 tokens.") == (
        "Cabe con una base de 4 bits y filas de 256 tokens como mucho."
    )
    assert said_in_spanish(
        f"{some_rows([0], 'line')}: 1 prompt in Spanish, 2 answers in French, while most are in English."
    ) == ("línea 1: 1 pregunta en español, 2 respuestas en francés, mientras la mayoría está en inglés.")
    assert said_in_spanish("rows.csv is not text but a riddle.") == "rows.csv is not text but a riddle."
    assert (
        said_in_spanish("The adapter is saved. Kept: step 12 of 1,200, the best by validation.")
        == "El adaptador está guardado. Se conserva: paso 12 de 1.200, el mejor en validación."
    )
    assert said_in_spanish("1.6 hours") == "1,6 horas"
    assert said_in_spanish(
        "The data is larger than 2.5 GB in memory. Set a limit of rows, or split the file."
    ).startswith("Los datos ocupan más de 2,5 GB")


def test_a_long_log_is_translated_line_by_line():
    log = [
        f"Memory ran out at step {step}: the step is repeated in 3 parts, which gives the same result and takes longer."
        for step in range(250)
    ]
    log += [
        f"Nobody has translated line {line} of this log; it goes on for a while, as some do." for line in range(250)
    ]
    assert said_in_spanish(log[0]) != log[0] and [said_in_spanish(line) for line in log][250:] == log[250:]


def test_what_gradio_asks_for_and_has_no_words_for_has_some():
    from ftui.ui.language import MISSING, catalog

    for language, done in (("en", "Done"), ("es", "Terminado")):
        words = catalog().translations_dict[language]
        assert words["common.complete"] == done and set(MISSING) <= set(words)


def test_and_is_another_word_in_spanish_before_its_own_sound():
    assert said_in_spanish("Spanish and English") == "español e inglés"
    assert said_in_spanish("English and Spanish") == "inglés y español"
