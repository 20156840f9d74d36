"""The form loses nothing: what a config says, the inputs show, and what they show is read back."""

from __future__ import annotations

import asyncio

import gradio as gr
import pytest

from ftui.background import BackgroundTrainer
from ftui.chat import ChatModel
from ftui.config import RunConfig, presets
from ftui.device import Lease
from ftui.errors import UserError
from ftui.runs import RunStore
from ftui.ui import THEME
from ftui.ui.data_tab import data_tab
from ftui.ui.draft import Draft
from ftui.ui.fieldset import Form
from ftui.ui.model_tab import model_tab
from ftui.ui.train_tab import how_long, settings
from ftui.ui.train_tab.questions import OWN, TOLD_BY, preset_of


@pytest.fixture(scope="module")
def form() -> Form:
    """Every input of the page, by its path, as the tabs draw them."""
    first = RunConfig.load("starter")
    store = RunStore(folder=None)  # never asked here
    with gr.Blocks() as studio, gr.Tab("data") as tab:
        model = model_tab(first, studio)
        data = data_tab(first, store, None, Draft(how_long(), Form(model)), tab)
    return Form({**model, **data, **settings(first)})


UNUSUAL = """
base_model: some/model
adapter: 20261121-040744-rows-f4e0@12
revision: abc
chat_template: chatml
dataset: {path: data.json, name: config, split: "train[:5]", revision: r, limit: 7, records: a.b, sheet: S, text_unit: line}
template: {system: "Be {{a}}.", prompt: "{{b}} [[{{c}}]]", completion: "{{d}}", reasoning: "{{e}}"}
split: {validation: 20261121, test: "5:9", seed: 123456789, stratify: x, group: y}
quantization: {load_in_4bit: false, bnb_4bit_quant_type: fp4, bnb_4bit_use_double_quant: false}
lora: {r: 7, lora_alpha: 9, lora_dropout: 0.123456789, target_modules: [q_proj, v_proj], use_rslora: true}
training: {num_train_epochs: 1.25, learning_rate: 1.23456789e-5, seed: 987654321, neftune_noise_alpha: 5, max_steps: 1234567}
evaluation: {metrics: [exact_match], baselines: [zero_shot, retrieval], limit: 12}
shorten_rows: true
watch_prompts: ["One?", "Two, or three?"]
"""


@pytest.mark.parametrize("config", [*(preset.config for preset in presets()), RunConfig.from_yaml(UNUSUAL)])
def test_what_the_inputs_show_is_read_back_as_the_same_config(form, config):
    assert form.read(form.fill(config)) == config


@pytest.mark.parametrize(
    "change",
    [
        "lora.target_modules=[q_proj]",
        "lora.target_modules=q_proj",
        "lora.target_modules='.*[qv]_proj{1,1}'",
        "training.learning_rate=3.3333333333333335e-05",
        "training.num_train_epochs=0.3333333333333333",
        "training.num_train_epochs=3.0",
        "dataset.path=[a.jsonl, b.jsonl]",
    ],
)
def test_yaml_and_form_agree_on_what_is_written_in_more_than_one_way(form, change):
    config = RunConfig.load("starter", [change])
    assert form.read(form.fill(config)) == config
    assert RunConfig.from_yaml(form.read(form.fill(config)).to_yaml()) == config


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_is_known_by_what_it_filled_in_until_data_base_or_template_are_others(form, preset):
    told, known = form.part([path for path in form.paths if path.startswith(TOLD_BY)]), {p.name: p for p in presets()}
    filled = told.fill(preset.config)
    assert preset_of(told, filled, known) == preset.name
    for path in ("base_model", "dataset.path", "template.prompt", "template.completion"):
        changed = list(filled)
        changed[told.paths.index(path)] = "something else"
        assert preset_of(told, changed, known) == OWN


def test_a_quick_check_that_is_cloned_is_one_again(form):
    config, draft = RunConfig.load("starter"), Draft(how_long(), form)
    length, *boxes = draft.fill(config)
    assert length == "standard" and draft.read([length, *boxes]) == config
    quick = draft.read(["quick", *boxes])
    length, *boxes = draft.fill(quick)
    assert length == "quick" and draft.read([length, *boxes]) == quick
    assert draft.read(["standard", *boxes]).training.max_steps == -1, "the whole run is a click away"
    short = RunConfig.parse(quick.model_dump() | {"evaluation": {"limit": 3}})
    length, *boxes = draft.fill(short)
    assert length == "standard" and draft.read([length, *boxes]) == short, "no quick check asks three rows"


def test_the_form_has_an_input_for_every_setting(form):
    values = RunConfig.load("starter").model_dump()
    paths = {f"{key}.{inner}" for key in values if isinstance(values[key], dict) for inner in values[key]}
    paths |= {key for key in values if not isinstance(values[key], dict)}
    assert paths == set(form.paths)


def test_a_wrong_number_is_told_with_its_path_and_an_empty_one_is_not_guessed(form):
    values = form.fill(RunConfig.load("starter"))
    values[form.paths.index("training.learning_rate")] = "-1"
    values[form.paths.index("training.max_steps")] = ""
    with pytest.raises(UserError, match="training.max_steps: must be.*training.learning_rate: must be greater than 0"):
        form.read(values)


@pytest.fixture
def studio(tmp_path) -> gr.Blocks:
    from ftui.ui import Pulse, build_studio

    store, lease = RunStore(tmp_path / "runs"), Lease()
    return build_studio(store, BackgroundTrainer(store, lease), ChatModel(lease), Pulse(), lambda: None)


def test_the_whole_page_is_built_without_a_model_or_a_run(studio):
    assert all(function.api_visibility != "public" for function in studio.fns.values())


def test_every_event_that_can_tell_a_mistake_goes_through_the_queue(studio):
    """Gradio's page shows nothing of what an event outside the queue raises: a click would just do nothing."""

    def tells(function, seen: set) -> bool:
        if id(function) in seen or not hasattr(function, "__code__"):
            return False
        seen.add(id(function))
        within = [*(cell.cell_contents for cell in function.__closure__ or ()), getattr(function, "__wrapped__", None)]
        return "telling" in function.__code__.co_names or any(tells(each, seen) for each in within)

    telling = [function for function in studio.fns.values() if tells(function.fn, set())]
    assert {"do_it", "handler", "clone_run", "move_up", "start_run"} <= {function.name for function in telling}
    assert not [function.name for function in telling if not function.queue]


@pytest.mark.parametrize(("shade", "paper"), [("", "#ffffff"), ("_dark", THEME.neutral_950)], ids=["light", "dark"])
def test_what_stands_back_can_still_be_read(shade, paper):
    """4.5 to 1, as WCAG asks of small text: in this color stand the rows that a person looks at, all but the answers."""

    def luminance(color: str) -> float:
        parts = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    ink = getattr(THEME, getattr(THEME, "body_text_color_subdued" + shade).removeprefix("*"))
    low, high = sorted((luminance(ink), luminance(paper)))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_queue_without_events_leaves_the_processor_to_the_run(studio):
    looks = []

    class Loop(asyncio.SelectorEventLoop):
        def call_at(self, when, *arguments, **options):
            looks.append(when)
            return super().call_at(when, *arguments, **options)

    async def rest() -> None:
        studio._queue.start()
        await asyncio.sleep(0.5)
        studio._queue.close()

    asyncio.Runner(loop_factory=Loop).run(rest())
    assert 0 < len(looks) < 25
