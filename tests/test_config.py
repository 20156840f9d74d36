"""RunConfig: every mistake at once and in a sentence; the names are those of the libraries."""

import inspect

import pytest
import yaml

from ftui.config import LoraSettings, QuantizationSettings, RunConfig, TrainingSettings
from ftui.errors import UserError
from ftui.template import PromptTemplate

LEAST = """
base_model: starter
dataset: {path: rows.jsonl}
template: {prompt: "{{q}}", completion: "{{a}}"}
"""


def mistakes(text: str, overrides=()) -> list[str]:
    with pytest.raises(UserError) as caught:
        RunConfig.from_yaml(text, overrides)
    return str(caught.value).split(" · ")


def test_all_but_the_model_and_the_data_has_a_default():
    config = RunConfig.from_yaml(LEAST)
    assert config.quantization.load_in_4bit and config.training.num_train_epochs == 3 and config.lora.r == 16


def test_without_a_template_the_rows_propose_one_and_it_is_told(tmp_path):
    path = tmp_path / "rows.jsonl"
    least, said = f"base_model: starter\ndataset: {{path: {path}}}", []
    path.write_text('{"question": "Odd?", "answer": "Yes."}\n' * 30)
    config = RunConfig.from_yaml(least, tell=said.append)
    assert config.template == PromptTemplate(prompt="{{question}}", completion="{{answer}}")
    assert said == ["Questions in “question”, answers in “answer”."] and config.dataset.limit is None
    assert RunConfig.from_yaml(config.to_yaml()) == config
    assert mistakes(least + "\nlora: {r: 0}") == ["lora.r: must be greater than or equal to 1, not 0."]
    path.write_text('{"a": 1, "b": 2}\n')
    assert mistakes(least)[0].startswith("The columns are a, b. Say which ask and which answer")
    assert "no file or folder" in mistakes("base_model: starter\ndataset: {path: nowhere.csv}")[0]


def test_all_mistakes_are_named_at_once_each_with_its_path():
    found = mistakes(
        "template: {prompt: '{{q}}', completion: '{{a}}'}\ndataset: {}\n"
        "training: {learning_rate: -1, num_train_epochs: many, max_length: 2.5}\nlora: {r: 0}\nquantization: {load_in_4bit: maybe}"
    )
    paths = [sentence.split(":")[0] for sentence in found]
    assert sorted(paths) == [
        "base_model",
        "dataset.path",
        "lora.r",
        "quantization.load_in_4bit",
        "training.learning_rate",
        "training.max_length",
        "training.num_train_epochs",
    ]
    assert "training.learning_rate: must be greater than 0, not -1." in found
    assert "base_model: is missing." in found


def test_an_unknown_key_is_named_with_the_one_that_was_meant():
    assert mistakes(LEAST + "training: {learning_rte: 1e-4}") == [
        "training.learning_rte: there is no such key. Did you mean learning_rate?"
    ]
    assert mistakes(LEAST + "trainning: {}") == ["trainning: there is no such key. Did you mean training?"]


def test_an_unknown_key_that_resembles_none_comes_with_the_keys_there_are():
    (found,) = mistakes(LEAST + "lora: {zzz: 1}")
    assert found.startswith("lora.zzz: there is no such key. Known keys: r, lora_alpha")


def test_the_wrong_kind_of_value_is_told_without_a_word_of_python():
    found = mistakes("base_model: 3\ndataset: a.csv\nwatch_prompts: Hi\nquantization: {load_in_4bit: maybe}")
    assert found == [
        "base_model: must be a text, not 3.",
        "dataset: must be a section with keys of its own, not 'a.csv'.",
        "quantization.load_in_4bit: must be true or false, not 'maybe'.",
        "watch_prompts: must be a list, not 'Hi'.",
    ]


def test_a_value_that_may_be_of_two_kinds_and_is_of_none_is_one_mistake_that_names_both():
    found = mistakes(
        LEAST.replace("rows.jsonl", "[a.csv, 3]") + "evaluation: {metrics: 5}\nlora: {target_modules: 3, r: {}}"
    )
    assert found == [
        "dataset.path.1: must be a text, not 3.",
        "lora.r: must be a whole number.",
        "lora.target_modules: must be a text or a list, not 3.",
        "evaluation.metrics: must be 'auto' or a list, not 5.",
    ]


def test_every_number_of_a_config_may_be_written_in_any_way_and_true_is_none():
    config = RunConfig.from_yaml(LEAST.replace("rows.jsonl", "rows.jsonl, limit: 1e3") + "split: {seed: '7'}")
    assert (config.dataset.limit, config.split.seed) == (1000, 7)
    found = mistakes(LEAST.replace("rows.jsonl", "rows.jsonl, limit: true") + "split: {seed: false}")
    assert found == ["dataset.limit: must be a number, not true.", "split.seed: must be a number, not false."]


@pytest.mark.parametrize("written", ["''", "[]", '" "'])
def test_a_config_without_a_data_set_is_told(written):
    assert mistakes(LEAST.replace("rows.jsonl", written))[0].startswith("dataset.path: names no data set.")


def test_a_wrong_template_or_split_is_told_with_its_path():
    found = mistakes("base_model: starter\ndataset: {path: a.csv}\ntemplate: {prompt: '{{q}}'}\nsplit: {test: 1.5}")
    assert [sentence.split(":")[0] for sentence in found] == ["template", "split.test"]
    assert "completion" in found[0]


@pytest.mark.parametrize("written, value", [("2e-4", 2e-4), ("'0.001'", 1e-3), ("1e-4", 1e-4), (".5", 0.5)])
def test_a_number_that_yaml_reads_as_a_string_is_a_number(written, value):
    assert RunConfig.from_yaml(LEAST + f"training: {{learning_rate: {written}}}").training.learning_rate == value


def test_a_name_alone_is_a_list_of_one_and_what_names_no_layer_is_told():
    def targets(value: object) -> object:
        return LoraSettings(target_modules=value).target_modules

    assert targets("q_proj") == ("q_proj",) and targets("all-linear") == "all-linear"
    assert targets(".*[qv]_proj") == ".*[qv]_proj"
    for wrong, reason in (
        ("", "names no layer"),
        ([], "names no layer"),
        (["a", ""], "names no layer"),
        ("(", "is no pattern"),
    ):
        with pytest.raises(ValueError, match=reason):
            targets(wrong)


@pytest.mark.parametrize("written", ["8", "8.0", "'8'", "8e0"])
def test_a_whole_number_may_come_as_a_float_or_as_text(written):
    size = RunConfig.from_yaml(LEAST + f"training: {{per_device_train_batch_size: {written}}}").training
    assert size.per_device_train_batch_size == 8 and isinstance(size.per_device_train_batch_size, int)


BOOLEAN = "true"


@pytest.mark.parametrize("written", [".nan", ".inf", BOOLEAN, "1e400", "[1]"])
def test_what_is_no_usable_number_is_refused(written):
    assert mistakes(LEAST + f"training: {{learning_rate: {written}}}")[0].startswith("training.learning_rate: must be")
    assert mistakes(LEAST + f"training: {{max_steps: {written}}}")[0].startswith("training.max_steps: must be")


def test_overrides_reach_into_sections_and_are_read_as_yaml():
    config = RunConfig.from_yaml(
        LEAST,
        ["training.learning_rate=1e-3", "split.test=12", "lora.target_modules=[q_proj, v_proj]", "watch_prompts=[Hi]"],
    )
    assert config.training.learning_rate == 1e-3 and config.split.test == 12
    assert config.lora.target_modules == ("q_proj", "v_proj") and config.watch_prompts == ("Hi",)


def test_a_wrong_override_is_told():
    assert "has no “=”" in mistakes(LEAST, ["training.max_steps"])[0]
    assert "Did you mean max_steps?" in mistakes(LEAST, ["training.max_step=3"])[0]
    assert "holds no settings" in mistakes(LEAST, ["base_model.name=x"])[0]


def test_an_override_that_is_no_yaml_is_taken_as_the_text_it_is():
    assert RunConfig.from_yaml(LEAST, ["template.prompt={{text}}"]).template.prompt == "{{text}}"
    assert mistakes(LEAST, ["lora.r=[1"])[0].startswith("lora.r: must be")


def test_an_override_of_what_is_no_config_is_told():
    assert len(mistakes("- a list", ["lora=1"])) == 1


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "a: [1", "a: \x00"])
def test_what_is_no_config_at_all_is_told_in_a_sentence(text):
    assert len(mistakes(text)) == 1


def test_a_key_that_stands_twice_is_told_with_its_line():
    with pytest.raises(UserError, match="names r twice .line 4."):
        RunConfig.from_yaml("base_model: starter\nlora:\n  r: 8\n  r: 16\n")


def test_a_config_that_is_not_there_points_to_the_presets():
    with pytest.raises(UserError, match="presets"):
        RunConfig.load("no-such-config")


def test_a_config_that_is_not_text_is_told_in_a_sentence(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"base_model: \xff\xfe")
    with pytest.raises(UserError):
        RunConfig.load(tmp_path / "config.yaml")


def test_a_config_comes_back_from_its_yaml_as_it_was(config):
    changed = config.model_copy(update={"watch_prompts": ("¿Qué ves?", "line\nbreak: {{x}}")})
    again = RunConfig.from_yaml(changed.to_yaml())
    assert again == changed
    assert yaml.safe_load(changed.to_yaml())["watch_prompts"][0] == "¿Qué ves?"


def test_a_config_cannot_be_changed_once_it_is_made(config):
    with pytest.raises(ValueError, match="frozen"):
        config.training.max_steps = 5


def test_every_setting_exists_under_its_name_in_the_library_it_is_handed_to():
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig

    for settings, library in ((LoraSettings, LoraConfig), (TrainingSettings, SFTConfig)):
        assert set(settings.model_fields) <= set(library.__dataclass_fields__)
    assert set(QuantizationSettings.model_fields) <= set(inspect.signature(BitsAndBytesConfig).parameters)


@pytest.mark.parametrize("settings", [LoraSettings, TrainingSettings, QuantizationSettings, RunConfig])
def test_every_setting_has_a_title_and_most_a_sentence_for_its_help(settings):
    for name, field in settings.model_fields.items():
        if settings is RunConfig and name not in (
            "base_model",
            "revision",
            "chat_template",
            "watch_prompts",
            "shorten_rows",
        ):
            continue
        assert field.title and field.description and field.description.endswith((".", "…")), name
