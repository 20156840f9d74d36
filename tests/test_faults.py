"""What a run survives: kills, broken checkpoints, a lack of memory, a full disk, a loss that is not a number."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.loop import carry_out
from ftui.runs import Run, RunStore
from ftui.train import complete_checkpoints
from ftui.train.coach import advice
from ftui.train.reporter import Reporter
from ftui.train.trainer import split_rows

STEPS = 9


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is tidied up."""


@pytest.fixture
def longer(values: dict) -> RunConfig:
    """Nine steps with a checkpoint after every third."""
    values["training"] |= {"max_steps": STEPS, "eval_steps": 3}
    values["evaluation"] |= {"early_stopping_patience": 0}
    return RunConfig.parse(values)


def losses(run: Run) -> dict[int, float]:
    return {data["step"]: data["loss"] for data in run.metrics() if data["loss"] is not None}


def killed_at(run: Run, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Reporter.log

    def dying(self, state, logs):
        log(self, state, logs)
        if state.global_step == step and "loss" in logs:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "log", dying)
        with pytest.raises(Killed):
            carry_out(run, Lease())


@pytest.mark.parametrize("step", [2, 5, 8])
def test_a_killed_run_reads_interrupted_and_resumed_it_ends_like_one_that_was_never_killed(
    longer, store, monkeypatch, step
):
    whole, cut = store.create(longer), store.create(longer)
    assert carry_out(whole, Lease()) == "done"
    killed_at(cut, step, monkeypatch)
    assert cut.state == "interrupted"
    assert carry_out(cut, Lease()) == "done"
    expected, found = losses(whole), losses(cut)
    assert sorted(found) == sorted(expected) == list(range(1, STEPS + 1))
    assert max(abs(found[step] - expected[step]) for step in expected) < 1e-4
    assert (cut.path / "results.csv").read_text().count("\n") == (whole.path / "results.csv").read_text().count("\n")


def test_a_checkpoint_that_was_cut_short_is_passed_over_for_the_one_before_it(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 8, monkeypatch)
    newest, before = complete_checkpoints(run.path / "checkpoints")
    weights = newest / "adapter_model.safetensors"
    for size in (0, 1, weights.stat().st_size // 2, weights.stat().st_size - 1):
        os.truncate(weights, size) if size < weights.stat().st_size else None
        assert complete_checkpoints(run.path / "checkpoints") == [before]
    assert carry_out(run, Lease()) == "done"
    assert [event.data["step"] for event in run.events() if event.type == "resumed"] == [3]


def test_a_checkpoint_without_its_mark_is_not_complete(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 5, monkeypatch)
    (run.path / "checkpoints" / "checkpoint-3" / "complete.json").unlink()
    assert complete_checkpoints(run.path / "checkpoints") == []


def test_a_finished_run_is_not_trained_again(finished_run):
    with pytest.raises(UserError, match="not trained again"):
        carry_out(finished_run, Lease())


def test_what_the_base_answered_is_not_asked_again_after_a_crash(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 2, monkeypatch)
    monkeypatch.setattr("ftui.loop.answer", _only_once(monkeypatch))
    assert carry_out(run, Lease()) == "done"


def _only_once(monkeypatch):
    from ftui import loop

    real, calls = loop.answer, []

    def counted(*arguments):
        calls.append(1)
        assert len(calls) == 1, "the base was asked again"
        return real(*arguments)

    return counted


def test_a_lack_of_memory_halves_the_batch_and_the_run_learns_the_same(longer, store, monkeypatch):
    plain = store.create(longer)
    assert carry_out(plain, Lease()) == "done"
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def hungry(self, model, inputs, *arguments, **options):
        if model.training and len(inputs["cu_seq_lens_q"]) - 1 > 2:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return compute(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "compute_loss", hungry)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    said = [event.message for event in run.events() if "Memory ran out" in event.message]
    assert len(said) == 1
    assert "in 2 parts" in said[0]
    expected, found = losses(plain), losses(run)
    assert max(abs(found[step] - expected[step]) for step in expected) < 2e-2  # bf16 sums in another order


def test_when_no_part_is_small_enough_the_run_says_what_to_do(longer, store, monkeypatch):
    from trl import SFTTrainer

    def starved(self, model, inputs, *arguments, **options):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(SFTTrainer, "compute_loss", starved)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "failed"
    assert "Shorten max_length" in run.events()[-1].message


def test_rows_laid_side_by_side_are_split_between_rows_and_nothing_is_lost():
    import torch

    lengths = [3, 5, 2]
    bounds = torch.tensor([0, 3, 8, 10], dtype=torch.int32)
    batch = {
        "input_ids": torch.arange(10)[None],
        "labels": torch.arange(10)[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": 5,
        "max_length_k": 5,
    }
    parts = split_rows(batch, 3)
    assert [part["input_ids"].tolist() for part in parts] == [[[0, 1, 2]], [[3, 4, 5, 6, 7]], [[8, 9]]]
    assert [part["position_ids"].tolist()[0] for part in parts] == [[0, 1, 2], [0, 1, 2, 3, 4], [0, 1]]
    assert [part["cu_seq_lens_q"].tolist() for part in parts] == [[0, 3], [0, 5], [0, 2]]
    assert [part["max_length_q"] for part in parts] == lengths


def test_a_loss_that_is_not_a_number_ends_the_run_at_the_last_good_checkpoint(longer, store, monkeypatch):
    log = Reporter.log

    def poisoned(self, state, logs):
        log(self, state, logs | {"loss": float("nan")} if state.global_step == 5 and "loss" in logs else logs)

    monkeypatch.setattr(Reporter, "log", poisoned)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "failed"
    assert "not a number at step 5" in run.events()[-1].message
    assert "step 3" in run.events()[-1].message
    assert (run.adapter_dir / "adapter_model.safetensors").is_file()


def test_a_disk_that_is_full_at_a_checkpoint_loses_nothing_before_it(longer, store, monkeypatch):
    from ftui.train import trainer

    mark = trainer.mark_complete

    def full(checkpoint: Path) -> None:
        if checkpoint.name == "checkpoint-6":
            raise OSError(errno.ENOSPC, "No space left on device")
        mark(checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "mark_complete", full)
        run = store.create(longer)
        assert carry_out(run, Lease()) == "failed"
    assert "disk is full" in run.events()[-1].message
    assert carry_out(run, Lease()) == "done"
    assert sorted(losses(run)) == list(range(1, STEPS + 1))


def test_twenty_quick_starts_make_one_run(config, store):
    trainer = BackgroundTrainer(store, Lease())
    refused: list[str] = []

    def press() -> None:
        try:
            trainer.start(config)
        except UserError as error:
            refused.append(str(error))

    presses = [threading.Thread(target=press) for _ in range(20)]
    for thread in presses:
        thread.start()
    for thread in presses:
        thread.join()
    assert len(store.list()) == 1
    assert len(refused) == 19
    assert "still at work" in refused[0]
    assert _ended(store.list()[0]) == "done"


@pytest.mark.true
def test_queued_runs_are_carried_out_in_their_order_and_one_can_be_moved_or_taken_out(config, store):
    trainer = BackgroundTrainer(store, Lease())
    first, second, third, fourth = (trainer.queue(config) for _ in range(4))
    trainer.remove(second)
    trainer.move_up(fourth)
    assert trainer.waiting == [fourth, third]
    assert [_ended(run) for run in (first, fourth, third)] == ["done"] * 3
    assert second not in store.list()
    assert (store.folder / ".trash" / second.run_id / "config.yaml").is_file()
    starts = [
        next(event.time for event in run.events() if event.data.get("state") == "preparing")
        for run in (first, fourth, third)
    ]
    assert starts == sorted(starts)


def test_a_shutdown_saves_the_run_and_it_goes_on_later(longer, store):
    trainer = BackgroundTrainer(store, Lease())
    run = trainer.start(longer)
    while not losses(run):
        time.sleep(0.02)
    trainer.shut_down()
    assert run.state == "interrupted"
    assert complete_checkpoints(run.path / "checkpoints")
    trainer.resume(run)
    assert _ended(run) == "done"
    assert sorted(losses(run)) == list(range(1, STEPS + 1))


def test_runs_that_waited_when_the_app_ended_read_interrupted(config, store):
    run = store.create(config)
    RunStore(store.folder).adopt()
    assert run.state == "interrupted"


def test_a_run_stops_early_when_validation_no_longer_falls(values, store):
    values["training"] |= {"max_steps": 40, "eval_steps": 2, "learning_rate": 0.5}
    values["evaluation"] |= {"early_stopping_patience": 2}
    run = store.create(RunConfig.parse(values))
    carry_out(run, Lease())
    assert max(losses(run)) < 40


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        ([3, 2, 1, 0.5] * 10, [1, 0.5, 0.4], None),
        ([1.0, 0.0, 0.0], [], "is zero"),
        ([2.0] * 40, [], "does not fall"),
        ([1.0], [1, 0.5, 0.6, 0.7, 0.8], "risen three times"),
    ],
)
def test_the_coach_says_what_a_curve_shows_and_nothing_when_all_is_well(train, validation, words):
    said = advice(train, validation)
    assert [words in sentence for sentence in said] == ([True] if words else [])


def _ended(run: Run, seconds: float = 120) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if run.state in ("done", "failed", "stopped", "interrupted") and not run.is_held:
            return run.state
        time.sleep(0.05)
    raise TimeoutError(run.events()[-1].message)


@pytest.mark.true
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_in_mid_run_leaves_a_run_that_resumes_in_the_terminal(values, tmp_path, signal_number):
    values["training"] |= {"max_steps": 400, "eval_steps": 10}
    values["evaluation"] |= {"early_stopping_patience": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "ftui", "train", "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen([*command, str(tmp_path / "config.yaml")], stdout=subprocess.DEVNULL)
    store = RunStore(tmp_path / "runs")
    until = time.monotonic() + 120
    while time.monotonic() < until and not (store.list() and max(losses(store.list()[0]), default=0) > 25):
        time.sleep(0.1)
    process.send_signal(signal_number)
    assert process.wait(timeout=30) in (1, -signal.SIGKILL)
    run = store.list()[0]
    assert run.state == "interrupted"
    reached = max(losses(run))
    resumed = subprocess.run([*command, "--resume", run.run_id], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0 and "Traceback" not in resumed.stderr, resumed.stderr
    assert run.state == "done"
    assert sorted(losses(run)) == list(range(1, 401))
    assert reached - next(event.data["step"] for event in run.events() if event.type == "resumed") <= 10
