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
import torch
import yaml

from ftui.config import QuantizationSettings, RunConfig, TrainingSettings
from ftui.device import this_device
from ftui.errors import UserError
from ftui.loop import _check_settings as check_settings
from ftui.merge import read_adapter
from ftui.models import load_model
from ftui.ranks import ALONE, Ranks, is_lost_rank, join_ranks
from ftui.runs import Run, RunStore

ROOT = Path(__file__).parents[1]
LINES = re.findall(r"^accelerate (launch .*?) -m ftui train", (ROOT / "README.md").read_text(), re.M)


def launching(flag: str) -> list[str]:
    """The README's first line with this flag, as arguments of Python up to the module."""
    line = next(line for line in LINES if flag in line)
    return ["-m", "accelerate.commands.accelerate_cli", *line.split(), "--main_process_port=0", "-m"]


LAUNCH, SHARE = launching("--multi_gpu"), launching("--use_fsdp")
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
    module = "tests.cpu_shares" if launch == SHARE else "tests.faulty"
    command = [sys.executable, *launch, module, fault, "train", *arguments, "--runs", str(folder / "runs")]
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
def test_two_processes_that_the_launcher_would_not_start_on_a_cpu_are_started(folder, one):
    flags = ["--cpu", "--num_processes", "2", "--main_process_port=0"]
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", *flags, "-m"]
    process = started(folder, "nothing", str(folder / "two.yaml"), launch=launch)
    run, _, err = ended(process, folder)
    assert (process.returncode, run.state) == (0, "done"), err
    assert losses(run) == pytest.approx(losses(one), abs=1e-4)


@pytest.mark.true
@pytest.mark.parametrize("fault", ["hungry_forward", "hungry_backward", "hungry_again"])
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
def test_a_shutdown_ends_both_after_the_same_step_and_resume_goes_on_with_both(folder):
    """A stop by wish takes the same way; below, with a shared base."""
    store = RunStore(folder / "runs")
    before = set(store.list())
    process = started(folder, "slow", str(folder / "long.yaml"))
    until(lambda: set(store.list()) - before)
    (run,) = set(store.list()) - before
    until(lambda: len(losses(run)) >= 5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=180)
    assert process.returncode != 0
    assert run.state == "interrupted"
    reached = len(losses(run))
    assert 5 <= reached < 100 and (run.path / "adapter").is_dir()
    again = run.path / "config.yaml"  # a shorter run, to see it end
    again.write_text(again.read_text().replace("max_steps: 400", f"max_steps: {reached + 3}"))
    run, _, err = ended(started(folder, "nothing", "--resume", run.run_id), folder)
    assert run.state == "done", err
    assert len(losses(Run(run.path))) == reached + 3
    assert [event.data["step"] for event in run.events() if event.type == "resumed"] == [reached]


IN_4_BITS = ("--set", "quantization.load_in_4bit=true")


@pytest.fixture(scope="module")
def one_in_4_bits(folder) -> Run:
    run, _, err = ended(started(folder, "nothing", str(folder / "one.yaml"), *IN_4_BITS, launch=["-m"]), folder)
    assert run.state == "done", err
    return run


@pytest.mark.true
def test_two_processes_that_hold_half_of_a_4_bit_base_each_learn_what_one_learns(folder, one_in_4_bits):
    process = started(folder, "nothing", str(folder / "two.yaml"), *IN_4_BITS, launch=SHARE)
    run, out, err = ended(process, folder)
    assert (process.returncode, run.state) == (0, "done"), err
    assert all(f"Rank {rank} holds 0.500 of the weights." in out for rank in (0, 1))
    assert losses(run) == pytest.approx(losses(one_in_4_bits), abs=1e-4)
    assert {path.name for path in run.path.iterdir()} == {path.name for path in one_in_4_bits.path.iterdir()}
    ours, theirs = (read_adapter(each.adapter_dir) for each in (run, one_in_4_bits))
    assert ours.keys() == theirs.keys()
    assert all((ours[name].a - theirs[name].a).abs().max() < 1e-3 for name in ours)
    (_, replies, expected), (_, their_replies, their_expected) = (
        each.read_json("base_answers.json").values() for each in (run, one_in_4_bits)
    )
    assert [reply[0] for reply in replies] == [reply[0] for reply in their_replies]
    assert expected == pytest.approx(their_expected, abs=1e-3)
    assert run.read_json("proof.json")["top1_agreement"] >= 0.9


@pytest.mark.true
def test_processes_that_share_a_base_stop_together_and_go_on_as_if_nothing_had_been(folder, one_in_4_bits):
    store = RunStore(folder / "runs")
    before = set(store.list())
    process = started(folder, "slow", str(folder / "two.yaml"), *IN_4_BITS, launch=SHARE)
    until(lambda: set(store.list()) - before)
    (run,) = set(store.list()) - before
    until(lambda: len(losses(run)) >= 3)
    run.stop()
    process.communicate(timeout=180)
    assert run.state == "stopped" and 3 <= len(losses(run)) < STEPS and (run.path / "adapter").is_dir()
    alone, _, err = ended(started(folder, "nothing", "--resume", run.run_id, launch=["-m"]), folder)
    assert "Resume it with --use_fsdp." in err
    run, _, err = ended(started(folder, "nothing", "--resume", run.run_id, launch=SHARE), folder)
    assert run.state == "done", err
    assert losses(Run(run.path)) == pytest.approx(losses(one_in_4_bits), abs=1e-4)


@pytest.mark.true
def test_processors_are_not_given_a_base_to_share_and_are_told_so(folder):
    command = [sys.executable, *SHARE, "ftui", "train", str(folder / "two.yaml"), "--runs", str(folder / "refused")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert refused.returncode != 0 and "ftui: Only GPUs can share a base." in refused.stderr


def test_a_base_to_share_lies_in_main_memory_with_all_weights_of_one_type(tiny_model):
    settings = QuantizationSettings()
    shared, plain = load_model(tiny_model, settings, to_share=True), load_model(tiny_model, settings)
    assert {weight.dtype for weight in shared.parameters()} == {this_device().dtype}
    assert {weight.device.type for weight in shared.parameters()} == {"cpu"}
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(shared(ids).logits, plain(ids).logits)


@pytest.mark.parametrize(
    "part, key, value", [("training", "optim", "adamw_8bit"), ("lora", "init_lora_weights", "pissa")]
)
def test_what_cannot_be_learned_with_a_shared_base_is_refused_before_it_is_loaded(
    part, key, value, values, tiny_model, monkeypatch
):
    values[part][key] = value
    config = RunConfig.parse(values)
    gpu = this_device()._replace(kind="cuda")
    monkeypatch.setattr("ftui.train.arguments.this_device", lambda: gpu)
    check_settings(config, tiny_model, ALONE)
    with pytest.raises(UserError, match=f"{part}.{key}"):
        check_settings(config, tiny_model, Ranks(0, 2, share_base=True))


def test_a_process_that_was_not_launched_is_alone_and_agrees_with_itself(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = join_ranks()
    assert ranks == ALONE and ranks.is_first
    assert ranks.share("this") == "this" and ranks.any(True) and not ranks.any(False)


def test_one_process_is_not_given_a_base_to_share(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="nobody to share"):
        join_ranks()


def test_several_processes_on_one_gpu_are_refused_instead_of_starting_one_without_a_word(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr("ftui.ranks.this_device", lambda: this_device()._replace(kind="cuda"))
    with pytest.raises(UserError, match="--num_processes 1"):
        join_ranks()


def test_deepspeed_is_refused_in_a_sentence_that_names_the_other_ways(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match="--multi_gpu.*--use_fsdp"):
        join_ranks()


def test_a_connection_that_breaks_is_told_from_other_faults():
    assert is_lost_rank(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"))
    assert not is_lost_rank(RuntimeError("shape mismatch")) and not is_lost_rank(ConnectionResetError("gloo"))


def test_more_processes_take_fewer_steps_and_check_as_often():
    settings = TrainingSettings(num_train_epochs=2, per_device_train_batch_size=4, eval_steps=0.2)
    assert [settings.steps(80, count) for count in (1, 2, 8)] == [40, 20, 6]
    assert [settings.check_every(80, count) for count in (1, 2, 8)] == [8, 4, 2]
