"""LoRA's variants: whatever the first weights and the form of the adapter, what was trained is what is loaded, merged and resumed."""

from __future__ import annotations

import shutil

import pytest

from ftui.chat import load_adapted
from ftui.config import LoraSettings, QuantizationSettings, RunConfig
from ftui.device import Lease
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import prepare
from ftui.loop import carry_out
from ftui.merge import as_trained, prove
from ftui.models import load_model, load_tokenizer
from ftui.runs import Run
from ftui.train import build_trainer, complete_checkpoints
from tests.test_merge import merge

VARIANTS = {
    "dora": {"use_dora": True},
    "olora": {"init_lora_weights": "olora"},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa fast, rslora": {"init_lora_weights": "pissa_niter_16", "use_rslora": True},
    "pissa and dora": {"init_lora_weights": "pissa", "use_dora": True},
}
STEPS = 4
FAST = ("dora", "pissa")
MARKED = [pytest.param(lora, marks=() if name in FAST else pytest.mark.true) for name, lora in VARIANTS.items()]


@pytest.fixture
def trained(values, store, tiny_model):
    """A run with this adapter trained to `STEPS`, its model as it stands in memory, and the losses on the way."""

    def train(lora: dict, four_bit: bool, resume: Run | None = None) -> tuple[Run, object, list[float]]:
        changed = values | {
            "lora": values["lora"] | lora,
            "quantization": {"load_in_4bit": four_bit},
            "training": values["training"] | {"max_steps": STEPS, "eval_steps": 2, "learning_rate": 1e-3},
        }
        run = resume or store.create(RunConfig.parse(changed))
        encoding = Encoding(load_tokenizer(tiny_model))
        model = load_model(tiny_model, run.config.quantization)
        trainer = build_trainer(run.config, model, encoding, prepare(run.config, encoding), run.checkpoints_dir)
        checkpoint = next(iter(complete_checkpoints(run.checkpoints_dir)), None)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
        model.save_pretrained(run.adapter_dir)
        encoding.save(run.adapter_dir)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return run, model, losses

    return train


def held_out(run: Run, base) -> list:
    examples = prepare(run.config, Encoding(load_tokenizer(base)))
    return [example.encoded for part in (examples.validation, examples.test) for example in part]


@pytest.mark.parametrize("four_bit", [False, True], ids=["16-bit", "4-bit"])
@pytest.mark.parametrize("lora", MARKED, ids=VARIANTS)
def test_the_adapter_loaded_again_and_the_merged_model_are_what_was_trained(trained, tiny_model, lora, four_bit):
    run, model, losses = trained(lora, four_bit)
    assert losses[-1] < losses[0]
    rows = held_out(run, tiny_model)
    loaded = prove(model, load_adapted(run, tiny_model), rows)
    assert loaded["max_abs_logit_difference"] == 0
    merge(run, tiny_model, as_trained(QuantizationSettings()) if four_bit else None)
    merged = prove(model, load_model(run.merged_dir), rows)
    assert merged["max_abs_logit_difference"] < 0.1, "bf16 tells logits of 8 apart by 0.06"
    assert merged["validation_loss_merged"] == pytest.approx(merged["validation_loss_adapter"], rel=1e-3)


@pytest.mark.true
@pytest.mark.parametrize(("name", "four_bit"), [("dora", True), ("olora", False), ("pissa fast, rslora", True)])
def test_a_resumed_run_goes_on_from_the_same_weights(trained, tiny_model, name, four_bit):
    lora = VARIANTS[name]
    run, model, losses = trained(lora, four_bit)
    shutil.rmtree(run.checkpoints_dir / f"checkpoint-{STEPS}")
    run, resumed, again = trained(lora, four_bit, resume=run)
    assert again == pytest.approx(losses, abs=1e-4)
    assert prove(model, resumed, held_out(run, tiny_model))["max_abs_logit_difference"] < 1e-3


@pytest.mark.parametrize(("init", "four_bit"), [("olora", True), ("pissa", False), ("pissa_niter_16", True)])
def test_weights_taken_from_the_base_change_nothing_at_the_start_and_half_of_them_never(
    values, tiny_model, tmp_path, init, four_bit
):
    import torch

    changed = values | {"lora": {"r": 4, "init_lora_weights": init}, "quantization": {"load_in_4bit": four_bit}}
    config = RunConfig.parse(changed)
    encoding = Encoding(load_tokenizer(tiny_model))
    examples = prepare(config, encoding)
    model = load_model(tiny_model, config.quantization)
    trainer = build_trainer(config, model, encoding, examples, tmp_path / "checkpoints")
    rows = [example.encoded for example in examples.validation]
    with trainer.model.disable_adapter():
        same = prove(trainer.model, load_model(tiny_model, config.quantization), rows)
    assert same["max_abs_logit_difference"] == 0, "the base itself is never touched"
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters() if "lora_" in name}
    assert prove(trainer.model, load_model(tiny_model, config.quantization), rows)["max_abs_logit_difference"] < 1e-3
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        if name in before:
            dim = 0 if "lora_A" in name else 1
            (learned, frozen), (first, kept) = parameter.chunk(2, dim), before[name].chunk(2, dim)
            assert torch.equal(frozen, kept) and not torch.equal(learned, first), name
            assert torch.equal(first, kept if dim == 0 else -kept)


@pytest.mark.parametrize("init", ["olora", "pissa"])
def test_the_first_weights_are_those_of_peft(tiny_model, init):
    """peft takes B A out of the base; what it takes out is what our frozen half takes out."""
    from peft import LoraConfig, get_peft_model

    from ftui.train.start import lora_config, start_from_base

    settings = LoraSettings(r=4, init_lora_weights=init)
    ours = get_peft_model(load_model(tiny_model), lora_config(settings))
    start_from_base(ours, settings)
    theirs = get_peft_model(
        load_model(tiny_model),
        LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules="all-linear", init_lora_weights=init),
    )
    weights = dict(theirs.named_parameters())
    for name, b in ours.named_parameters():
        if "lora_B" in name:
            a = dict(ours.named_parameters())[name.replace("lora_B", "lora_A")]
            product = weights[name] @ weights[name.replace("lora_B", "lora_A")]
            assert (b[:, :4] @ a[:4] - product).norm() < 0.01 * product.norm(), "peft rounds its own to bf16"


def test_the_saved_adapter_is_a_plain_lora_that_peft_alone_can_load(values, store):
    from peft import LoraConfig

    changed = values | {"lora": {"r": 4, "lora_alpha": 8, "init_lora_weights": "pissa"}}
    run = store.create(RunConfig.parse(changed))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    for folder in (run.adapter_dir, *complete_checkpoints(run.checkpoints_dir)):
        saved = LoraConfig.from_pretrained(folder)
        assert (saved.r, saved.lora_alpha, saved.init_lora_weights) == (8, 16, True)
    assert run.read_json("proof.json")["top1_agreement"] >= 0.9


# what cannot work is told


def test_weight_decay_with_weights_from_the_base_is_refused(values):
    with pytest.raises(UserError, match=r"^training\.weight_decay: must be 0 with lora\.init_lora_weights: olora"):
        RunConfig.parse(
            values | {"lora": {"init_lora_weights": "olora"}, "training": values["training"] | {"weight_decay": 0.1}}
        )


def test_a_rank_beyond_the_directions_of_a_layer_is_told(values, store):
    run = store.create(RunConfig.parse(values | {"lora": {"r": 48, "init_lora_weights": "pissa"}}))
    carry_out(run, Lease())
    assert run.events()[-1].message.startswith("lora.r: 48 is more than k_proj has directions")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("lm_head", "would never be trained"),
        ("embed_tokens", "with the same weights, so embed_tokens cannot be merged"),
    ],
)
def test_a_layer_of_words_that_could_not_be_trained_or_merged_gets_no_adapter(values, store, layer, words):
    run = store.create(RunConfig.parse(values | {"lora": {"target_modules": ["q_proj", layer]}}))
    carry_out(run, Lease())
    assert words in run.events()[-1].message and not run.read_json("base_answers.json")


@pytest.mark.parametrize("targets", [["q_proj", "v_porj"], ["norm"], "layers.*mlp", ["mlp"]])
def test_layers_that_are_not_there_or_can_hold_no_adapter_are_told_with_those_that_can(values, store, targets):
    run = store.create(RunConfig.parse(values | {"lora": {"target_modules": targets}}))
    assert carry_out(run, Lease()) == "failed"
    assert "It has: down_proj, embed_tokens, gate_proj, k_proj" in run.events()[-1].message


@pytest.mark.true
@pytest.mark.parametrize("targets", [r".*self_attn\.[qv]_proj", "self_attn.q_proj", ["q_proj", "down_proj"]])
def test_layers_are_named_by_a_pattern_a_name_or_several(values, store, targets):
    run = store.create(RunConfig.parse(values | {"lora": {"target_modules": targets}}))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
