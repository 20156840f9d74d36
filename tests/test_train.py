"""Training: trl gets exactly the tokens and labels that Encoding made, and what ftui changes in trl stays true."""

import csv
import math
from pathlib import Path

import pytest

from ftui.config import RunConfig, TrainingSettings
from ftui.device import this_device
from ftui.encoding import IGNORED, Encoding
from ftui.examples import prepare
from ftui.models import load_model, load_tokenizer
from ftui.train import RESULTS, build_trainer, train, watch_questions
from tests import tiny

FOUR_BIT = {"load_in_4bit": True}


@pytest.fixture
def build(values, tmp_path):
    """A trainer for the config, changed in places."""

    def built(base: Path | None = None, **changes: dict):
        config = RunConfig.parse(values | {key: {**values.get(key, {}), **changed} for key, changed in changes.items()})
        base = base or Path(config.base_model)
        encoding = Encoding(load_tokenizer(base))
        examples = prepare(config, encoding)
        model = load_model(base, config.quantization)
        return build_trainer(config, model, encoding, examples, tmp_path / "checkpoints"), examples, encoding

    return built


def trained_parameters(trainer) -> dict:
    return {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}


def disturb_adapter(trainer) -> None:
    import torch

    generator = torch.Generator().manual_seed(3)
    for parameter in trained_parameters(trainer).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05


def compute_loss(trainer, batch: dict) -> tuple:
    """The loss of a batch and all gradients of the adapter."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in trained_parameters(trainer).items()}


# what trl is handed, and what it makes of it


@pytest.mark.parametrize("quantization", [{}, FOUR_BIT])
def test_the_adapter_is_kept_in_32_bit_and_nothing_else_is_trained(build, quantization):
    import torch

    trainer, _, _ = build(quantization=quantization)
    trained = trained_parameters(trainer)
    assert trained and all("lora_" in name for name in trained)
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert trainer.optimizer is None


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_batch_that_trl_gets_holds_the_tokens_and_labels_of_encoding(build, tiny_family, family):
    trainer, examples, encoding = build(tiny_family(family))
    by_ids = {tuple(example.encoded.input_ids): example.encoded.labels for example in examples.train}
    seen = 0
    for batch in trainer.get_train_dataloader():
        if family == "gpt2":  # padded
            lengths = batch["attention_mask"].sum(-1).tolist()
            rows = [
                (ids[:n], labels[:n])
                for ids, labels, n in zip(batch["input_ids"], batch["labels"], lengths, strict=True)
            ]
            assert set(batch["labels"][batch["attention_mask"] == 0].tolist()) <= {IGNORED}
        else:
            assert len(batch["input_ids"]) == 1 and "attention_mask" not in batch
            lengths = batch["cu_seq_lens_q"].diff().tolist()
            rows = list(zip(batch["input_ids"][0].split(lengths), batch["labels"][0].split(lengths), strict=True))
            assert batch["position_ids"][0].tolist() == [at for n in lengths for at in range(n)]
        for ids, labels in rows:
            expected = by_ids[tuple(ids.tolist())]
            assert labels.tolist()[1:] == expected[1:]
            assert expected[0] == IGNORED == labels.tolist()[0]
            answer = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
            assert encoding.tokenizer.decode(answer).endswith("<|im_end|>")
            seen += 1
    assert seen == len(examples.train) == 20


@pytest.mark.skipif(this_device().kind != "cpu", reason="the head is changed on a CPU only")
@pytest.mark.parametrize("quantization", [{}, FOUR_BIT])
def test_the_head_for_cpus_gives_the_loss_and_the_gradients_of_trls_own(build, quantization, monkeypatch):
    import torch

    trainer, _, _ = build(quantization=quantization)
    batch = next(iter(trainer.get_train_dataloader()))
    disturb_adapter(trainer)
    ours, our_gradients = compute_loss(trainer, batch)
    monkeypatch.setattr("ftui.train.head._is_frozen", lambda head: False)  # then trl's own head computes
    theirs, their_gradients = compute_loss(trainer, batch)
    assert math.isclose(ours, theirs, rel_tol=2e-3) and ours > 1
    for name, gradient in their_gradients.items():
        assert torch.cosine_similarity(gradient.flatten(), our_gradients[name].flatten(), 0) > 0.995, name
        assert float((gradient - our_gradients[name]).norm()) < 0.1 * float(gradient.norm()), name


def test_a_batch_of_which_nothing_is_learned_has_no_loss_and_no_gradient(build):
    trainer, _, _ = build()
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"] = batch["labels"].clone().fill_(IGNORED)
    loss, gradients = compute_loss(trainer, batch)
    assert loss == 0 and not any(bool(gradient.any()) for gradient in gradients.values())


def test_with_accumulation_the_loss_is_the_mean_over_the_tokens_of_the_whole_step(build):
    """Two half batches make the step of one whole batch, though their rows differ in length."""
    losses = []
    for size, passes in ((4, 1), (2, 2)):
        trainer, _, _ = build(
            training={
                "per_device_train_batch_size": size,
                "gradient_accumulation_steps": passes,
                "max_steps": 3,
                "eval_steps": 3,
                "warmup_steps": 0,
            }
        )
        trainer.train()
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=5e-3)


def test_noise_on_the_embeddings_is_that_of_each_row_by_itself_and_none_at_a_check(build, values):
    lines = [{"text": f"What {number}?", "answer": "red lamp, " * (1 + 9 * (number % 2))} for number in range(20)]
    tiny.write_rows(Path(values["dataset"]["path"]), lines)
    trainer, _, _ = build(training={"neftune_noise_alpha": 5})
    batch = next(iter(trainer.get_train_dataloader()))
    embeddings, seen = trainer.model.get_input_embeddings(), []
    embeddings.register_forward_hook(lambda module, args, output: seen.append(output.detach().float()[0]))
    trainer.model.train()
    compute_loss(trainer, batch)
    trainer.model.eval()
    trainer.compute_loss(trainer.model, dict(batch))
    clean = embeddings.weight.float()[batch["input_ids"][0]]
    rows = batch["cu_seq_lens_q"].diff().tolist()
    assert len(set(rows)) > 1
    for moved, tokens in zip((seen[0] - clean).abs().split(rows), rows, strict=True):
        assert float(moved.max()) == pytest.approx(5 / (tokens * clean.shape[-1]) ** 0.5, rel=0.05)
    assert bool((seen[1] == clean).all())
    trainer.train()
    assert "loss" in trainer.state.log_history[0]


def test_the_validation_loss_is_that_of_a_token_however_many_rows_are_checked_at_once(build, values):
    lines = [{"text": f"What {number}?", "answer": "red lamp, " * (1 + 9 * (number % 2))} for number in range(20)]
    tiny.write_rows(Path(values["dataset"]["path"]), lines)
    found = []
    for size in (1, 2, 3):
        trainer, examples, _ = build(training={"per_device_train_batch_size": size}, split={"validation": 7})
        disturb_adapter(trainer)
        found.append(trainer.evaluate()["eval_loss"])
    assert len(set(examples.validation.trained.tolist())) > 1
    assert found == pytest.approx([found[0]] * 3, rel=2e-3)


# the trap


def check_that_an_evaluation_midway_changes_nothing(trainer, steps: int) -> None:
    import torch

    from tests.test_models import assert_unpacked_and_equal, dequantized

    print(f"avx512_bf16 or amx_bf16: {this_device().bf16} (without it nothing is ever packed, and this proves little)")
    before = dequantized(trainer.model)
    batch = next(iter(trainer.get_train_dataloader()))
    disturb_adapter(trainer)  # an adapter that is still zero has no gradient in half of its weights
    _, first = compute_loss(trainer, batch)
    trainer.evaluate()
    _, second = compute_loss(trainer, batch)
    trainer.evaluate()
    _, third = compute_loss(trainer, batch)
    assert len(first) == len(trained_parameters(trainer)) and all(bool(gradient.any()) for gradient in first.values())
    for name in first:  # the first evaluation also switches autocast on, which rounds
        assert torch.cosine_similarity(first[name].flatten(), second[name].flatten(), 0) > 0.99, name
        assert torch.equal(second[name], third[name]), name
    trainer.model.zero_grad()
    start = {name: value.detach().clone() for name, value in trained_parameters(trainer).items()}
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    checks = [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]
    assert len(losses) == steps and losses[-1] < losses[0] and len(checks) >= 2 and checks[-1] < checks[0]
    assert not [name for name, value in trained_parameters(trainer).items() if torch.equal(value, start[name])]
    assert_unpacked_and_equal(trainer.model, before)


def test_evaluating_midway_leaves_a_4_bit_base_and_its_gradients_as_they_were(build):
    trainer, _, _ = build(quantization=FOUR_BIT)
    check_that_an_evaluation_midway_changes_nothing(trainer, steps=6)


@pytest.mark.true
def test_evaluating_midway_leaves_the_4_bit_starter_and_its_gradients_as_they_were(build, starter):
    trainer, _, _ = build(
        starter,
        quantization=FOUR_BIT,
        training={
            "max_steps": 4,
            "eval_steps": 1,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
        },
    )
    check_that_an_evaluation_midway_changes_nothing(trainer, steps=4)


# steps, seeds, stopping


@pytest.mark.parametrize(
    "changes, steps",
    [
        ({"max_steps": 5}, 5),
        ({"max_steps": -1, "num_train_epochs": 2}, 10),
        ({"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 8}, 3),
        (
            {
                "max_steps": -1,
                "num_train_epochs": 1,
                "per_device_train_batch_size": 3,
                "gradient_accumulation_steps": 3,
            },
            3,
        ),
        ({"max_steps": -1, "num_train_epochs": 1.5, "gradient_accumulation_steps": 2}, 5),
        ({"max_steps": -1, "num_train_epochs": 0.3}, 2),
        ({"max_steps": 0, "num_train_epochs": 1}, 5),
    ],
)
def test_the_number_of_steps_that_is_foretold_is_the_number_that_is_done(build, changes, steps):
    trainer, examples, _ = build(training=changes)
    trainer.evaluate = lambda *args, **kwargs: {"eval_loss": 1.0}  # only the count matters here
    trainer.train()
    settings = TrainingSettings(**{"per_device_train_batch_size": 4, **changes})
    assert settings.steps(len(examples.train)) == trainer.state.max_steps == trainer.state.global_step == steps


def run_training(config: RunConfig, store, on_event=None):
    run = store.create(config)
    encoding = Encoding(load_tokenizer(Path(config.base_model)))
    examples = prepare(config, encoding)
    if on_event:
        on_event(run)
    return run, train(run, load_model(Path(config.base_model), config.quantization), encoding, examples)


def samples(run) -> list[dict]:
    return [event.data for event in run.events() if event.type == "sample"]


@pytest.mark.true
def test_the_same_seed_gives_the_same_losses_and_another_one_others(config, store):
    losses = []
    for seed in (42, 42, 43):
        training = config.training.model_copy(update={"seed": seed, "max_steps": 3})
        changed = config.model_copy(update={"training": training})
        run, _ = run_training(changed, store)
        losses.append([row["loss"] for row in run.metrics()])
    assert losses[0] == losses[1] != losses[2]


def test_what_is_saved_is_what_was_trained(config, store):
    from safetensors.torch import load_file

    run, trained = run_training(config, store)
    saved = load_file(run.adapter_dir / "adapter_model.safetensors")
    assert all("lora_" in name for name in saved) and any(bool(v.any()) for n, v in saved.items() if "lora_B" in n)
    assert Encoding(load_tokenizer(run.adapter_dir)).prompt([{"role": "user", "content": "x"}])
    assert trained.steps == 6 and not trained.stopped and not trained.model.training
    metrics = run.metrics()
    assert trained.train_loss == [row["loss"] for row in metrics if row["loss"] is not None][-1]
    assert trained.validation_loss == min(
        row["validation_loss"] for row in metrics if row["validation_loss"] is not None
    )


def test_a_stop_keeps_the_adapter_and_says_that_it_was_stopped(config, store):
    run, trained = run_training(config, store, on_event=lambda run: run.stop())
    assert trained.stopped and trained.steps == 1
    assert (run.adapter_dir / "adapter_model.safetensors").is_file() and (run.path / "results.csv").is_file()
    assert samples(run) == []


def test_results_are_a_table_with_a_row_for_each_step(config, store):
    run, _ = run_training(config, store)
    with (run.path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == RESULTS.split(",")
    assert [line["step"] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert [bool(line["valid_loss"]) for line in lines] == [False, False, True] * 2
    assert all(
        0 < float(line["train_loss"]) < 10 and 0 <= float(line["train_mean_token_accuracy"]) <= 1 for line in lines
    )
    by_step = {row["step"]: row["loss"] for row in run.metrics() if row["loss"] is not None}
    assert [float(line["train_loss"]) for line in lines] == pytest.approx(list(by_step.values()), rel=1e-5)


def test_what_is_measured_counts_up_and_the_watch_prompts_are_asked_at_every_check(config, store):
    watched = config.model_copy(update={"watch_prompts": ("A tall tree.", "A red boat.")})
    run, _ = run_training(watched, store)
    rows = run.metrics()
    assert [row["step"] for row in rows if row["loss"] is not None] == [1, 2, 3, 4, 5, 6]
    assert all(row["steps"] == 6 and row["memory"] > 1e6 and row["seconds_left"] >= 0 for row in rows)
    tokens = [row["tokens"] for row in rows]
    assert tokens == sorted(tokens) and tokens[0] > 50
    asked = [(row["step"], row["prompt"]) for row in samples(run)]
    assert asked == [(step, text) for step in (0, 3, 6) for text in ("A tall tree.", "A red boat.")]


def test_without_watch_prompts_the_first_three_validation_rows_are_asked(config):
    encoding = Encoding(load_tokenizer(Path(config.base_model)))
    examples = prepare(config, encoding)
    assert watch_questions(config, examples) == [example.messages[:-1] for example in examples.validation[:3]]


def test_a_run_without_validation_rows_trains_and_saves(config, store):
    alone = config.model_copy(update={"split": config.split.model_copy(update={"validation": 0, "test": 0})})
    run, trained = run_training(alone, store)
    assert trained.steps == 6 and trained.validation_loss is None and run.adapter_dir.is_dir()


@pytest.mark.true
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "qwen3", "mistral", "mixtral"])
def test_other_families_learn_as_well(config, store, tiny_family, family):
    run, _ = run_training(config.model_copy(update={"base_model": str(tiny_family(family))}), store)
    losses = [row["loss"] for row in run.metrics() if row["loss"] is not None]
    assert losses[-1] < losses[0] - 0.1


def test_recomputing_activations_gives_the_same_losses(config, store):
    losses = []
    for recompute in (False, True):
        training = config.training.model_copy(update={"gradient_checkpointing": recompute, "max_steps": 3})
        run, _ = run_training(config.model_copy(update={"training": training}), store)
        losses.append([row["loss"] for row in run.metrics() if row["loss"] is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_other_gpus_beside_the_one_that_a_run_takes_are_left_alone(build, monkeypatch):
    from trl import SFTConfig

    begin = SFTConfig.__post_init__

    def on_four_gpus(arguments) -> None:
        begin(arguments)
        assert arguments.device
        arguments._n_gpu = 4

    monkeypatch.setattr(SFTConfig, "__post_init__", on_four_gpus)
    trainer, _, _ = build()
    assert trainer.args._n_gpu == 1, "trl refuses a model that transformers would replicate"


def test_a_step_that_runs_out_of_memory_twice_keeps_the_gradient_of_the_batch_before_it(build, monkeypatch):
    from trl import SFTTrainer

    trainer, _, _ = build(training={"gradient_accumulation_steps": 2})
    trainer.tell, trainer.current_gradient_accumulation_steps = lambda said: None, 2
    first, second = [
        trainer._prepare_inputs(batch) for _, batch in zip(range(2), trainer.get_train_dataloader(), strict=False)
    ]
    items = sum((batch["labels"] != IGNORED).sum() for batch in (first, second))
    compute, calls = SFTTrainer.compute_loss, []

    def hungry(self, *arguments, **options):
        calls.append(1)
        if lacks(len(calls)):
            raise RuntimeError("CUDA out of memory.")
        return compute(self, *arguments, **options)

    def gradients() -> dict:
        trainer.model.zero_grad()
        trainer.training_step(trainer.model, dict(first), items)
        calls.clear()
        trainer.training_step(trainer.model, dict(second), items)
        return {name: parameter.grad.clone() for name, parameter in trained_parameters(trainer).items()}

    monkeypatch.setattr(SFTTrainer, "compute_loss", hungry)
    disturb_adapter(trainer)
    lacks = lambda call: False  # noqa: E731
    plain = gradients()
    lacks = lambda call: call in (1, 3)  # noqa: E731  whole; then the second half, after the first half was learned
    found = gradients()
    assert all(found[name].allclose(plain[name], atol=2e-3) for name in plain)
