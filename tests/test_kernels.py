"""The kernels for CPUs compute what peft and transformers compute, and leave to them whatever they do not know."""

from pathlib import Path

import pytest

FAMILIES = ["llama", "qwen2", "qwen3", "mistral"]
ROWS = [[5, 9, 33, 70, 12, 6, 7], [90, 41], [7, 7, 120, 33, 18, 64, 80, 2, 9, 9, 11], [44]]


@pytest.fixture
def adapted(tiny_family):
    """A tiny model with a random adapter, in training mode."""

    def made(family: str = "llama", dtype: str = "float32", four_bit: bool = False, **lora):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        from ftui.attention import register_varlen_attention
        from ftui.models.load import _keep_unpacked

        dtype = getattr(torch, dtype)
        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        model = AutoModelForCausalLM.from_pretrained(
            tiny_family(family),
            dtype=dtype,
            attn_implementation=register_varlen_attention() if family in FAMILIES else None,
            **({"quantization_config": quantized} if four_bit else {}),
        )
        _keep_unpacked(model)
        config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | lora
        model = get_peft_model(model, LoraConfig(**config)).train()
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        return model

    return made


def packed() -> dict:
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([{"input_ids": row} for row in ROWS])
    return {name: value for name, value in batch.items() if torch.is_tensor(value) and name != "labels"}


def hidden_and_gradients(model, dtype: str = "float32"):
    """The last hidden states and the gradient of every adapter weight; in 16 bits as accelerate computes them."""
    import torch

    model.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        hidden = model.base_model.model.model(**packed(), use_cache=False).last_hidden_state
    (hidden.float() * torch.linspace(-1, 1, hidden.shape[-1])).square().mean().backward()
    return hidden.detach().float(), {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def swapped(model) -> set[str]:
    return {type(module).__name__ for module in model.modules() if "forward" in vars(module)}


def distance(left, right) -> float:
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_those_of_the_libraries(adapted, family, four_bit, monkeypatch):
    from ftui.train.kernels import fuse

    monkeypatch.setattr("ftui.attention.BLOCK", 4)
    model = adapted(family, four_bit=four_bit)
    hidden, gradients = hidden_and_gradients(model)
    fuse(model)
    assert {kind.removeprefix(family.capitalize()) for kind in swapped(model)} == {
        "RMSNorm", "MLP", "Linear4bit" if four_bit else "Linear"
    }  # fmt: skip
    ours, our_gradients = hidden_and_gradients(model)
    assert distance(ours, hidden) < 1e-5
    assert len(gradients) == len(our_gradients) == 2 * 2 * 7
    for name, gradient in gradients.items():
        assert distance(our_gradients[name], gradient) < 1e-5 and float(gradient.norm()) > 1e-6, name


@pytest.mark.parametrize("four_bit", [False, True])
def test_in_16_bits_they_are_no_further_from_the_truth_than_the_libraries(adapted, four_bit):
    from ftui.train.kernels import fuse

    _, exact = hidden_and_gradients(adapted(four_bit=four_bit))
    model = adapted(dtype="bfloat16", four_bit=four_bit)
    _, theirs = hidden_and_gradients(model, "bfloat16")
    fuse(model)
    _, ours = hidden_and_gradients(model, "bfloat16")
    for name, gradient in exact.items():
        assert distance(ours[name], gradient) < 1.3 * distance(theirs[name], gradient) + 0.01, name
        assert distance(ours[name], theirs[name]) < 0.1, name


@pytest.mark.parametrize("unusual", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}])
def test_what_is_not_plain_lora_is_left_to_peft(adapted, unusual, monkeypatch):
    import torch

    from ftui.train import kernels

    model = adapted(**unusual)
    before = hidden_and_gradients(model)
    monkeypatch.setattr(kernels, "PARTS", kernels.re.compile("none of them"))
    kernels.fuse(model)
    after = hidden_and_gradients(model)
    assert torch.equal(before[0], after[0])
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])


def test_an_unknown_family_keeps_its_parts(adapted):
    from ftui.train.kernels import fuse

    model = adapted("gpt2", fan_in_fan_out=True)
    fuse(model)
    assert swapped(model) == set()


def test_without_the_adapter_the_base_answers(adapted):
    from ftui.train.kernels import fuse

    model = adapted()
    with model.disable_adapter():
        expected, _ = hidden_and_gradients_of_nothing(model)
        fuse(model)
        ours, _ = hidden_and_gradients_of_nothing(model)
    assert distance(ours, expected) < 1e-5


def hidden_and_gradients_of_nothing(model):
    return model.base_model.model.model(**packed(), use_cache=False).last_hidden_state.detach(), None


def test_recomputing_gives_the_same_gradients(adapted):
    import torch

    from ftui.train.kernels import fuse

    model = adapted()
    fuse(model)
    hidden, gradients = hidden_and_gradients(model)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    again, recomputed = hidden_and_gradients(model)
    assert torch.equal(hidden, again) and all(torch.equal(recomputed[name], gradients[name]) for name in gradients)


def test_generation_and_the_saved_names_stay_as_they_were(adapted, tmp_path):
    import torch
    from safetensors.torch import load_file

    from ftui.train.kernels import fuse

    model = adapted()
    ids = torch.tensor([[0, 0, *ROWS[0]], [*ROWS[2][:9]]])
    options = {"input_ids": ids, "attention_mask": (ids != 0).long(), "do_sample": False, "max_new_tokens": 8}
    answers = []
    for folder in ("before", "after"):
        model.eval()
        answers.append(model.generate(**options))
        model.train().save_pretrained(tmp_path / folder)
        fuse(model)
        hidden_and_gradients(model)
    assert torch.equal(*answers)
    before, after = (load_file(Path(tmp_path / name / "adapter_model.safetensors")) for name in ("before", "after"))
    assert list(before) == list(after)
