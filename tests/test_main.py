"""The terminal door: exit codes, one line for a mistake, and one JSON object as the last line."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ftui.__main__ import main
from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.device import Lease, this_device
from ftui.errors import UserError
from ftui.runs import Run, RunStore

HOME = Path(__file__).parents[1]


def ftui(*arguments: object, timeout: int = 120) -> subprocess.CompletedProcess:
    """ftui in a process of its own, as in a terminal."""
    command = [sys.executable, "-m", "ftui", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=HOME, timeout=timeout, env=os.environ)


def last_line(text: str) -> object:
    return json.loads(text.rstrip("\n").rpartition("\n")[2])


@pytest.fixture
def config_file(values, tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_help_names_every_command():
    done = ftui("--help", timeout=60)
    assert done.returncode == 0
    for name in ("app", "check", "train", "evaluate", "merge", "chat", "runs", "presets", "starter"):
        assert name in done.stdout
    assert "--set" in ftui("train", "--help").stdout


def test_the_web_door_takes_what_the_command_takes():
    done = subprocess.run([sys.executable, "app.py", "--help"], capture_output=True, text=True, cwd=HOME, timeout=60)
    assert done.returncode == 0 and "--port" in done.stdout


def test_presets_are_listed_for_people_and_for_programs(capsys):
    assert main(["presets"]) == 0
    assert "starter" in capsys.readouterr().out.splitlines()[0]
    assert main(["presets", "--json"]) == 0
    found = last_line(capsys.readouterr().out)
    assert found[0]["preset"] == "starter" and set(found[0]) >= {"preset", "title", "needs", "base_model"}


def test_runs_are_listed_and_none_is_an_empty_list(capsys, finished_run, tmp_path):
    folder = finished_run.path.parent
    assert main(["runs", "--json", "--runs", str(folder)]) == 0
    (found,) = last_line(capsys.readouterr().out)
    assert (found["run"], found["state"], found["path"]) == (finished_run.run_id, "done", str(finished_run.path))
    assert main(["runs", "--json", "--runs", str(tmp_path / "none")]) == 0
    assert last_line(capsys.readouterr().out) == []


def test_the_folder_of_runs_is_that_of_ftui_runs_where_none_is_said(capsys, finished_run, tmp_path, monkeypatch):
    monkeypatch.setenv("FTUI_RUNS", str(finished_run.path.parent))
    assert main(["runs"]) == 0
    assert capsys.readouterr().out.startswith(finished_run.run_id)
    assert main(["chat", "last", "--prompt", "A.", "--max-new-tokens", "2"]) == 0
    assert main(["chat", "last", "--prompt", "A.", "--runs", str(tmp_path)]) == 2


def test_a_list_without_runs_says_so(capsys, tmp_path):
    for arguments, words in (
        ([], "no run in"),
        (["--trash"], "is empty"),
        (["--runs", "no/folder"], "no folder no/folder"),
    ):
        assert main(["runs", "--runs", str(tmp_path), *arguments]) == 0
        assert words in capsys.readouterr().out


def test_the_columns_of_the_list_stand_below_each_other(capsys, config, store):
    longer = config.model_copy(
        update={"dataset": config.dataset.model_copy(update={"path": "a-rather-long-name.jsonl"})}
    )
    for each in (config, longer):
        store.create(each)
    assert main(["runs", "--runs", str(store.folder)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.index(" GB  ") == second.index(" GB  ") and first.index("queued") == second.index("queued")
    assert first.index("a-rather-long-name.jsonl") == second.index("rows.jsonl")


def test_a_config_is_checked_without_training(config_file, tmp_path, capsys):
    pytest.importorskip("ftui.check")
    assert main(["check", str(config_file), "--json", "--runs", str(tmp_path / "runs")]) == 0
    found = last_line(capsys.readouterr().out)
    assert set(found) >= {"rows", "splits", "problems", "tokens", "plan"}
    assert found["rows"] == 30 and found["splits"] == {"train": 20, "validation": 4, "test": 6}
    assert set(found["tokens"]) >= {"total", "trained", "max", "p95"}
    assert set(found["plan"]) >= {"peak_memory_bytes", "seconds", "steps", "disk_bytes"} and found["plan"]["steps"] == 6
    assert all(set(problem) >= {"code", "severity", "count", "rows"} for problem in found["problems"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.true
def test_train_in_a_terminal_ends_with_a_line_of_json(config_file, tmp_path):
    done = ftui("train", config_file, "--runs", tmp_path / "runs", "--json", "--set", "training.max_steps=2")
    assert done.returncode == 0, done.stderr
    found = last_line(done.stdout)
    assert set(found) >= {"run", "state", "path", "steps", "train_loss", "validation_loss", "report", "merged", "proof"}
    assert (found["state"], found["steps"]) == ("done", 2) and Path(found["merged"]).is_dir()
    assert found["proof"]["top1_agreement"] >= 0.9 and found["report"]["rows"] == 6
    assert f"Run {found['run']}" in done.stdout and "Merged into" in done.stdout and "step 2 of 2" in done.stdout
    assert "Traceback" not in done.stderr


def test_train_in_a_terminal_says_only_what_ftui_says(config_file, tmp_path, capsys, caplog):
    one_step = ["--set", "training.max_steps=1", "--set", "training.per_device_train_batch_size=1"]
    assert main(["train", str(config_file), "--runs", str(tmp_path / "runs"), *one_step]) == 0, "something was learned"
    assert "grad_norm" not in capsys.readouterr().out
    assert not [record for record in caplog.records if record.name.startswith("trl")], "no advice on larger batches"


@pytest.mark.skipif(this_device().kind != "cpu", reason="a GPU carries it out")
@pytest.mark.parametrize("change", ["training.optim=adamw_8bit", "training.report_to=wandb"])
def test_what_this_machine_cannot_carry_out_is_told_before_a_run_is_made_and_noted_by_check(
    config_file, tmp_path, capsys, change
):
    wished = [str(config_file), "--runs", str(tmp_path / "runs"), "--set", change]
    assert main(["train", *wished]) == 2
    assert change.partition("=")[0] in capsys.readouterr().err and not (tmp_path / "runs").exists()
    trainer = BackgroundTrainer(RunStore(tmp_path / "runs"), Lease())
    for begin in (trainer.start, trainer.queue):
        with pytest.raises(UserError, match=change.partition("=")[0]):
            begin(RunConfig.load(config_file, [change]))
    assert trainer.store.list() == []
    assert main(["check", *wished, "--json"]) == 0
    found = last_line(capsys.readouterr().out)
    assert any(change.partition("=")[0] in note for note in found["notes"]) and found["plan"]


def test_chat_in_a_terminal_ends_with_a_line_of_json(finished_run, capsys):
    assert main(["chat", str(finished_run.path), "--prompt", "A tall tree.", "--max-new-tokens", "5", "--json"]) == 0
    found = last_line(capsys.readouterr().out)
    assert set(found) >= {"reply", "prompt", "tokens"} and found["tokens"] <= 5
    assert found["prompt"] == (
        "<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\nA tall tree.<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.true
def test_what_a_library_wants_to_be_installed_is_not_told_in_a_terminal(finished_run):
    done = ftui("chat", finished_run.path, "--prompt", "A tall tree.", "--model", "adapter")
    assert (done.returncode, done.stderr) == (0, "")


def test_chat_takes_columns_and_several_prompts_and_any_of_the_three_models(finished_run, capsys):
    folder = ["--runs", str(finished_run.path.parent), "--json", "--max-new-tokens", "3"]
    assert main(["chat", "last", "--prompt", "A.", "--prompt", "B.", "--model", "base", *folder]) == 0
    found = last_line(capsys.readouterr().out)
    assert len(found["replies"]) == 2 and found["model"] == "base" and "user\nB.<" in found["prompt"]
    assert main(["chat", "last", "--column", "text=A=B.", "--model", "adapter", *folder]) == 0
    assert "user\nA=B.<" in last_line(capsys.readouterr().out)["prompt"]


def test_a_conversation_in_a_terminal_goes_on_until_an_empty_line(finished_run, monkeypatch, capsys):
    lines = iter(["A red lamp.", "And now?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert main(["chat", str(finished_run.path), "--max-new-tokens", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2 and not list(lines)


def test_a_run_is_evaluated_and_merged_again(run_to_change, capsys):
    assert main(["evaluate", str(run_to_change.path), "--json"]) == 0
    assert last_line(capsys.readouterr().out)["rows"] == 6
    assert main(["merge", str(run_to_change.path), "--json"]) == 0
    assert set(last_line(capsys.readouterr().out)) == {"merged", "proof"}


@pytest.mark.parametrize(("command", "begins"), [("evaluate", "message"), ("merge", "progress")])
def test_what_a_page_stops_in_a_terminal_ends_in_a_sentence(run_to_change, capsys, monkeypatch, command, begins):
    log = Run.log

    def log_and_stop(run, type, *arguments, **data):
        log(run, type, *arguments, **data)
        if type == begins:
            run.stop()

    monkeypatch.setattr(Run, "log", log_and_stop)
    assert main([command, str(run_to_change.path)]) == 2
    said = capsys.readouterr().err
    assert "was stopped." in said and len(said.splitlines()) == 1
    assert run_to_change.state == "done" and not run_to_change.stop_wanted


def test_a_checkpoint_is_asked_and_evaluated(run_to_change, capsys):
    folder = ["--json", "--checkpoint", "3"]
    assert main(["chat", str(run_to_change.path), "--prompt", "A.", "--max-new-tokens", "3", *folder]) == 0
    assert last_line(capsys.readouterr().out)["model"] == "adapter"
    assert main(["evaluate", str(run_to_change.path), *folder]) == 0
    assert last_line(capsys.readouterr().out)["rows"] == 6 and (run_to_change.path / "report-step-3.json").is_file()


def test_a_run_is_deleted_restored_and_deleted_for_good(run_to_change, capsys):
    folder = ["--json", "--runs", str(run_to_change.path.parent)]

    def runs(*arguments: str) -> object:
        assert main(["runs", *arguments, *folder]) == 0
        return last_line(capsys.readouterr().out)

    name = run_to_change.run_id
    assert runs("--delete", name) == {"run": name, "state": "deleted"}
    assert runs() == [] and [found["run"] for found in runs("--trash")] == [name]
    assert Path(runs("--trash")[0]["path"]).is_dir()
    assert runs("--restore", name)["state"] == "done"
    assert runs()[0]["verdict"] == "too few rows"
    runs("--delete", name)
    assert runs("--empty-trash")["bytes"] > 100_000 and runs("--trash") == []


def test_the_last_run_is_deleted_with_a_word_on_how_it_comes_back(run_to_change, capsys, monkeypatch):
    folder = run_to_change.path.parent
    assert main(["runs", "--delete", "last", "--runs", str(folder)]) == 0
    hint = capsys.readouterr().out.split("`")[1].removeprefix("python -m ftui ")
    assert main(hint.split()) == 0 and run_to_change.path.is_dir()
    monkeypatch.setenv("FTUI_RUNS", str(folder))
    assert main(["runs", "--delete", "last"]) == 0
    assert "--runs" not in capsys.readouterr().out.split("`")[1]


def test_check_speaks_plainly_in_a_terminal(config_file, tmp_path, capsys):
    rows = tmp_path / "my_rows_1.jsonl"
    rows.write_text((tmp_path / "rows.jsonl").read_text() + '{"text": "What is this?", "answer": ""}\n')
    assert main(["check", str(config_file), "--set", f"dataset.path={rows}"]) == 0
    out = capsys.readouterr().out
    assert "\\" not in out and "None." not in out and "(empty_field, 1)" in out and not out.endswith("\n\n")


def test_a_new_run_starts_from_an_adapter_in_the_terminal(run_to_change, config_file, capsys):
    folder = ["--runs", str(run_to_change.path.parent), "--json"]
    few = ["--set", "training.max_steps=1", "--set", "lora.r=8"]
    base = ["--set", f"base_model={run_to_change.config.base_model}", *folder]
    assert main(["train", str(config_file), "--set", f"adapter={run_to_change.run_id}@3", *few, *base]) == 0
    found = last_line(capsys.readouterr().out)
    assert f"adapter: {run_to_change.run_id}@3" in Path(found["path"], "config.yaml").read_text()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["train", "no-such-config"], "presets"),
        (["train", "starter", "--set", "training.learning_rate=fast"], "training.learning_rate"),
        (["train", "starter", "--set", "nonsense"], "has no “=”"),
        (["chat", "no-such-run"], "There is no run"),
        (["merge", "last"], "There is no run"),
        (["evaluate", "../escape"], "There is no run"),
        (["evaluate", "RUN", "--checkpoint", "4"], "Complete ones: 3, 6"),
        (["chat", "RUN", "--checkpoint", "3", "--model", "base"], "leave --model out"),
        (["train", "starter", "--checkpoint", "3"], "--resume RUN"),
        (["train", "--resume", "RUN", "--checkpoint", "3"], "is done"),
        (["train", "--resume", "RUN", "--set", "training.max_steps=9"], "has its config already"),
        (["train", "starter", "--set", "adapter=no-such-run"], "There is no run"),
        (["runs", "--delete", "no-such-run"], "There is no run"),
        (["runs", "--restore", "no-such-run"], "in the trash"),
        (["chat", "RUN", "--column", "nonsense"], "NAME=VALUE"),
        (["chat", "RUN", "--temperature", "9"], "temperature"),
    ],
)
def test_a_mistake_is_one_line_on_standard_error_and_exit_code_2(arguments, word, capsys, tmp_path, finished_run):
    arguments = [str(finished_run.path) if argument == "RUN" else argument for argument in arguments]
    assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 2
    out, err = capsys.readouterr()
    assert word in err and err.startswith("ftui: ") and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Memory ran out"),
        (RuntimeError("CUDA error: device-side assert triggered"), "restart ftui"),
        (OSError(errno.EFBIG, "File too large", "/a/b/model.safetensors"), "“File too large” of model.safetensors"),
        (OSError(errno.EACCES, "Permission denied"), "“Permission denied”. Make sure"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "merge", "chat"])
def test_what_no_program_is_to_blame_for_is_one_line(finished_run, monkeypatch, capsys, command, failure, words):
    def failing(*arguments):
        raise failure

    monkeypatch.setattr("ftui.chat.load_model", failing)
    which = ["--model", "adapter", "--prompt", "x"] if command == "chat" else []
    assert main([command, str(finished_run.path), *which]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ftui: ") and words in said and said.count("\n") == 1


def test_a_run_that_fails_ends_with_its_sentence_and_exit_code_2(config_file, tmp_path, capsys):
    wrong = ["--runs", str(tmp_path / "runs"), "--json", "--set", "template.prompt='{{txet}}'"]
    assert main(["train", str(config_file), *wrong]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err and not out.rstrip().endswith("}") and "txet" not in out
    assert [("txet" in line) for line in err.splitlines() if line.startswith("ftui: ")] == [True]


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("key", ["dataset.path", "base_model"])
def test_what_is_not_there_is_told_once_with_its_path_and_leaves_no_run_behind(
    config_file, tmp_path, capsys, command, key
):
    wrong = str(tmp_path / "wrong folder" / "rows.jsonl")
    assert main([command, str(config_file), "--set", f"{key}={wrong}", "--runs", str(tmp_path / "runs")]) == 2
    out, err = capsys.readouterr()
    assert (out + err).count(wrong) == 1 and err.startswith("ftui: ") and not (tmp_path / "runs").exists()


def test_a_word_that_is_no_command_gets_the_usage_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2 and "usage" in capsys.readouterr().err


def test_the_terminal_has_a_line_for_what_happens_and_none_for_counts(finished_run):
    from ftui.terminal.train import event_line

    lines = {event.type: event_line(event) for event in finished_run.events()}
    assert lines.pop("progress", "") == "" and set(lines) >= {"state", "message", "metrics", "sample"}
    assert all(lines.values())
    count = finished_run.events()[0]._replace(
        type="progress", message="", data={"what": "answered", "done": 1, "of": 2}
    )
    assert event_line(count) == ""
