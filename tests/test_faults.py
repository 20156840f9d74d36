"""What a run survives: kills, broken checkpoints, a lack of memory, a full disk, a loss that is not a number."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import yaml

from ftui.__main__ import main
from ftui.background import BackgroundTrainer
from ftui.backup import Backup
from ftui.chat import ChatModel, ChatSettings, Speaker
from ftui.config import RunConfig
from ftui.device import Lease, memory_used, release_memory
from ftui.errors import UserError
from ftui.loop import carry_out
from ftui.runs import WORKING, Run, RunStore
from ftui.train import complete_checkpoints
from ftui.train.checkpoints import step_of
from ftui.train.coach import advice, overfitting
from ftui.train.reporter import Reporter
from ftui.train.room import SHORTEST, Room, shorten_rows, split_rows
from ftui.ui.train_tab.now import shown_run
from tests import tiny
from tests.sittings import Nursery, Sitting

STEPS = 9


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is tidied up."""


@pytest.fixture
def longer(values: dict) -> RunConfig:
    """Nine steps with a checkpoint after every third."""
    values["training"] |= {"max_steps": STEPS, "eval_steps": 3}
    values["evaluation"] |= {"early_stopping_patience": 0}
    return RunConfig.parse(values)


def losses(run: Run, key: str = "loss") -> dict[int, float]:
    return {data["step"]: data[key] for data in run.metrics() if data.get(key) is not None}


def killed_at(run: Run, step: int, monkeypatch: pytest.MonkeyPatch, backup: Backup | None = None) -> None:
    log = Reporter.log

    def dying(self, state, logs):
        log(self, state, logs)
        if state.global_step == step and "loss" in logs:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "log", dying)
        with pytest.raises(Killed):
            carry_out(run, Lease(), backup=backup)


@pytest.mark.true
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


@pytest.mark.true
def test_a_checkpoint_that_was_cut_short_is_passed_over_for_the_one_before_it(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 8, monkeypatch)
    newest, before = complete_checkpoints(run.checkpoints_dir)
    files = {path: path.read_bytes() for path in newest.iterdir()}
    for path, content in files.items():
        for share in (0, 0.01, 0.25, 0.5, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            assert complete_checkpoints(run.checkpoints_dir) == [before], path.name
        path.write_bytes(content)
    assert complete_checkpoints(run.checkpoints_dir) == [newest, before]
    os.truncate(newest / "adapter_model.safetensors", 1000)
    assert carry_out(run, Lease()) == "done"
    assert [event.data["step"] for event in run.events() if event.type == "resumed"] == [3]


def test_a_checkpoint_without_its_mark_is_not_complete(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 5, monkeypatch)
    (run.checkpoints_dir / "checkpoint-3" / "complete.json").unlink()
    assert complete_checkpoints(run.checkpoints_dir) == []


def test_a_finished_run_is_not_trained_again(finished_run):
    with pytest.raises(UserError, match="not trained again"):
        carry_out(finished_run, Lease())


@pytest.mark.true
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


CPU_IS_FULL = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def starve(
    monkeypatch: pytest.MonkeyPatch, lacks: Callable[[bool, dict], bool], said: str = "CUDA out of memory."
) -> None:
    """Memory runs out in each forward pass of which `lacks(training, batch)` says so."""
    from trl import SFTTrainer

    compute = SFTTrainer.compute_loss

    def hungry(self, model, inputs, *arguments, **options):
        if lacks(model.training, inputs):
            raise RuntimeError(said)
        return compute(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(SFTTrainer, "compute_loss", hungry)


@pytest.mark.true
def test_a_lack_of_memory_halves_the_batch_and_the_run_learns_the_same(longer, store, monkeypatch):
    plain = store.create(longer)
    assert carry_out(plain, Lease()) == "done"
    starve(monkeypatch, lambda training, batch: training and len(batch["cu_seq_lens_q"]) - 1 > 2, CPU_IS_FULL)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    said = [event.message for event in run.events() if "Memory ran out" in event.message]
    assert len(said) == 1
    assert "in 2 parts" in said[0]
    expected, found = losses(plain), losses(run)
    assert max(abs(found[step] - expected[step]) for step in expected) < 2e-2  # bf16 sums in another order


@pytest.mark.true
def test_when_no_part_is_small_enough_the_run_says_what_to_do(longer, store, monkeypatch):
    from trl import SFTTrainer

    def starved(self, model, inputs, *arguments, **options):
        raise RuntimeError("CUDA out of memory.")

    monkeypatch.setattr(SFTTrainer, "compute_loss", starved)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "failed"
    assert "Shorten max_length" in run.events()[-1].message


@pytest.mark.true
def test_rows_are_cut_for_lack_of_memory_only_where_the_config_allows_it(longer, store, monkeypatch):
    starve(monkeypatch, lambda training, batch: training and batch["input_ids"].numel() > SHORTEST)
    words = "Look at the tall tree and the red boat that goes down the wide river to the old town. " * 3
    template = longer.template.model_copy(update={"completion": f"{longer.template.completion} {words}"})
    training = longer.training.model_copy(update={"max_length": 256})
    held = longer.model_copy(update={"template": template, "training": training})
    run = store.create(held)
    assert carry_out(run, Lease()) == "failed"
    assert "Shorten max_length" in run.events()[-1].message
    allowed = store.create(held.model_copy(update={"shorten_rows": True}))
    assert carry_out(allowed, Lease()) == "done", allowed.events()[-1].message
    assert any(f"rows are cut to {SHORTEST} tokens" in event.message for event in allowed.events())
    assert all(loss > 0 for loss in losses(allowed).values())
    plain = store.create(held.model_copy(update={"shorten_rows": True}))
    monkeypatch.undo()
    assert carry_out(plain, Lease()) == "done"
    assert losses(allowed)[1] == pytest.approx(losses(plain)[1], rel=0.2), "nats a token, of those that are left"


@pytest.mark.true
def test_a_lack_of_memory_at_a_check_changes_nothing_of_the_validation_loss(longer, store, monkeypatch):
    plain = store.create(longer)
    assert carry_out(plain, Lease()) == "done"
    starve(monkeypatch, lambda training, batch: not training and len(batch["cu_seq_lens_q"]) - 1 > 1)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    assert any("at the check after step" in event.message for event in run.events())
    expected, found = losses(plain, "validation_loss"), losses(run, "validation_loss")
    assert expected
    assert max(abs(found[step] - expected[step]) for step in expected) < 2e-2  # bf16 sums in another order


def test_rows_are_cut_each_for_itself_side_by_side():
    import torch

    bounds = torch.tensor([0, 3, 8, 10], dtype=torch.int32)
    batch = {
        "input_ids": torch.arange(10)[None],
        "labels": torch.arange(10)[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": 5,
        "max_length_k": 5,
    }
    cut = shorten_rows(batch, 3)
    assert cut["input_ids"].tolist() == cut["labels"].tolist() == [[0, 1, 2, 3, 4, 5, 8, 9]]
    assert cut["cu_seq_lens_q"].tolist() == cut["cu_seq_lens_k"].tolist() == [0, 3, 6, 8]
    assert cut["max_length_q"] == cut["max_length_k"] == 3


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


def test_an_adapter_that_is_not_a_number_is_no_checkpoint_although_no_loss_was_looked_at(values, store, monkeypatch):
    import torch

    from ftui.train.trainer import Trainer

    values["training"] |= {"max_steps": 8, "eval_steps": 2, "logging_steps": 10}
    values["split"] |= {"validation": 0}
    learn = Trainer.training_step

    def poisoned(self, model, inputs, *arguments):
        if self.state.global_step == 4:
            next(p for p in model.parameters() if p.requires_grad).data.fill_(torch.nan)
        return learn(self, model, inputs, *arguments)

    monkeypatch.setattr(Trainer, "training_step", poisoned)
    run = store.create(RunConfig.parse(values))
    assert carry_out(run, Lease()) == "failed"
    assert "not a number at step 6" in run.events()[-1].message and "step 4" in run.events()[-1].message
    assert [step_of(path) for path in complete_checkpoints(run.path / "checkpoints")] == [4, 2]


@pytest.mark.true
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
    assert (store.trash_dir / second.run_id / "config.yaml").is_file()
    starts = [
        next(event.time for event in run.events() if event.data.get("state") == "preparing")
        for run in (first, fourth, third)
    ]
    assert starts == sorted(starts)


@pytest.fixture
def waits_once(monkeypatch) -> None:
    """A run that has learned its first step waits there until somebody wishes that it stops."""
    log, waited = Reporter.log, []

    def waiting(self, state, logs):
        log(self, state, logs)
        if "loss" in logs and not waited:
            waited.append(state.global_step)
            _until(lambda: self.run.stop_wanted)

    monkeypatch.setattr(Reporter, "log", waiting)


@pytest.mark.true
def test_a_shutdown_saves_the_run_and_it_goes_on_later(longer, store, waits_once):
    trainer = BackgroundTrainer(store, Lease())
    run = trainer.start(longer)
    while not losses(run):
        time.sleep(0.02)
    trainer.shut_down()
    assert run.state == "interrupted"
    assert complete_checkpoints(run.checkpoints_dir)
    trainer.resume(run)
    assert _ended(run) == "done"
    assert sorted(losses(run)) == list(range(1, STEPS + 1))


@pytest.mark.true
@pytest.mark.parametrize("within, passes, kept", [("a check", 1, 3), ("a step", 18, 4)])
def test_a_shutdown_in_the_middle_of_a_check_or_a_step_saves_what_was_learned_before_it(
    values, store, monkeypatch, within, passes, kept
):
    """Four rows a step and four to check go through one by one: the 18th pass of all is the second of step 5."""
    from trl import SFTTrainer

    values["training"] |= {"max_steps": STEPS, "eval_steps": 3, "per_device_train_batch_size": 1}
    values["training"] |= {"gradient_accumulation_steps": 4}
    longer = RunConfig.parse(values | {"lora": {"r": 8, "lora_dropout": 0.1}})
    monkeypatch.setattr("ftui.train.build.Room", lambda tokens, may_shorten: Room(1, may_shorten))
    whole, run = store.create(longer), store.create(longer)
    assert carry_out(whole, Lease()) == "done"
    compute, gone = SFTTrainer.compute_loss, []

    def stopped_midway(self, model, *arguments, **options):
        if model.training == (within == "a step"):
            gone.append(1)
        if len(gone) == passes:
            run.stop("shutdown")
        return compute(self, model, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "compute_loss", stopped_midway)
        assert carry_out(run, Lease()) == "interrupted", run.events()[-1].message
    assert len(gone) == passes, "nothing more was computed"
    assert step_of(complete_checkpoints(run.path / "checkpoints")[0]) == max(losses(run)) == kept
    assert carry_out(run, Lease()) == "done"
    for key in ("loss", "validation_loss"):  # a check that was left out is made before the run goes on
        expected, found = losses(whole, key), losses(run, key)
        assert sorted(found) == sorted(expected)
        assert max(abs(found[step] - expected[step]) for step in expected) < 1e-4


def test_a_shutdown_does_not_begin_with_the_run_that_waits(longer, store, waits_once):
    trainer = BackgroundTrainer(store, Lease())
    run, waiting = trainer.start(longer), trainer.queue(longer)
    while not losses(run):
        time.sleep(0.02)
    trainer.shut_down()
    assert (run.state, waiting.state) == ("interrupted", "queued")
    assert len(waiting.events()) == 1, "nothing was done for it"
    assert BackgroundTrainer(store, Lease()).store.left_waiting() == [waiting], "and it is there after a restart"


QUEUE = """
import sys, time
from pathlib import Path
from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.runs import RunStore
trainer = BackgroundTrainer(RunStore(Path(sys.argv[1])), Lease())
first, *_, last = [trainer.queue(RunConfig.load(sys.argv[2])) for _ in range(3)]
trainer.move_up(last)
while first.state == "queued":
    time.sleep(0.01)
print(first.state, flush=True)
time.sleep(60)
"""


def queue_after_a_kill(values: dict, folder: Path) -> tuple[BackgroundTrainer, list[Run]]:
    """An app started anew on the runs of one that was killed with a run at work and two waiting, the last one moved up."""
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-c", QUEUE, str(folder / "runs"), str(folder / "config.yaml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() in WORKING
    process.kill()
    process.wait()
    store = RunStore(folder / "runs")
    trainer = BackgroundTrainer(store, Lease())
    trainer.take_back()
    return trainer, store.list()[::-1]


def test_after_a_kill_the_queue_is_back_in_its_order_and_rests_beside_the_run_that_was_at_work(values, tmp_path):
    trainer, (first, second, third) = queue_after_a_kill(values, tmp_path)
    assert [run.state for run in (first, second, third)] == ["interrupted", "queued", "queued"]
    assert trainer.waiting == [third, second] and trainer.rests
    assert trainer.at_work is None and shown_run(trainer) == first
    trainer.remove(second)
    assert trainer.waiting == [third] and third.events()[-1].message == "Waiting to start."


@pytest.mark.true
def test_a_queue_that_came_back_begins_after_the_interrupted_run_or_when_somebody_starts_it(values, tmp_path):
    trainer, (first, second, third) = queue_after_a_kill(values, tmp_path)
    trainer.resume(first)
    assert not trainer.rests
    assert [_ended(run) for run in (first, third, second)] == ["done"] * 3
    waits = trainer.store.create(first.config)
    trainer.take_back()
    assert waits.state == "queued" and trainer.rests
    taken = trainer.store.create(first.config)
    trainer.take_back()
    assert carry_out(taken, Lease()) == "done"  # as a terminal does
    trainer.go_on()
    assert _ended(waits) == "done"
    assert taken.state == "done" and not trainer.waiting


@pytest.mark.true
def test_a_run_that_waits_is_resumed_out_of_the_queue_and_carried_out_once(config, store):
    trainer = BackgroundTrainer(store, Lease())
    run = store.create(config)
    trainer.take_back()
    assert trainer.waiting == [run]
    trainer.resume(run)
    assert trainer.waiting == [] and _ended(run) == "done"
    assert [event.data.get("state") for event in run.events()].count("training") == 1


def test_a_run_is_not_begun_beside_one_of_another_process_but_waits_until_somebody_starts_the_queue(config, store):
    elsewhere, trainer = RunStore(store.folder).create(config), BackgroundTrainer(store, Lease())
    with elsewhere.held():
        elsewhere.log("state", "Learning.", state="training")
        run = trainer.queue(config)
        assert trainer.waiting == [run] and trainer.rests and trainer.at_work.run_id == elsewhere.run_id
        with pytest.raises(UserError, match="another process"):
            trainer.go_on()
    assert run.state == "queued"


def test_a_waiting_run_that_comes_back_from_the_trash_waits_again_and_bars_no_other(config, store):
    trainer = BackgroundTrainer(store, Lease())
    run = store.create(config)
    store.trash(run)
    trainer.restore(store.trashed()[0])
    assert [each.run_id for each in trainer.waiting] == [run.run_id] and trainer.at_work is None
    other = store.create(config)
    assert trainer.at_work is None, "nobody holds it"
    (other.path / "events.jsonl").unlink()
    assert store.left_waiting() == trainer.waiting, "what lost its events was not put into a queue"


def test_a_run_that_another_process_works_on_is_not_resumed_and_keeps_its_state_and_its_stop(config, store):
    run, trainer = store.create(config), BackgroundTrainer(store, Lease())
    run.end("stopped", "Stopped.")
    with Run(run.path).held():
        run.stop()
        with pytest.raises(UserError, match="another process"):
            trainer.resume(run)
        assert run.stop_wanted
    assert run.state == "stopped"


def test_a_comparison_that_cannot_even_be_written_down_leaves_the_trainer_free(run_to_change, monkeypatch, capsys):
    def read_only(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    store = RunStore(run_to_change.path.parent)
    trainer, run = BackgroundTrainer(store, Lease()), store.list()[0]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", read_only)
        patch.setattr(Run, "held", read_only)
        trainer.evaluate(run)
        _when_free(lambda: trainer.queue(run.config) if trainer.at_work else run)
        trainer._thread.join(10)
    assert "its folder cannot say why: The system says “Read-only file system”" in capsys.readouterr().out
    assert trainer._run is None


def test_a_run_that_waits_for_a_reply_hears_a_stop(config, store):
    lease, run = Lease(), store.create(config)
    with lease.held_by("the chat", is_run=False):
        working = threading.Thread(target=carry_out, args=(run, lease))
        working.start()
        while not run.is_held:
            time.sleep(0.01)
        run.stop()
        working.join(10)
        assert not working.is_alive()
    assert run.state == "stopped"


def test_a_run_that_is_stopped_before_it_goes_on_says_which_checkpoint_is_kept(longer, store, monkeypatch):
    run = store.create(longer)
    killed_at(run, 5, monkeypatch)
    real = Run.log

    def stopped_at_once(self, type, message="", level="info", **data):
        real(self, type, message, level, **data)
        if data.get("state") == "preparing":
            self.stop()

    monkeypatch.setattr(Run, "log", stopped_at_once)
    assert carry_out(run, Lease()) == "stopped"
    assert "The checkpoint of step 3 is kept" in run.events()[-1].message


@pytest.mark.true
def test_a_run_stops_early_when_validation_no_longer_falls(values, store):
    values["training"] |= {"max_steps": 40, "eval_steps": 2, "learning_rate": 0.5}
    values["evaluation"] |= {"early_stopping_patience": 2}
    run = store.create(RunConfig.parse(values))
    carry_out(run, Lease())
    assert max(losses(run)) < 40


@pytest.mark.true
def test_a_run_that_moved_to_another_machine_after_its_last_step_keeps_its_best_adapter(
    values, store, tmp_path, monkeypatch
):
    from safetensors.torch import load_file

    from ftui.train.trainer import Trainer

    values["training"] |= {"max_steps": 6, "eval_steps": 2}
    run = store.create(RunConfig.parse(values))
    log = Reporter.log

    def overfitting(self, state, logs):
        if "eval_loss" in logs:
            logs["eval_loss"] = float(state.global_step)
        log(self, state, logs)

    monkeypatch.setattr(Reporter, "log", overfitting)
    monkeypatch.setattr(Trainer, "_determine_best_metric", _by_step(Trainer._determine_best_metric))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finalize_training", _dying)
        with pytest.raises(Killed):
            carry_out(run, Lease())
    moved = Run(Path(shutil.move(run.path, tmp_path / "elsewhere")))
    assert carry_out(moved, Lease()) == "done", moved.events()[-1].message
    best = load_file(moved.path / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")
    kept = load_file(moved.adapter_dir / "adapter_model.safetensors")
    assert all(kept[name].equal(best[name]) for name in best)


def _by_step(determine: Callable) -> Callable:
    """The first check is the best one."""

    def by_step(self, metrics, trial):
        return determine(self, metrics | {"eval_loss": float(self.state.global_step)}, trial)

    return by_step


@pytest.mark.true
def test_early_stopping_may_be_switched_on_between_two_sittings(values, store, monkeypatch):
    values["training"] |= {"max_steps": 6, "eval_steps": 2}
    without = RunConfig.parse(values | {"evaluation": {"early_stopping_patience": 0, "limit": 0}})
    run = store.create(without)
    killed_at(run, 3, monkeypatch)
    run.write("config.yaml", RunConfig.parse(values | {"evaluation": {"limit": 0}}).to_yaml())
    assert carry_out(Run(run.path), Lease()) == "done", run.events()[-1].message


@pytest.mark.true
@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_a_run_that_stops_early_does_so_after_the_same_step_whenever_it_was_killed(values, store, monkeypatch, earlier):
    values["training"] |= {"max_steps": 40, "eval_steps": 2, "learning_rate": 0.5}
    values["evaluation"] |= {"early_stopping_patience": 2}
    whole, cut = (store.create(RunConfig.parse(values)) for _ in range(2))
    carry_out(whole, Lease())
    with monkeypatch.context() as patch:
        patch.setattr("ftui.loop.merge_and_prove", _dying)  # after all of its steps
        if earlier:
            killed_at(cut, max(losses(whole)) - earlier + 1, monkeypatch)
        else:
            with pytest.raises(Killed):
                carry_out(cut, Lease())
    assert carry_out(cut, Lease()) == "done"
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-4)


def _dying(*arguments) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [
        ([3, 2, 1, 0.5] * 10, [1, 0.5, 0.4], None),
        ([1.0, 0.0, 0.0], [], "is zero"),
        ([2.0] * 40, [], "does not fall"),
        ([1.0], [1, 0.5, 0.6, 0.7, 0.8], "has not come back"),
        ([1.0], [1, 0.5, 0.7, 0.6, 0.65], "has not come back"),
        ([1.0], [1, 0.5, 0.6, 0.49, 0.5], None),
    ],
)
def test_the_coach_says_what_a_curve_shows_and_nothing_when_all_is_well(train, validation, words):
    said = advice(train, validation)
    assert [words in sentence for sentence in said] == ([True] if words else [])


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.2, 0.8, 0.9], "lowest at step 2 (0.800) and rose to 0.900 by step 3"),
        ([1.2, 0.8, 0.805], None),
        ([1.2, 0.8], None),
        ([], None),
    ],
)
def test_overfitting_is_said_at_the_end_when_validation_rose_from_its_best(losses, said):
    sentence = overfitting(list(enumerate(losses, 1)))
    assert (sentence is None) if said is None else said in sentence


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
    values["training"] |= {"max_steps": 160, "eval_steps": 10}
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
    assert sorted(losses(run)) == list(range(1, 161))
    assert reached - next(event.data["step"] for event in run.events() if event.type == "resumed") <= 10


# a stop in every state


@pytest.mark.true
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("queued", "nothing was learned"),
        ("preparing", "nothing was learned"),
        ("training", "after 1 steps. What was learned is kept"),
        ("evaluating", "What was learned is kept"),
        ("merging", "What was learned is kept"),
    ],
)
def test_a_stop_is_heard_in_every_state_and_the_run_goes_on_later(config, store, monkeypatch, state, words):
    run, stage = store.create(config), Run.stage

    @contextmanager
    def stopped_there(self, name, message, **data):
        with stage(self, name, message, **data):
            if name == state:
                self.stop()
            yield

    if state == "queued":
        run.stop()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "stage", stopped_there)
        assert carry_out(run, Lease()) == "stopped"
    assert words in run.events()[-1].message
    assert not run.merged_dir.exists()
    assert run.adapter_dir.is_dir() is (state not in ("queued", "preparing"))
    assert carry_out(run, Lease()) == "done"
    assert sorted(losses(run)) == list(range(1, 7))


# disks


def _no_space(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def _no_space_in_rust(*arguments, **options):
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.true
@pytest.mark.parametrize(
    ("where", "full", "kept"),
    [
        ("ftui.loop.prepare", _no_space, False),
        ("peft.peft_model.PeftModel.save_pretrained", _no_space_in_rust, False),
        ("ftui.proof.merge_into", _no_space_in_rust, True),
        ("ftui.loop.model_card", _no_space, True),
    ],
)
def test_a_disk_that_is_full_is_told_and_the_run_goes_on_when_there_is_room(
    config, store, monkeypatch, where, full, kept
):
    run = store.create(config)
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        assert carry_out(run, Lease()) == "failed"
    assert "The disk is full. What was saved before is kept" in run.events()[-1].message
    assert run.adapter_dir.is_dir() is kept
    assert not [path for path in run.path.iterdir() if path.name.startswith((".adapter", ".merged"))]
    assert carry_out(run, Lease()) == "done"


SMALL_DISK = """
set -e
mount -t tmpfs -o size=$1 none "$2"
cp "$3" "$2/config.yaml"
set +e
"$4" -m ftui train "$2/config.yaml" --runs "$2/runs"; echo "status $?"
grep -c '"state": "failed"' "$2"/runs/*/events.jsonl
mount -o remount,size=100m "$2"
"$4" -m ftui train --resume last --runs "$2/runs"; echo "status $?"
"""


@pytest.mark.true
def test_on_a_small_disk_of_its_own_a_run_says_that_it_is_full_and_goes_on_with_more_room(values, tmp_path):
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("no file system of our own can be mounted here")
    values["training"] |= {"max_steps": 4, "eval_steps": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "disk").mkdir()
    places = ["700k", str(tmp_path / "disk"), str(tmp_path / "config.yaml"), sys.executable]
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", SMALL_DISK, "bash", *places], capture_output=True, text=True, timeout=300
    )
    _, _, rest = done.stdout.partition("status 2")
    assert "disk is full" in done.stderr and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert rest.split()[0] == "1" and rest.endswith("status 0\n"), done.stdout[-2000:]


@pytest.mark.true
def test_a_folder_that_can_no_longer_be_written_to_does_not_hold_the_next_run_up(config, store, monkeypatch, capsys):
    log, broken = Run.log, store.create(config)

    def refusing(self, type, *arguments, **data):
        if self.path == broken.path and (data.get("step") == 4 or run_is_broken):
            run_is_broken.append(1)
            raise OSError(errno.EROFS, "Read-only file system")
        log(self, type, *arguments, **data)

    run_is_broken: list[int] = []
    trainer = BackgroundTrainer(store, Lease())
    broken.end("interrupted", "For the test.")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", refusing)
        trainer.resume(broken)
        assert _ended(broken) == "interrupted"
        with pytest.raises(UserError, match="cannot be written to: Read-only file system"):
            _when_free(lambda: trainer.resume(broken))
    assert "its folder cannot say why: The system says “Read-only file system”" in capsys.readouterr().out
    assert _ended(_when_free(lambda: trainer.resume(broken))) == "done"


def _when_free(begin: Callable[[], Run], seconds: float = 20) -> Run:
    """A run's thread needs a moment after its last event."""
    until = time.monotonic() + seconds
    while True:
        try:
            return begin()
        except UserError as error:
            if "still at work" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


# what must not end a run, or the app, silently


@pytest.mark.true
@pytest.mark.parametrize(
    "error", [ValueError("a callback's own"), pytest.param(SystemExit("a library gave up"), marks=pytest.mark.true)]
)
def test_whatever_a_callback_raises_is_written_down_and_the_app_takes_the_next_run(config, store, monkeypatch, error):
    def raising(self, state, logs):
        raise error

    trainer = BackgroundTrainer(store, Lease())
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "log", raising)
        run = trainer.start(config)
        assert _ended(run) == "failed"
    last = run.events()[-1]
    assert type(error).__name__ in last.message and "Traceback" in last.data["trace"]
    assert _ended(_when_free(lambda: trainer.resume(run))) == "done"


@pytest.mark.true
def test_a_poisoned_gpu_fails_the_run_in_words_and_takes_no_more_work(config, store, monkeypatch, finished_run):
    from torch import AcceleratorError
    from trl import SFTTrainer

    def asserting(self, *arguments, **options):
        raise AcceleratorError("CUDA error: device-side assert triggered")

    lease = Lease()
    trainer, chat = BackgroundTrainer(store, lease), ChatModel(lease)
    with monkeypatch.context() as patch:
        patch.setattr(SFTTrainer, "compute_loss", asserting)
        run, waiting = trainer.start(config), trainer.queue(config)
        assert _ended(run) == "failed"
    assert "restart ftui" in run.events()[-1].message
    assert "device-side assert" in run.events()[-1].data["trace"]
    for refused in (
        lambda: trainer.start(config),
        lambda: trainer.resume(run),
        lambda: next(
            chat.stream(Speaker(finished_run, "merged"), [{"role": "user", "content": "?"}], ChatSettings(), Event())
        ),
    ):
        with pytest.raises(UserError, match="restart ftui"):
            _when_free(refused)
    assert waiting.state == "queued" and len(waiting.events()) == 1, "it waits for the new process"
    assert len(store.list()) == 2
    after = BackgroundTrainer(store, Lease())
    after.take_back()
    assert _ended(after.resume(run)) == _ended(waiting) == "done", "a new process can go on"


@pytest.mark.parametrize("where", ["ftui.chat.load_for_chat", "transformers.GenerationMixin.generate"])
def test_a_chat_that_runs_out_of_memory_gives_it_back_and_answers_the_next_time(finished_run, monkeypatch, where):
    def hungry(*arguments, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    lease = Lease()
    chat, asked = ChatModel(lease), [{"role": "user", "content": "What do you see? A red lamp."}]
    settings = ChatSettings(max_new_tokens=4)
    with monkeypatch.context() as patch:
        patch.setattr(where, hungry)
        with pytest.raises(UserError, match="Memory ran out while answering"):
            list(chat.stream(Speaker(finished_run, "merged"), asked, settings, Event()))
    assert chat._loaded is None and lease.holder is None
    assert list(chat.stream(Speaker(finished_run, "merged"), asked, settings, Event()))


@pytest.mark.true
def test_the_memory_of_an_idle_chat_is_measured_as_given_back_when_a_run_begins(store, tmp_path, tiny_model):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    large = Path(shutil.copytree(tiny_model, tmp_path / "large"))
    config = AutoConfig.from_pretrained(tiny_model, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(large)
    weights = (large / "model.safetensors").stat().st_size
    run = store.create(RunConfig.parse(tiny.values(large, tmp_path)))
    lease = Lease()
    chat, asked = ChatModel(lease), [{"role": "user", "content": "What do you see?"}]
    release_memory()
    before = memory_used()
    list(chat.stream(Speaker(run, "base"), asked, ChatSettings(max_new_tokens=2), Event()))
    loaded = memory_used()
    with lease.held_by("a run"):
        after = memory_used()
    assert loaded - before > 0.8 * weights
    assert after - before < 0.2 * weights


# clocks and broken files


@pytest.mark.true
def test_a_clock_that_is_set_back_costs_no_checkpoint_and_no_second(longer, store, monkeypatch):
    clock, day = time.time, 86_400.0
    began = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: clock() - day * (time.monotonic() - began))  # back by a day each second
    from ftui.train import trainer

    mark = trainer.mark_complete

    def from_the_future(checkpoint: Path) -> None:
        mark(checkpoint)
        os.utime(checkpoint, (clock() + day, clock() + day - step_of(checkpoint)))

    monkeypatch.setattr(trainer, "mark_complete", from_the_future)
    run = store.create(longer)
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    assert [step_of(path) for path in complete_checkpoints(run.checkpoints_dir)][:2] == [9, 6]
    seconds = [data["seconds"] for data in run.metrics()]
    assert seconds == sorted(seconds) and min(data["seconds_left"] for data in run.metrics()) >= 0


def test_runs_keep_their_order_when_the_clock_is_set_back(config, tmp_path):
    times = iter([datetime(2026, 10, 25, 2, 59, 59), datetime(2026, 10, 25, 2, 0, 1), datetime(2020, 1, 1)])
    store = RunStore(tmp_path / "runs", now=lambda: next(times))
    made = [store.create(config) for _ in range(3)]
    assert store.list() == made[::-1] and store.find("last") is made[-1]
    assert [run.run_id[:15] for run in made] == ["20261025-025959", "20261025-030000", "20261025-030001"]


@pytest.mark.parametrize(
    "line",
    [
        b"\x00" * 4096,
        b"[" * 100_000,
        b'{"time": 1, "level": 2, "type": "message", "message": 3, "data": {}}',
        b'{"time": "", "level": "info", "type": "state", "message": "", "data": {"state": "flying"}}',
        b'{"time": "", "level": "info", "type": "metrics", "message": "", "data": {}}',
        b'{"time": "", "level": "info", "type": "sample", "message": "", "data": {}}',
        b'{"time": "", "level": "info", "type": "resumed", "message": "", "data": {}}',
    ],
    ids=lambda line: str(line[:20]),
)
def test_a_broken_line_of_events_is_passed_over_and_the_page_is_drawn_as_before(run_to_change, line):
    from ftui.ui.language import Voice
    from ftui.ui.run_html import log_html, losses_html, status_html, watched_html

    def drawn() -> list[str]:
        run = Run(run_to_change.path)
        events, voice = run.events(), Voice(None)
        return [
            status_html(run, run.state, events, voice),
            watched_html(events, voice),
            log_html(events, voice),
            losses_html(run, voice),
        ]

    before, path = drawn(), run_to_change.path / "events.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(b"\n".join([first, line, rest]) + line)
    assert drawn() == before


def test_a_file_of_events_that_somebody_replaced_is_read_anew(run_to_change):
    run = Run(run_to_change.path)
    assert run.state == "done"
    first = (run.path / "events.jsonl").read_bytes().splitlines(keepends=True)[0]
    (run.path / "events.jsonl").write_bytes(first)
    assert [event.message for event in run.events()] == ["Waiting to start."]
    run.log("message", "after")
    assert run.events()[-1].message == "after" and run.state == "queued"


def test_resuming_a_run_that_another_works_on_is_refused_and_a_wish_to_stop_it_stays(config, store, capsys):
    run = store.create(config)
    with Run(run.path).held():
        run.stop()
        assert main(["train", "--runs", str(store.folder), "--resume", run.run_id]) == 2
        assert run.stop_wanted
    assert "is being worked on by another process" in capsys.readouterr().err


def test_a_run_that_another_finishes_while_one_waits_for_it_is_not_trained_again(run_to_change, monkeypatch):
    state, ended = "merging", run_to_change.written_state
    monkeypatch.setattr(Run, "written_state", property(lambda run: ended if run._lock.is_locked else state))
    with pytest.raises(UserError, match="not trained again"):
        carry_out(run_to_change, Lease())


# processes that are killed for real


@pytest.fixture(scope="module")
def nursery(tmp_path_factory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("sittings")) as opened:
        yield opened


@pytest.fixture
def terminal(nursery, values, tmp_path):
    """`begin(**training)` starts a run in a process of its own; `go_on(run)` resumes one."""
    runs = tmp_path / "runs"
    values["evaluation"] |= {"early_stopping_patience": 0}
    values["watch_prompts"] = ["What do you see? A red lamp."]

    def begin(**training: int) -> Sitting:
        values["training"] |= training
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
        return nursery.start("train", "--runs", str(runs), str(tmp_path / "config.yaml"))

    def go_on(run: Run) -> Sitting:
        return nursery.start("train", "--runs", str(runs), "--resume", run.run_id)

    return SimpleNamespace(begin=begin, go_on=go_on, store=RunStore(runs))


def _until(true: Callable[[], object], sitting: Sitting | None = None, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, sitting and sitting.said[-2000:]
        time.sleep(0.002)


def _begun(terminal, **training: int) -> tuple[Run, Sitting]:
    known = set(terminal.store.list())
    sitting = terminal.begin(**training)
    _until(lambda: set(terminal.store.list()) - known, sitting)
    return (set(terminal.store.list()) - known).pop(), sitting


def _reached(run: Run) -> int:
    return max(losses(run), default=0)


@pytest.mark.true
def test_killed_at_ten_random_steps_and_five_times_in_a_save_a_run_learns_what_it_would_have_learned(terminal):
    every, chance = 6, random.Random(7)
    whole, sitting = _begun(terminal, max_steps=180, eval_steps=every)
    assert sitting.wait() == 0, sitting.said
    run, sitting = _begun(terminal)
    folder = run.checkpoints_dir
    kills, saves = 0, 0
    while kills < 10 or saves < 5:
        before = {path.name for path in folder.glob("*")}
        if kills < 10:
            aim = _reached(run) + chance.randint(1, every)
            _until(lambda aim=aim: _reached(run) >= aim, sitting)
            kills += 1
        else:
            _until(lambda before=before: {path.name for path in folder.glob("checkpoint-*")} - before, sitting)
            time.sleep(chance.random() * 0.02)
        sitting.kill(signal.SIGKILL)
        assert sitting.wait() == -signal.SIGKILL, sitting.said
        assert run.state == "interrupted"
        complete = complete_checkpoints(folder)
        saves += {path.name for path in folder.glob("*")} != {path.name for path in complete}
        safe = max(map(step_of, complete), default=0)
        assert _reached(run) - safe <= every, "a complete checkpoint was lost"
        sitting = terminal.go_on(run)
        _until(lambda safe=safe: not safe or _resumed(run)[-1:] == [safe], sitting)
    assert sitting.wait() == 0, sitting.said
    assert run.state == "done"
    expected, found = losses(whole), losses(run)
    assert sorted(found) == sorted(expected) == list(range(1, 181))
    assert max(abs(found[step] - expected[step]) for step in expected) < 1e-4
    assert (run.path / "results.csv").read_text() == (whole.path / "results.csv").read_text()
    assert len(list(folder.glob("*"))) <= 3


def _resumed(run: Run) -> list[int]:
    return [event.data["step"] for event in run.events() if event.type == "resumed"]


@pytest.mark.true
@pytest.mark.parametrize("state", ["preparing", "training", "evaluating", "merging"])
def test_a_process_that_is_asked_to_end_saves_within_half_a_minute_in_every_state(terminal, state):
    run, sitting = _begun(terminal, max_steps=40, eval_steps=20)
    _until(lambda: run.written_state == state or run.written_state == "done", sitting)
    began = time.monotonic()
    sitting.kill(signal.SIGTERM)
    status = sitting.wait()
    assert time.monotonic() - began < 30
    assert (status, run.state) in ((1, "interrupted"), (0, "done")), sitting.said[-2000:]
    if run.state == "interrupted":
        sitting = terminal.go_on(run)
        assert sitting.wait() == 0, sitting.said
    assert run.state == "done" and sorted(losses(run)) == list(range(1, 41))


@pytest.mark.true
def test_of_two_processes_that_resume_one_run_one_works_and_the_other_is_refused(terminal):
    run, sitting = _begun(terminal, max_steps=90, eval_steps=30)
    _until(lambda: _reached(run) > 10, sitting)
    sitting.kill(signal.SIGKILL)
    sitting.wait()
    both = [terminal.go_on(run), terminal.go_on(run)]
    assert sorted(each.wait() for each in both) == [0, 2]
    came_too_late = ("being worked on by another process", "a finished run is not trained again")
    refused = next(each for each in both if any(words in each.said for words in came_too_late))
    assert "Traceback" not in refused.said
    assert run.state == "done" and sorted(losses(run)) == list(range(1, 91))
    assert len(_resumed(run)) <= 1
