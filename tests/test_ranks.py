"""Two processes that `accelerate launch` starts for one run: they learn what one learns, stop together, and none is left waiting."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ftui.config import TrainingSettings
from ftui.errors import UserError
from ftui.ranks import ALONE, is_lost_rank, join_ranks
from ftui.runs import Run, RunStore

ROOT = Path(__file__).parents[1]
LINE = re.search(r"^accelerate (launch .*?) -m ftui train", (ROOT / "README.md").read_text(), re.M)[1]
LAUNCH = ["-m", "accelerate.commands.accelerate_cli", *LINE.split(), "--main_process_port=0", "-m"]
STEPS = 10


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory) -> Path:
    """Configs for one process with four rows a step and for two with two rows each."""
    from tests import tiny

    folder = tmp_path_factory.mktemp("ranks")
    values = tiny.values(tiny_model, folder)
    values["training"] |= {"max_steps": STEPS, "eval_steps": 4}
    values["evaluation"] |= {"early_stopping_patience": 0}
    (folder / "one.yaml").write_text(yaml.safe_dump(values))
    values["training"] |= {"per_device_train_batch_size": 2}
    (folder / "two.yaml").write_text(yaml.safe_dump(values))
    values["training"] |= {"max_steps": 400, "eval_steps": 100}
    (folder / "long.yaml").write_text(yaml.safe_dump(values))
    return folder


def started(folder: Path, fault: str, *arguments: str, launch: list[str] = LAUNCH) -> subprocess.Popen[str]:
    command = [sys.executable, *launch, "tests.faulty", fault, "train", *arguments, "--runs", str(folder / "runs")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, "--json"], cwd=ROOT, text=True, **pipes)


def ended(process: subprocess.Popen[str], folder: Path) -> tuple[Run, str, str]:
    """The run, which is the only new one, and what was printed."""
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher ends the others
        process.wait(60)
        raise
    name = next(line for line in out.splitlines() if line.startswith("Run ")).split()[1]
    return RunStore(folder / "runs").open(name), out, err


def losses(run: Run) -> list[float]:
    return [data["loss"] for data in run.metrics() if data["loss"] is not None]


@pytest.fixture(scope="module")
def one(folder) -> Run:
    run, _, err = ended(started(folder, "nothing", str(folder / "one.yaml"), launch=["-m"]), folder)
    assert run.state == "done", err
    return run


@pytest.mark.true
def test_two_processes_learn_what_one_learns_with_the_same_rows_a_step(folder, one):
    process = started(folder, "nothing", str(folder / "two.yaml"))
    run, out, err = ended(process, folder)
    assert (process.returncode, run.state) == (0, "done"), err
    assert len(losses(run)) == STEPS
    assert losses(run) == pytest.approx(losses(one), abs=1e-4)
    checks = [[data for data in each.metrics() if data["validation_loss"] is not None] for each in (run, one)]
    assert [data["step"] for data in checks[0]] == [data["step"] for data in checks[1]]
    assert checks[0][-1]["validation_loss"] == pytest.approx(checks[1][-1]["validation_loss"], rel=0.02)
    assert run.metrics()[-1]["tokens"] == one.metrics()[-1]["tokens"]
    assert out.count('"state": "done"') == 1 and json.loads(out.splitlines()[-1])["steps"] == STEPS
    assert run.read_json("proof.json")["top1_agreement"] >= 0.9
    assert [path.name for path in (folder / "runs").iterdir()].count(run.run_id) == 1
    assert {path.name for path in run.path.iterdir()} == {path.name for path in one.path.iterdir()}


@pytest.mark.true
@pytest.mark.parametrize("fault", ["hungry_forward", "hungry_backward"])
def test_memory_that_runs_out_in_one_process_makes_both_go_in_parts_and_learn_the_same(folder, one, fault):
    process = started(folder, fault, str(folder / "two.yaml"))
    run, _, err = ended(process, folder)
    assert (process.returncode, run.state) == (0, "done"), err
    assert [event.message for event in run.events() if "in 2 parts" in event.message]
    assert losses(run) == pytest.approx(losses(one), abs=1e-4)


@pytest.mark.true
@pytest.mark.parametrize("fault, words", [("killed", "left no word"), ("mistaken", "Process 2 of 2: There is no file")])
def test_a_process_that_dies_ends_the_run_in_a_sentence_and_none_is_left_waiting(folder, fault, words):
    began = time.monotonic()
    process = started(folder, fault, str(folder / "two.yaml"))
    run, out, _ = ended(process, folder)
    assert process.returncode != 0 and time.monotonic() - began < 240
    assert run.state == "failed" and not run.is_held
    (said,) = [event.message for event in run.events() if event.data.get("state") == "failed"]
    assert "Another process of this run died" in said and words in said and "Resume" in said
    assert not out.rstrip().endswith("}")


def until(wanted, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.true
@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_stop_ends_both_after_the_same_step_and_resume_goes_on_with_both(folder, how):
    store = RunStore(folder / "runs")
    before = set(store.list())
    process = started(folder, "slow", str(folder / "long.yaml"))
    until(lambda: set(store.list()) - before)
    (run,) = set(store.list()) - before
    until(lambda: len(losses(run)) >= 5)
    run.stop() if how == "stop" else process.send_signal(signal.SIGTERM)
    process.communicate(timeout=180)
    assert process.returncode != 0
    assert run.state == ("stopped" if how == "stop" else "interrupted")
    reached = len(losses(run))
    assert 5 <= reached < 100 and (run.path / "adapter").is_dir()
    again = run.path / "config.yaml"  # a shorter run, to see it end
    again.write_text(again.read_text().replace("max_steps: 400", f"max_steps: {reached + 3}"))
    run, _, err = ended(started(folder, "nothing", "--resume", run.run_id), folder)
    assert run.state == "done", err
    assert len(losses(Run(run.path))) == reached + 3
    assert [event.data["step"] for event in run.events() if event.type == "resumed"] == [reached]


def test_a_process_that_was_not_launched_is_alone_and_agrees_with_itself(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = join_ranks()
    assert ranks == ALONE and ranks.is_first
    assert ranks.share("this") == "this" and ranks.any(True) and not ranks.any(False)


def test_a_launcher_that_would_spread_the_base_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="--multi_gpu"):
        join_ranks()


def test_a_connection_that_breaks_is_told_from_other_faults():
    assert is_lost_rank(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"))
    assert not is_lost_rank(RuntimeError("shape mismatch")) and not is_lost_rank(ConnectionResetError("gloo"))


def test_more_processes_take_fewer_steps_and_check_as_often():
    settings = TrainingSettings(num_train_epochs=2, per_device_train_batch_size=4, eval_steps=0.2)
    assert [settings.steps(80, count) for count in (1, 2, 8)] == [40, 20, 6]
    assert [settings.check_every(80, count) for count in (1, 2, 8)] == [8, 4, 2]
