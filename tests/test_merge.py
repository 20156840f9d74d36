"""merge: the same weights as peft's, the same file layout as the base, and never an adapter that is empty or lost."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from ftui.config import QuantizationSettings, RunConfig
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import prepare
from ftui.merge import Rounding, as_trained, merge_into, prove, read_adapter
from ftui.models import load_model, load_tokenizer
from ftui.plan import PROVEN_ROWS
from ftui.proof import merge_and_prove
from ftui.replies import reply_to_all
from ftui.runs import Run

QUESTION = [{"role": "user", "content": "What do you see? A red lamp."}]


def add_adapter(model, strength: float = 0.05, **settings: object):
    """peft's wrapper with an adapter that does something, the same each time."""
    import torch
    from peft import LoraConfig, get_peft_model

    values = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | settings
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **values))
    generator = torch.Generator().manual_seed(11)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * strength
    return adapted.eval()


@pytest.fixture
def adapted_run(values, store):
    """A run with an adapter on a base of its own, in a given dtype: (run, base folder, peft model)."""

    def made(base: Path, dtype: str = "bfloat16", **settings: object) -> tuple[Run, Path, object]:
        import torch
        from transformers import AutoModelForCausalLM

        if dtype != "bfloat16":
            copied = shutil.copytree(base, store.folder / f"base-{dtype}")
            AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype)).save_pretrained(copied)
            base = copied
        run = store.create(RunConfig.parse(values | {"base_model": str(base)}))
        adapted = add_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype)), **settings)
        adapted.save_pretrained(run.adapter_dir)
        Encoding(load_tokenizer(base)).save(run.adapter_dir)
        return run, base, adapted

    return made


def merge(run: Run, base: Path, rounding: Rounding | None = None) -> Path:
    """A run's merged model in its place, unproven."""
    with run.new_folder("merged") as folder:
        merge_into(folder, run, base, rounding)
    return run.merged_dir


def tensors(folder: Path) -> dict:
    from safetensors.torch import load_file

    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def read_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
@pytest.mark.parametrize("form", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
def test_the_merged_weights_are_those_of_peft_in_32_bit(adapted_run, tiny_family, family, form):
    import torch

    run, base, adapted = adapted_run(tiny_family(family), "float32", **form)
    assert read_adapter(run.adapter_dir), "merged shard by shard"
    before = tensors(base)
    merged = tensors(merge(run, base))
    theirs = adapted.merge_and_unload().state_dict()
    assert merged.keys() == before.keys()
    for name, weight in merged.items():
        assert torch.allclose(weight, theirs[name], rtol=0, atol=1e-5), name
    changed = [name for name in merged if not torch.equal(merged[name], before[name])]
    assert len(changed) == 2 * 7, "seven linear layers in each of two blocks"


def test_the_merged_weights_are_rounded_once_to_the_dtype_of_the_base(adapted_run, tiny_model):
    import torch

    run, base, adapted = adapted_run(tiny_model)
    exact = {name: weight.double() for name, weight in tensors(base).items()}
    for name, delta in read_adapter(run.adapter_dir).items():
        exact[name] = exact[name] + delta.scaling * delta.b.double() @ delta.a.double()
    for name, weight in tensors(merge(run, base)).items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, exact[name].float().to(torch.bfloat16)) or torch.allclose(
            weight.double(), exact[name], rtol=2**-8, atol=1e-6
        )


def test_the_file_has_the_header_and_the_size_of_the_base_and_all_that_was_not_adapted(adapted_run, tiny_model):
    run, base, _ = adapted_run(tiny_model)
    merge(run, base)
    original, merged = base / "model.safetensors", run.merged_dir / "model.safetensors"
    assert read_header(original) == read_header(merged) and original.stat().st_size == merged.stat().st_size
    assert json.loads((base / "config.json").read_text()) == json.loads((run.merged_dir / "config.json").read_text())
    assert {"tokenizer.json", "chat_template.jinja", "generation_config.json"} <= {
        p.name for p in run.merged_dir.iterdir()
    }
    assert not list(run.merged_dir.glob("adapter_*")) and not (run.merged_dir / "source.json").exists()


def test_a_base_in_several_files_is_merged_file_by_file(adapted_run, tiny_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    sharded = shutil.copytree(tiny_model, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(sharded, max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    run, base, adapted = adapted_run(sharded)
    whole, _, _ = adapted_run(tiny_model)
    ours, theirs = tensors(merge(run, base)), tensors(merge(whole, tiny_model))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (run.merged_dir / "model.safetensors.index.json").is_file()
    AutoModelForCausalLM.from_pretrained(run.merged_dir)


def test_plain_transformers_answers_with_the_merged_model_as_ftui_does_with_the_adapter(adapted_run, tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, base, adapted = adapted_run(tiny_model, "float32")
    merge(run, base)
    (reply,) = reply_to_all(adapted, Encoding(load_tokenizer(base)), [QUESTION], 16)
    tokenizer = AutoTokenizer.from_pretrained(run.merged_dir)
    model = AutoModelForCausalLM.from_pretrained(run.merged_dir, dtype=torch.float32)
    asked = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    out = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=16)
    assert tokenizer.decode(out[0, asked.shape[1] :], skip_special_tokens=True) == reply.text
    base_model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert not torch.allclose(model(asked).logits, base_model(asked).logits, atol=0.01)


@pytest.mark.parametrize("settings", [{"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["embed_tokens"]}])
def test_adapters_that_are_not_plain_go_through_peft(adapted_run, tiny_family, settings):
    import torch

    run, base, adapted = adapted_run(tiny_family("qwen2"), "float32", **settings)
    assert read_adapter(run.adapter_dir) is None
    merged, theirs = tensors(merge(run, base)), adapted.merge_and_unload().state_dict()
    assert all(torch.allclose(merged[name], theirs[name], rtol=0, atol=1e-5) for name in merged)
    assert (run.merged_dir / "tokenizer.json").is_file()


def test_a_family_whose_weights_lie_otherwise_goes_through_peft(adapted_run, tiny_family):
    import torch
    from transformers import AutoModelForCausalLM

    run, base, adapted = adapted_run(tiny_family("gpt2"), "float32")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = adapted(ids).logits
        merge(run, base)
        merged = AutoModelForCausalLM.from_pretrained(run.merged_dir, dtype=torch.float32).eval()(ids).logits
    assert torch.allclose(merged, expected, atol=1e-4)


def test_rounding_holds_on_the_way_through_peft_as_well(adapted_run, tiny_family):
    import torch

    run, base, _ = adapted_run(tiny_family("gpt2"), "float32")
    plain = tensors(merge(run, base))
    rounded = tensors(merge(run, base, torch.zeros_like))
    name = "transformer.h.0.attn.c_attn.weight"
    assert not torch.equal(plain[name], rounded[name])


# 4 bits


def four_bit_adapted(run: Run, base: Path):
    from peft import PeftModel

    return PeftModel.from_pretrained(load_model(base, QuantizationSettings()), run.adapter_dir).eval()


def test_merging_into_the_weights_as_they_were_trained_gives_the_function_that_was_trained(adapted_run, tiny_model):
    run, base, _ = adapted_run(tiny_model)
    encoding = Encoding(load_tokenizer(base))
    examples = encoding.encode(
        [[*QUESTION, {"role": "assistant", "content": text}] for text in ("red lamp", "blue boat")]
    )
    adapted = four_bit_adapted(run, base)
    differences = {}
    for name, rounding in (("original", None), ("as trained", as_trained(QuantizationSettings()))):
        merge(run, base, rounding)
        differences[name] = prove(adapted, load_model(run.merged_dir).eval(), examples)
    trained, original = (differences[name]["max_abs_logit_difference"] for name in ("as trained", "original"))
    assert trained < original / 2 and trained < 0.15
    assert differences["as trained"]["top1_agreement"] == 1
    loss = differences["as trained"]
    assert loss["validation_loss_merged"] == pytest.approx(loss["validation_loss_adapter"], rel=5e-3)


@pytest.mark.true
def test_the_4_bit_starter_is_merged_to_what_was_trained(adapted_run, starter):
    run, base, _ = adapted_run(starter, strength=0.01)
    encoding = Encoding(load_tokenizer(base))
    examples = encoding.encode(
        [
            [
                {"role": "user", "content": f"What is {n} and {n}?"},
                {"role": "assistant", "content": f"It is {2 * n}, of course."},
            ]
            for n in range(1, 5)
        ]
    )
    adapted, proofs = four_bit_adapted(run, base), []
    for rounding in (None, as_trained(QuantizationSettings())):
        merge(run, base, rounding)
        proofs.append(prove(adapted, load_model(run.merged_dir).eval(), examples))
    original, trained = proofs
    print(original, trained)
    assert trained["max_abs_logit_difference"] < original["max_abs_logit_difference"] / 2
    assert trained["validation_loss_merged"] == pytest.approx(trained["validation_loss_adapter"], rel=0.02)


def test_rounding_is_that_of_the_layers_that_were_trained_on(tiny_model):
    import torch

    from tests.test_models import dequantized

    rounding, original = as_trained(QuantizationSettings()), tensors(tiny_model)
    layers = dequantized(load_model(tiny_model, QuantizationSettings()))
    assert len(layers) == 14
    for name, weight in layers.items():
        assert torch.allclose(rounding(original[f"{name}.weight"]).float(), weight.float(), atol=1e-3), name
        assert not torch.equal(weight.to(torch.bfloat16), original[f"{name}.weight"])


# the proof


def test_a_proof_of_equal_models_finds_no_difference_and_of_others_finds_it(tiny_model, tiny_family):
    model = load_model(tiny_model).eval()
    encoding = Encoding(load_tokenizer(tiny_model))
    examples = encoding.encode([[*QUESTION, {"role": "assistant", "content": "red lamp"}]] * 4)
    same = prove(model, model, examples)
    assert same["max_abs_logit_difference"] == 0 and same["top1_agreement"] == 1 and same["rows"] == 4
    assert same["tokens"] == 4 * examples[0].trained
    assert same["validation_loss_adapter"] == same["validation_loss_merged"] > 0
    other = prove(model, load_model(tiny_family("qwen2")).eval(), examples)
    assert (
        other["max_abs_logit_difference"] > 0.1 and other["validation_loss_merged"] != same["validation_loss_adapter"]
    )


def test_a_merge_is_proven_on_a_few_held_out_rows_however_many_there_are(adapted_run, tiny_model, values):
    values["split"] = {"validation": PROVEN_ROWS + 4, "test": 0}
    run, base, adapted = adapted_run(tiny_model)
    proof = merge_and_prove(run, base, adapted, prepare(run.config, Encoding(load_tokenizer(base))))
    assert proof["rows"] == PROVEN_ROWS and proof["top1_agreement"] >= 0.9 and run.read_json("proof.json") == proof


# what is refused


def test_an_adapter_that_learned_nothing_is_refused(adapted_run, tiny_model):
    run, base, _ = adapted_run(tiny_model, strength=0.0)
    with pytest.raises(UserError, match="learned nothing"):
        merge(run, base)
    assert not run.merged_dir.exists()


def test_a_run_without_an_adapter_is_refused(config, store, tiny_model):
    with pytest.raises(UserError, match="no adapter yet"):
        merge(store.create(config), tiny_model)


def test_a_full_disk_is_refused_before_anything_is_written(adapted_run, tiny_model, monkeypatch):
    run, base, _ = adapted_run(tiny_model)
    before = sorted(run.path.rglob("*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(1, 1, 1000))
    with pytest.raises(UserError, match="free some space, then merge this run again"):
        merge(run, base)
    assert sorted(run.path.rglob("*")) == before


def test_a_merge_that_breaks_off_leaves_the_last_good_one(adapted_run, tiny_model):
    run, base, _ = adapted_run(tiny_model)
    merge(run, base)
    before = tensors(run.merged_dir)

    def breaks(weight):
        raise MemoryError

    with pytest.raises(MemoryError):
        merge(run, base, breaks)
    after = tensors(run.merged_dir)
    assert all((before[name] == after[name]).all() for name in before)
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]
