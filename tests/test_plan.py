"""The plan: arithmetic against published sizes, steps as trl counts them, and advice that is true."""

import json

import pytest

from ftui.config import LoraSettings, RunConfig, TrainingSettings
from ftui.device import Device
from ftui.errors import UserError
from ftui.plan import Choice, Dimensions, Measured, Plan, Tokens, choose, peak_memory, plan, price_here

GB = 10**9
LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
SMOLLM = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
L4 = Device("cuda", "NVIDIA L4", 24 * GB, 8, True)
T4 = Device("cuda", "Tesla T4", 16 * GB, 2, False)
LAPTOP = Device("cpu", "CPU", 16 * GB, 2, True)


def config_of(load_in_4bit=True, **training):
    return RunConfig.parse(
        {
            "base_model": "x",
            "dataset": {"path": "x"},
            "template": {"text": "x"},
            "quantization": {"load_in_4bit": load_in_4bit},
            "training": {"num_train_epochs": 1, "max_length": 2048, **training},
        }
    )


@pytest.mark.parametrize(
    ("model_config", "body", "head", "adapter"),
    [(LLAMA_8B, 6.98e9, 0.525e9, 41.9e6), (SMOLLM, 0.106e9, 0.0283e9, 4.88e6)],
)
def test_sizes_are_those_of_the_published_models(model_config, body, head, adapter):
    size = Dimensions.of(model_config)
    assert (size.body, size.head, size.adapter(16, "all-linear")) == pytest.approx((body, head, adapter), rel=0.005)


def test_an_adapter_on_named_matrices_is_smaller():
    size = Dimensions.of(LLAMA_8B)
    assert size.adapter(8, ("q_proj", "v_proj")) == 32 * 8 * (4096 + 4096 + 4096 + 1024)
    assert size.adapter(8, r".*self_attn\.(q|v)_proj") == size.adapter(8, ("q_proj", "v_proj"))
    assert size.adapter(8, r"model\.layers\.[0-9]\..*(q|v)_proj") == size.adapter(8, ("q_proj", "v_proj")) * 10 / 32


def test_a_config_that_leaves_out_whether_words_are_tied_is_read_as_its_family_is():
    sizes = {key: value for key, value in LLAMA_8B.items() if key not in ("tie_word_embeddings", "model_type")}
    assert Dimensions.of({**sizes, "model_type": "gemma2"}).heads == 1
    assert Dimensions.of({**sizes, "model_type": "llama"}).heads == 2
    assert Dimensions.of({**sizes, "model_type": "gemma2", "tie_word_embeddings": False}).heads == 2


def test_gpt2_names_its_sizes_otherwise():
    size = Dimensions.of({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert size.body + size.head == pytest.approx(124e6, rel=0.01)
    assert size.heads == 1


@pytest.mark.parametrize("model_config", [{}, {"hidden_size": 64}, {**LLAMA_8B, "num_local_experts": 8}])
def test_a_model_whose_size_cannot_be_told_is_said(model_config):
    with pytest.raises(UserError, match="[Tt]he plan "):
        Dimensions.of(model_config)


@pytest.mark.parametrize(
    ("recompute", "gib"),
    [(True, 7.4), (False, 17.6)],  # the memory table of the facts: 8B, T = 2048, eager, without the CUDA context
)
def test_memory_is_that_of_the_measured_table_within_a_fifth(recompute, gib):
    config = config_of(per_device_train_batch_size=1, gradient_checkpointing=recompute)
    memory = peak_memory(config, Dimensions.of(LLAMA_8B), Choice(2048, 32 if recompute else 0, 32), L4, share=1.0)
    assert memory.peak - memory.program == pytest.approx(gib * 2**30, rel=0.2)


@pytest.mark.parametrize(("tokens", "measured"), [(479, 1.62e9), (1891, 2.66e9)])
def test_memory_on_a_cpu_is_what_was_measured_with_the_starter(tokens, measured):
    config = config_of().model_copy(update={"lora": LoraSettings(r=32)})
    memory = peak_memory(config, Dimensions.of(SMOLLM), Choice(tokens, 0, 30), LAPTOP, share=0.244)
    assert memory.peak == pytest.approx(measured, rel=0.1)


def test_the_largest_step_is_that_of_the_longest_rows_padded_or_side_by_side():
    settings = config_of(per_device_train_batch_size=2).training
    assert Tokens([10, 500, 20, 400]).step(settings) == 900
    assert Tokens([10, 500, 20, 400], padded=True).step(settings) == 1000
    twice = config_of(per_device_train_batch_size=1, gradient_accumulation_steps=2).training
    assert Tokens([10, 500, 20, 400]).step(twice) == 900


@pytest.mark.parametrize(
    ("rows", "values", "steps"),
    [
        (100, {"num_train_epochs": 3}, 75),
        (101, {"num_train_epochs": 3}, 78),
        (3, {"num_train_epochs": 2.5}, 3),
        (100, {"num_train_epochs": 1.1, "per_device_train_batch_size": 10}, 11),
        (25, {"num_train_epochs": 2, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}, 6),
        (100, {"max_steps": 5}, 5),
    ],
)
def test_steps_are_those_that_transformers_counts(rows, values, steps):
    assert TrainingSettings(**values).steps(rows) == steps


def test_tokens_follow_epochs_or_steps():
    assert plan(config_of(num_train_epochs=3), SMOLLM, Tokens([100] * 40), LAPTOP).tokens == 12_000
    assert (
        plan(config_of(max_steps=2, per_device_train_batch_size=5), SMOLLM, Tokens([100] * 40), LAPTOP).tokens == 1_000
    )
    too_large = config_of(max_steps=2, per_device_train_batch_size=512, gradient_accumulation_steps=8)
    assert plan(too_large, SMOLLM, Tokens([100] * 40), LAPTOP).tokens == 8_000, "a step holds no row twice"


def test_time_grows_with_tokens_and_a_faster_device_takes_less():
    config = config_of()

    def training(rows, device=L4):
        return plan(config, LLAMA_8B, Tokens([500] * rows), device).times["training"]

    h200 = Device("cuda", "NVIDIA H200", 141 * GB, 16, True)
    assert training(200) == pytest.approx(2 * training(100), rel=0.01)
    assert training(100, h200) < training(100) / 5


def test_the_time_is_that_of_the_whole_run():
    asked = Tokens([100] * 40, validation=[100] * 10, test=[(80, 20)] * 10)
    times = plan(config_of(), SMOLLM, asked, LAPTOP).times
    assert list(times) == ["loading", "base answers", "training", "checks", "tuned answers", "merging"]
    assert all(seconds > 0 for seconds in times.values())
    assert plan(config_of(), SMOLLM, asked, LAPTOP).seconds == pytest.approx(sum(times.values()), abs=1)
    alone = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP).times
    assert alone["base answers"] == alone["tuned answers"] == alone["checks"] == 0
    assert alone["training"] == times["training"]


def test_replies_are_planned_in_the_batches_in_which_they_are_written():
    """Room for the longest reply is held, although the tuned model usually ends before: 31 of these rows fit, 32 do not."""
    measured = Measured({"word": 1.0, "reading": 0.0, "watched_word": 0.5}, GB, Choice(500, 0, 30), "")

    def times(rows: int) -> dict[str, float]:
        asked = Tokens([100] * 40, validation=[100], test=[(88, 29)] * rows)
        return plan(config_of(max_steps=1), SMOLLM, asked, LAPTOP, measured=measured).times

    assert times(31)["tuned answers"] == 31 + 36 and times(32)["tuned answers"] == 32 + 2 * 36
    assert times(31)["checks"] == 1 + (48 + 35) * 0.5, (
        "of what is watched, the base writes 48 tokens, the tuned model fewer"
    )
    untested = Tokens([100] * 40, validation=[100])
    unknown = plan(config_of(max_steps=1), SMOLLM, untested, LAPTOP, measured=measured).times["checks"]
    assert unknown == 1 + 2 * 48 * 0.5, "without test rows nobody knows how long an answer is"


def test_dora_is_planned_to_take_longer_than_lora():
    config, tokens = config_of(), Tokens([500] * 40, 9000, [500] * 8, [(400, 100)] * 8)
    dora = config.model_copy(update={"lora": LoraSettings(use_dora=True)})
    lora, slower = (plan(each, SMOLLM, tokens, LAPTOP).times for each in (config, dora))
    assert slower["training"] > 1.5 * lora["training"] and slower["tuned answers"] > 2 * lora["tuned answers"]
    assert slower["base answers"] == lora["base answers"], "the base answers without its adapter"


def test_an_8b_on_an_l4_trains_at_the_known_speed():
    config = config_of(gradient_checkpointing=True)
    planned = plan(config, LLAMA_8B, Tokens([2048] * 100), L4)
    assert planned.tokens / planned.times["training"] == pytest.approx(890, rel=0.1)  # the facts: L4, recompute, 35 %


# how a step is carried out


def choice_of(config, model_config, lengths, device):
    return choose(config, Dimensions.of(model_config), Tokens(lengths), device)


def test_a_step_is_one_pass_without_recomputing_where_that_fits():
    config = config_of(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert choice_of(config, SMOLLM, [100] * 40, LAPTOP) == Choice(800, 0, 30)
    h200 = Device("cuda", "NVIDIA H200", 141 * GB, 16, True)
    assert choice_of(config, LLAMA_8B, [1000] * 40, h200) == Choice(8000, 0, 32)


def test_recomputing_is_asked_for_or_not_but_what_was_asked_for_is_done():
    assert choice_of(config_of(gradient_checkpointing=True), SMOLLM, [100] * 40, LAPTOP).recomputed == 30


def test_the_less_memory_there_is_the_more_is_recomputed_and_no_pass_is_shorter_than_a_row():
    config = config_of(per_device_train_batch_size=8)
    choices = [
        choice_of(config, LLAMA_8B, [1000] * 40, Device("cuda", "NVIDIA L4", memory * GB, 8, True))
        for memory in (80, 14, 12, 10, 4)
    ]
    recomputed = [choice.recomputed for choice in choices]
    assert recomputed == sorted(recomputed) and recomputed[0] == 0 and 0 < recomputed[2] < 32
    assert choices[-1] == Choice(1000, 32, 32)
    assert all(choice.tokens >= 1000 for choice in choices)


def test_a_choice_fits_whenever_there_is_one_that_does():
    config, size = config_of(per_device_train_batch_size=8), Dimensions.of(LLAMA_8B)
    for memory in range(8, 80, 4):
        device = Device("cuda", "NVIDIA L4", memory * GB, 8, True)
        choice = choose(config, size, Tokens([1000] * 40), device)
        if peak_memory(config, size, Choice(1000, 32, 32), device, 1.0).peak <= 0.85 * device.memory:
            assert peak_memory(config, size, choice, device, 1.0).peak <= 0.85 * device.memory


# what makes it fit


def test_a_step_that_is_too_large_at_once_is_no_reason_not_to_fit():
    planned = plan(config_of(per_device_train_batch_size=8), LLAMA_8B, Tokens([2048] * 100), T4)
    assert planned.verdict == "fits" and planned.choice == Choice(2048, 18, 32)
    assert "18 of 32 layers" in planned.choice.sentence


def test_a_plan_that_does_not_fit_says_what_does():
    config = config_of(load_in_4bit=False, per_device_train_batch_size=8)
    planned = plan(config, LLAMA_8B, Tokens([2048] * 100), T4)
    assert planned.verdict == "does not fit" and planned.advice == "It fits with a 4-bit base."
    assert plan(config_of(per_device_train_batch_size=8), LLAMA_8B, Tokens([2048] * 100), T4).verdict == "fits"


def test_a_model_that_is_too_large_for_the_device_whatever_is_done_is_said():
    small = Device("cuda", "GTX", 4 * GB, 4, False)
    planned = plan(config_of(load_in_4bit=False), LLAMA_8B, Tokens([2048] * 100), small)
    assert planned.verdict == "does not fit" and "smaller base model" in planned.advice
    hopeless = plan(config_of(max_length=128), LLAMA_8B, Tokens([128] * 100), small)
    assert hopeless.advice.startswith("It does not fit.")


def test_16_bits_are_advised_where_they_fit_as_well():
    assert "without the 4-bit base" in plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP).tip
    assert plan(config_of(load_in_4bit=False), SMOLLM, Tokens([100] * 40), LAPTOP).tip == ""
    assert plan(config_of(), LLAMA_8B, Tokens([2048] * 40), L4).tip == ""


# what it rests on


def test_the_estimate_says_that_it_is_one_and_what_it_rests_on():
    planned = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP)
    assert planned.verdict == "fits" and planned.advice == "" and not planned.rehearsed
    assert "estimate" in planned.basis and "65%" in planned.basis
    assert sum(planned.memory.values()) == planned.peak_memory_bytes
    assert "10 steps over 4,000 tokens" in planned.sentence
    assert Plan.of(json.loads(json.dumps(planned.values()))) == planned


def test_what_was_measured_takes_the_place_of_what_was_guessed():
    rates = {"loading": 7.0, "training": 0.01, "reading": 0.001, "word": 0.1}
    measured = Measured(rates, 3 * GB, Choice(200, 10, 30), "Measured: so it was.")
    planned = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP, measured=measured)
    assert planned.times["loading"] == 7 and planned.times["training"] == 40
    assert planned.peak_memory_bytes == sum(planned.memory.values()) == 3 * GB
    assert planned.choice == Choice(200, 10, 30) and planned.rehearsed and planned.basis == "Measured: so it was."
    tight = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP, measured=measured._replace(peak=15 * GB))
    assert tight.verdict == "tight" and tight.advice


def test_a_rehearsal_that_ran_out_of_memory_says_what_to_change():
    measured = Measured({}, L4.memory, Choice(2048, 32, 32), "Measured: no.", fits=False)
    planned = plan(config_of(load_in_4bit=False), LLAMA_8B, Tokens([2048] * 40), L4, measured=measured)
    assert planned.verdict == "does not fit" and planned.advice.startswith("It fits with a 4-bit base")


# money


def test_money_is_the_price_of_an_hour_times_the_hours():
    price = price_here({"FTUI_PRICE_PER_HOUR": "3.6"}, LAPTOP)
    planned = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP, price)
    assert planned.cost == pytest.approx(planned.seconds / 1000, abs=1e-4)
    assert "$3.60 an hour (FTUI_PRICE_PER_HOUR)" in planned.basis and f"${planned.cost:.2f}" in planned.sentence


def test_where_nobody_names_a_price_there_is_no_money():
    planned = plan(config_of(), SMOLLM, Tokens([100] * 40), LAPTOP, price_here({}, LAPTOP))
    assert planned.cost is None and "$" not in planned.sentence + planned.basis


@pytest.mark.parametrize(
    ("name", "cores", "hardware", "dollars"),
    [
        ("NVIDIA L4", 8, "l4x1", 0.8),
        ("Tesla T4", 4, "t4-small", 0.4),
        ("Tesla T4", 8, "t4-medium", 0.6),
        ("NVIDIA A10G", 12, "a10g-large", 1.5),
        ("NVIDIA L40S", 8, "l40sx1", 1.8),
        ("NVIDIA A100-SXM4-80GB", 12, "a100-large", 2.5),
        ("CPU", 2, "cpu-basic", 0),
    ],
)
def test_on_a_space_the_hardware_tells_the_price(name, cores, hardware, dollars):
    device = Device("cuda", name, 24 * GB, 64, True)  # the container has fewer cores than its host
    price = price_here({"SPACE_ID": "ana/tuner", "CPU_CORES": str(cores)}, device)
    assert price.per_hour == dollars and hardware in price.basis and "2026-08-22" in price.basis


def test_hardware_that_no_list_names_has_no_price():
    assert price_here({"SPACE_ID": "ana/tuner"}, Device("cuda", "NVIDIA H200", 141 * GB, 16, True)) is None


@pytest.mark.parametrize("said", ["much", "-1", "nan", "inf"])
def test_a_price_that_is_no_number_is_said(said):
    with pytest.raises(UserError, match="FTUI_PRICE_PER_HOUR"):
        price_here({"FTUI_PRICE_PER_HOUR": said}, LAPTOP)
