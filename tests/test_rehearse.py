"""Rehearsing: it measures what the run will do, corrects the plan, and leaves nothing behind; and steps in passes are the same steps."""

import gc
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pytest

from ftui.__main__ import main
from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.device import Device, Lease, this_device
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import prepare
from ftui.models import load_model, load_tokenizer
from ftui.plan import Choice, Dimensions, Tokens, choose, plan_of
from ftui.rehearse import rehearse
from ftui.runs import Run
from ftui.train import Way, build_trainer, recomputed_layers

GB = 10**9


@pytest.fixture
def rehearsed(config):
    """Rehearses a config on the tiny model, and says what was reported."""

    def of(config: RunConfig = config, lease: Lease | None = None, report=lambda _: None):
        encoding = Encoding(load_tokenizer(Path(config.base_model)))
        return rehearse(config, encoding, prepare(config, encoding), lease or Lease(), report)

    return of


def models_in_memory() -> int:
    from torch import nn

    gc.collect()
    return sum(isinstance(thing, nn.Embedding) for thing in gc.get_objects())


def test_a_rehearsal_corrects_the_plan(rehearsed, config):
    encoding = Encoding(load_tokenizer(Path(config.base_model)))
    model_config = json.loads((Path(config.base_model) / "config.json").read_text())
    guessed, found = plan_of(config, prepare(config, encoding), model_config, this_device()), rehearsed()
    assert found.rehearsed and found.basis.startswith("Measured: 5 steps")
    assert found.peak_memory_bytes != guessed.peak_memory_bytes == sum(guessed.memory.values())
    assert found.peak_memory_bytes == sum(found.memory.values())
    changed = {part for part in found.times if found.times[part] != guessed.times[part]}
    assert {"loading", "base answers", "training"} <= changed and found.times["training"] > 0
    assert (found.steps, found.tokens, found.disk_bytes) == (guessed.steps, guessed.tokens, guessed.disk_bytes)
    assert found.choice == guessed.choice and found.verdict == "fits"


@pytest.mark.true
def test_a_rehearsal_leaves_no_file_and_no_model_behind(rehearsed, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    models = models_in_memory()
    files = sorted(tmp_path.rglob("*"))
    rehearsed()
    assert sorted(tmp_path.rglob("*")) == files
    assert models_in_memory() == models


@pytest.mark.true
def test_a_rehearsal_holds_the_accelerator_and_gives_it_back(rehearsed):
    lease, held, said = Lease(), [], []
    rehearsed(lease=lease, report=lambda sentence: (held.append(lease.holder), said.append(sentence)))
    assert set(held) == {"a rehearsal"} and len(said) == 3 and lease.holder is None
    with lease.held_by("run x"), pytest.raises(UserError, match="busy: run x"):
        rehearsed(lease=lease)


@pytest.mark.true
def test_memory_that_runs_out_says_what_to_change(rehearsed, monkeypatch):
    from trl import SFTTrainer

    def starved(self, model, inputs, *arguments, **options):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(SFTTrainer, "compute_loss", starved)
    models, lease = models_in_memory(), Lease()
    found = rehearsed(lease=lease)
    assert found.verdict == "does not fit" and "smaller base model" in found.advice and found.rehearsed
    assert models_in_memory() == models and lease.holder is None


@pytest.mark.true
def test_a_step_that_was_too_large_in_the_rehearsal_is_not_tried_again_in_the_run(rehearsed, monkeypatch):
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def hungry(self, model, inputs, *arguments, **options):
        if model.training and len(inputs["cu_seq_lens_q"]) - 1 > 2:
            raise RuntimeError("CUDA out of memory.")
        return compute(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "compute_loss", hungry)
    found = rehearsed()
    assert found.verdict == "fits" and found.choice.tokens <= 70  # two rows of up to 35 tokens


def test_what_would_end_this_program_is_not_tried(rehearsed, monkeypatch):
    monkeypatch.setattr("ftui.rehearse.this_device", lambda: Device("cpu", "CPU", GB // 2, 2, True))
    with pytest.raises(UserError, match="Not rehearsed: .* Choose a smaller base model"):
        rehearsed()


@pytest.mark.true
def test_plain_text_and_fewer_rows_than_a_step_holds_are_rehearsed(values, rehearsed):
    values["template"] = {"text": "text"}
    values["dataset"]["limit"] = 6
    values["split"] = {"validation": 0, "test": 0}
    values["training"] |= {"per_device_train_batch_size": 16}
    found = rehearsed(RunConfig.parse(values))
    assert found.rehearsed and found.times["base answers"] == 0 and found.times["training"] > 0


@pytest.mark.true
def test_the_terminal_rehearses_when_asked(config, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert main(["check", str(path), "--rehearse", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["plan"]
    assert found["rehearsed"] is True and found["basis"].startswith("Measured")


# in the background


@pytest.mark.true
def test_a_run_starts_with_the_plan_that_was_rehearsed_for_it(config, store):
    trainer = BackgroundTrainer(store, Lease())
    encoding = Encoding(load_tokenizer(Path(config.base_model)))
    examples = prepare(config, encoding)
    rehearsal = trainer.rehearse(config, encoding, examples)
    with pytest.raises(UserError, match="under way"):
        trainer.rehearse(config, encoding, examples)
    run = trainer.start(config)  # it waits until the rehearsal has ended
    with pytest.raises(UserError, match="is at work"):
        trainer.rehearse(config, encoding, examples)
    wait(lambda: rehearsal.plan)
    assert trainer.rehearsed(config) == rehearsal.plan
    again = trainer.queue(config)
    wait(lambda: again.state == "done")
    planned = [event.data["plan"] for one in (run, again) for event in one.events() if "plan" in event.data]
    assert [plan["rehearsed"] for plan in planned] == [False, True]
    longer = config.model_copy(update={"watch_prompts": ("Another.",)})
    assert trainer.rehearsed(longer) is None


def wait(condition) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# a step in passes


def step_of(config: RunConfig, folder: Path, choice: Choice | None) -> tuple:
    """Trainer, loss and gradients of the first step."""
    import torch

    encoding = Encoding(load_tokenizer(Path(config.base_model)))
    examples = prepare(config, encoding)
    model = load_model(Path(config.base_model), config.quantization)
    trainer = build_trainer(config, model, encoding, examples, folder, Way(choice=choice))
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):  # gpt2 has it in its base
            module.p = 0.0
    generator = torch.Generator().manual_seed(3)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # an adapter that is still zero has no gradient in half of its weights
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    batches = trainer.get_train_dataloader()
    steps = next(iter([trainer.get_batch_samples(iter(batches), trainer.args.gradient_accumulation_steps, "cpu")]))
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    trainer.model.train()
    loss = sum(float(trainer.training_step(trainer.model, batch, steps[1])) for batch in steps[0])
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    return trainer, loss, gradients


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_step_chosen_for_a_small_device_is_the_step_that_was_asked_for(values, tiny_family, tmp_path, family):
    import torch

    base = tiny_family(family)
    training = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    config = RunConfig.parse(values | {"base_model": str(base), "training": {**values["training"], **training}})
    trainer, loss, gradients = step_of(config, tmp_path, None)
    chosen, chosen_loss, chosen_gradients = step_of(config, tmp_path, Choice(70, 1, 2))
    assert recomputed_layers(trainer.model) == 0 and recomputed_layers(chosen.model) == 1
    assert chosen.args.per_device_train_batch_size == 8 and chosen.room.tokens == 70
    assert chosen_loss == pytest.approx(loss, rel=2e-3) and loss > 1
    assert chosen_gradients.keys() == gradients.keys() and gradients
    for name, gradient in gradients.items():
        assert torch.cosine_similarity(gradient.flatten(), chosen_gradients[name].flatten(), 0) > 0.995, name
        assert float((gradient - chosen_gradients[name]).norm()) < 0.1 * float(gradient.norm()), name


def test_a_small_device_gets_smaller_passes_and_more_recomputing(config):
    size = Dimensions.of(json.loads((Path(config.base_model) / "config.json").read_text()))
    room = [choose(config, size, Tokens([100] * 20), Device("cpu", "CPU", b, 2, True)) for b in (GB, 708_000_000)]
    assert room[0] == Choice(400, 0, 2)
    assert room[1].tokens < 400 or room[1].recomputed


@pytest.mark.true
def test_the_starter_takes_the_memory_and_the_time_that_its_rehearsal_says(starter, tmp_path):
    """Each in a process of its own. The time with a wide margin, because a machine under test is seldom idle."""
    changes = {
        "training.max_steps": 10,
        "training.eval_steps": 5,
        "evaluation.limit": 4,
        "evaluation.max_new_tokens": 16,
    }
    overrides = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ftui"]
    shared = ["starter", *overrides, "--json", "--runs", str(tmp_path)]
    checked = subprocess.run([*command, "check", *shared, "--rehearse"], capture_output=True, text=True, check=True)
    planned = json.loads(checked.stdout.splitlines()[-1])["plan"]
    assert list(tmp_path.iterdir()) == []
    trained = subprocess.run([*command, "train", *shared], capture_output=True, text=True, check=True)
    run = Run(Path(json.loads(trained.stdout.splitlines()[-1])["path"]))
    began, ended = (datetime.fromisoformat(run.events()[place].time) for place in (0, -1))
    assert max(data["peak_memory"] for data in run.metrics()) == pytest.approx(planned["peak_memory_bytes"], rel=0.3)
    assert 0.5 < (ended - began).total_seconds() / planned["seconds"] < 2
