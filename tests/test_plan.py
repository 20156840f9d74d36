"""The plan: arithmetic against published sizes, steps as trl counts them, and advice that is true."""

import pytest

from ftui.config import RunConfig, TrainingSettings
from ftui.device import Device
from ftui.errors import UserError
from ftui.plan import Dimensions, peak_memory, plan

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
    assert size.adapter(8, "q_proj|v_proj") == size.adapter(8, ("q_proj", "v_proj"))


def test_gpt2_names_its_sizes_otherwise():
    size = Dimensions.of({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert size.body + size.head == pytest.approx(124e6, rel=0.01)
    assert size.heads == 1


@pytest.mark.parametrize("model_config", [{}, {"hidden_size": 64}, {**LLAMA_8B, "num_local_experts": 8}])
def test_a_model_whose_size_cannot_be_told_is_said(model_config):
    with pytest.raises(UserError, match="[Rr]ehearse"):
        Dimensions.of(model_config)


@pytest.mark.parametrize(
    ("recompute", "gib"),
    [(True, 7.4), (False, 17.6)],  # the memory table of the facts: 8B, T = 2048, eager, without the CUDA context
)
def test_memory_is_that_of_the_measured_table_within_a_fifth(recompute, gib):
    config = config_of(per_device_train_batch_size=1, gradient_checkpointing=recompute)
    memory = peak_memory(config, Dimensions.of(LLAMA_8B), [2048], L4, share=1.0)
    assert sum(memory.values()) - memory["program"] == pytest.approx(gib * 2**30, rel=0.2)


@pytest.mark.parametrize(("tokens", "measured"), [(521, 1.98e9), (2043, 3.86e9)])
def test_memory_on_a_cpu_is_what_was_measured_with_the_starter(tokens, measured):
    memory = peak_memory(config_of(), Dimensions.of(SMOLLM), [tokens], LAPTOP, share=0.226)
    assert sum(memory.values()) == pytest.approx(measured, rel=0.05)


def test_memory_counts_the_longest_rows_that_can_meet_in_a_batch():
    config, size = config_of(per_device_train_batch_size=2), Dimensions.of(SMOLLM)
    one = peak_memory(config, size, [10, 500, 20, 400], LAPTOP, 0.5)
    assert one["activations"] == peak_memory(config, size, [900], LAPTOP, 0.5)["activations"]
    assert one["activations"] > peak_memory(config, size, [10, 20, 300, 400], LAPTOP, 0.5)["activations"]


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
    assert plan(config_of(num_train_epochs=3), SMOLLM, [100] * 40, LAPTOP).tokens == 12_000
    assert plan(config_of(max_steps=2, per_device_train_batch_size=5), SMOLLM, [100] * 40, LAPTOP).tokens == 1_000


def test_time_grows_with_tokens_and_a_faster_device_takes_less():
    config = config_of()
    short, long = (plan(config, LLAMA_8B, [500] * rows, L4).seconds for rows in (100, 200))
    assert long == pytest.approx(2 * short, rel=0.01)
    h200 = Device("cuda", "NVIDIA H200", 141 * GB, 16, True)
    assert plan(config, LLAMA_8B, [500] * 100, h200).seconds < short / 5
    assert plan(config, LLAMA_8B, [500] * 100, L4, validated=10_000).seconds > short


def test_an_8b_on_an_l4_trains_at_the_known_speed():
    config = config_of(gradient_checkpointing=True)
    planned = plan(config, LLAMA_8B, [2048] * 100, L4)
    assert planned.tokens / planned.seconds == pytest.approx(890, rel=0.1)  # the facts: L4, recompute, 35 %


def test_a_plan_that_does_not_fit_says_what_does():
    config = config_of(per_device_train_batch_size=8)
    planned = plan(config, LLAMA_8B, [2048] * 100, T4)
    assert planned.verdict == "does not fit" and planned.advice.startswith("It fits with")
    assert "recomputed" in planned.advice
    mended = config_of(per_device_train_batch_size=1, gradient_checkpointing=True)
    assert plan(mended, LLAMA_8B, [2048] * 100, T4).verdict == "fits"


def test_a_model_that_is_too_large_for_the_device_whatever_is_done_is_said():
    planned = plan(config_of(load_in_4bit=False), LLAMA_8B, [2048] * 100, Device("cuda", "GTX", 4 * GB, 4, False))
    assert planned.verdict == "does not fit" and "smaller base model" in planned.advice


def test_the_estimate_says_that_it_is_one_and_what_it_rests_on():
    planned = plan(config_of(), SMOLLM, [100] * 40, LAPTOP)
    assert planned.verdict == "fits" and planned.advice == ""
    assert "estimate" in planned.basis and "65%" in planned.basis
    assert sum(planned.memory.values()) == planned.peak_memory_bytes
    assert "10 steps over 4,000 tokens" in planned.sentence
