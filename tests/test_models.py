"""Base models: what can be tuned, what cannot and why, and that a 4-bit model on a CPU stays what it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftui.config import QuantizationSettings
from ftui.device import Lease, this_device
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.models import (
    check_tunable,
    describe,
    load_model,
    load_tokenizer,
    model_folder,
    starter_folder,
)
from ftui.replies import answer_losses, reply_to_all
from tests import tiny

HOME = Path(__file__).parents[1]
QUESTION = [{"role": "user", "content": "What do you see? A red lamp."}]


@pytest.fixture
def copied(tiny_model, tmp_path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


def change_config(folder: Path, **values: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return folder


def never(sentence: str) -> None:
    pytest.fail(f"asked for more than is needed: {sentence}")


# what models are


def test_a_local_folder_is_described_from_its_files(tiny_model):
    facts = describe(str(tiny_model), report=never)
    assert facts.problem is None and facts.architecture == "LlamaForCausalLM" and facts.chat_template
    assert facts.context == 512 and facts.license is None and facts.origin == f"the local folder {tiny_model.name}"
    model = load_model(tiny_model)
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.weights == (tiny_model / "model.safetensors").stat().st_size


def test_the_license_is_read_from_the_model_card(copied):
    (copied / "README.md").write_text("---\nlicense: llama3.1\n---\n# A model\nlicense: other\n")
    assert describe(str(copied)).license == "llama3.1"


def test_an_encoder_is_refused_in_a_sentence(tiny_family):
    with pytest.raises(UserError, match=r"not a causal language model \(bert\)"):
        check_tunable(tiny_family("bert"))
    assert "text-generation" in str(describe(str(tiny_family("bert"))).problem)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gpt2"])
def test_the_usual_families_can_be_tuned(tiny_family, family):
    check_tunable(tiny_family(family))


def test_weights_that_are_not_safetensors_are_refused_in_a_sentence(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(UserError, match="no .safetensors weights"):
        check_tunable(copied)


def test_weights_that_are_already_quantized_are_refused_in_a_sentence(copied):
    with pytest.raises(UserError, match="already quantized"):
        check_tunable(change_config(copied, quantization_config={"quant_method": "gptq", "bits": 4}))


def test_code_from_a_repository_is_never_run(copied):
    (copied / "code.py").write_text("raise SystemExit('the code of the model ran')")
    change_config(copied, model_type="mine", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    with pytest.raises(UserError, match="runs code of its own"):
        check_tunable(copied)
    load_model(change_config(copied, model_type="llama"))


LIST = "[]"


@pytest.mark.parametrize("config", [None, "", "{", LIST, "{}"])
def test_a_folder_without_a_usable_config_is_refused_in_a_sentence(copied, config):
    (copied / "config.json").unlink()
    if config is not None:
        (copied / "config.json").write_text(config)
    with pytest.raises(UserError, match="no config.json|not a causal"):
        check_tunable(copied)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 268435456\n"
WORDS, LISTED = b"\x08\0\0\0\0\0\0\0nonsense", b"\x02\0\0\0\0\0\0\0[]"


@pytest.mark.parametrize("content", [b"", b"\x08\0\0", POINTER, WORDS, LISTED, WORDS[:12]])
def test_a_damaged_model_is_told_in_a_sentence(copied, content):
    (copied / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is not a whole safetensors file"):
        describe(str(copied))


def test_a_file_of_weights_that_was_cut_is_told_before_it_is_loaded(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors is not a whole safetensors file"):
        describe(str(copied))


def test_a_model_without_a_tokenizer_is_told_in_a_sentence(copied):
    (copied / "tokenizer.json").unlink()
    (copied / "tokenizer_config.json").unlink()
    with pytest.raises(UserError):
        load_tokenizer(copied)


DOTTED = "./missing"


@pytest.mark.parametrize("name", [DOTTED, "../up", "no such model", "a/b/c", "/missing", "~/missing", "http://x/y"])
def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_told_in_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="There is no model folder"):
        model_folder(name, report=never)


def test_a_hub_model_without_a_network_is_told_in_a_sentence(tmp_path):
    """In a process of its own, because the Hub's address is read when its library is imported."""
    code = (
        "from ftui.models import model_folder\nfrom ftui.errors import UserError\n"
        "try: model_folder('nobody/nothing')\nexcept UserError as error: print('told:', error)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=HOME, env=environment, timeout=60
    )
    assert "told: nobody/nothing is not on this machine, and the Hugging Face Hub cannot be reached." in done.stdout
    assert "Traceback" not in done.stderr


def test_a_starter_that_is_there_is_neither_fetched_nor_converted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FTUI_HOME", str(tmp_path))
    folder = tmp_path / "models" / "starter"
    folder.mkdir(parents=True)
    (folder / "source.json").write_text('{"origin": "a test"}')
    assert starter_folder(never) == folder == model_folder("starter", report=never)


# the tokenizer


def test_a_tokenizer_without_a_pad_token_gets_one_that_is_not_the_end_of_a_turn_where_it_can(tmp_path):
    tiny.make_tokenizer(tmp_path, pad=None)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"unk_token": "<|endoftext|>"}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token and tokenizer.padding_side == "left"


# the bitsandbytes trap


def quantized_layers(model) -> dict:
    import bitsandbytes

    return {name: module for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}


def dequantized(model) -> dict:
    from bitsandbytes.functional import dequantize_4bit

    return {
        name: dequantize_4bit(layer.weight.data, layer.weight.quant_state).clone()
        for name, layer in quantized_layers(model).items()
    }


def assert_unpacked_and_equal(model, before: dict) -> None:
    import torch

    for name, layer in quantized_layers(model).items():
        assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False), name
    after = dequantized(model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def check_that_evaluation_leaves_a_4_bit_model_as_it_was(folder: Path, messages: list[dict]) -> None:
    print(f"avx512_bf16 or amx_bf16: {this_device().bf16} (without it nothing is ever packed, and this proves little)")
    encoding = Encoding(load_tokenizer(folder))
    model = load_model(folder, QuantizationSettings()).eval()
    before = dequantized(model)
    assert before
    reply_to_all(model, encoding, [messages[:-1]], 4)
    losses = answer_losses(model, encoding.encode([messages]))
    assert_unpacked_and_equal(model, before)
    assert answer_losses(model, encoding.encode([messages])) == losses


def test_replies_and_losses_leave_a_4_bit_model_as_it_was(tiny_model):
    check_that_evaluation_leaves_a_4_bit_model_as_it_was(
        tiny_model, [*QUESTION, {"role": "assistant", "content": "red lamp"}]
    )


@pytest.mark.true
def test_replies_and_losses_leave_the_4_bit_starter_as_it_was(starter):
    check_that_evaluation_leaves_a_4_bit_model_as_it_was(
        starter, [*QUESTION, {"role": "assistant", "content": "red lamp"}]
    )


def test_the_head_of_a_frozen_model_is_not_copied_for_every_row_of_a_batch(tiny_model):
    model, encoding = load_model(tiny_model).eval(), Encoding(load_tokenizer(tiny_model))
    whole = []
    model.lm_head.register_forward_hook(lambda _, states, logits: whole.append(states[0].is_contiguous()))
    reply_to_all(model.requires_grad_(False), encoding, [QUESTION] * 3, 2)
    assert whole == [True, True]  # of a view, torch makes a copy of the weight for each row


@pytest.mark.skipif(not this_device().bf16, reason="only such a CPU packs")
def test_without_ftuis_loader_this_cpu_does_pack_so_the_tests_above_can_fail(tiny_model):
    import torch

    model = load_model(tiny_model, QuantizationSettings()).eval()
    for layer in quantized_layers(model).values():
        layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    with pytest.raises(AssertionError):
        assert_unpacked_and_equal(model, {})


@pytest.mark.true
def test_the_starter_is_made_once_and_says_where_it_came_from(starter):
    made = (starter / "model.safetensors").stat().st_mtime_ns
    assert starter_folder(never) == starter and (starter / "model.safetensors").stat().st_mtime_ns == made
    facts = describe("starter", report=never)
    assert facts.problem is None and facts.license == "apache-2.0" and "SmolLM2-135M-Instruct" in facts.origin
    assert facts.parameters == 134_515_008 and facts.chat_template and facts.context == 8192


@pytest.mark.true
def test_the_starter_can_speak(starter):
    encoding = Encoding(load_tokenizer(starter))
    (reply,) = reply_to_all(
        load_model(starter).eval(), encoding, [[{"role": "user", "content": "What is the capital of France?"}]], 24
    )
    assert "Paris" in reply.text and reply.finished
    assert not encoding.notes


def test_the_lease_names_who_has_it_and_is_free_again_after_a_failure():
    lease = Lease()
    with lease.held_by("run a"), pytest.raises(UserError, match="run a"), lease.held_by("the chat"):
        pytest.fail("two hold it")
    with pytest.raises(ValueError), lease.held_by("run b"):
        raise ValueError
    with lease.held_by("the chat", timeout=0.1):
        assert lease.holder == "the chat"
