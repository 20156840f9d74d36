"""The README is true: its commands run, its config is one, its presets exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftui.config import RunConfig, presets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def arguments(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]


def ftui(line: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ftui", *arguments(line), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


LINES = re.findall(r"^python -m ftui (.*?)\s*(?:#.*)?$", README, re.M)


def test_the_first_commands_are_make_run_and_make_test_and_both_exist():
    targets = re.findall(r"^make (\w+)", README, re.M)
    assert targets[:2] == ["run", "test"]
    assert all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)


def test_the_front_matter_is_that_of_a_docker_space_on_the_port_that_the_dockerfile_opens():
    assert README.startswith("---\n")
    assert "sdk: docker\napp_port: 7860\n" in README
    assert "EXPOSE 7860" in (ROOT / "Dockerfile").read_text()


def test_the_config_in_the_readme_is_a_config():
    config = RunConfig.from_yaml(re.search(r"```yaml\n(base_model.*?)```", README, re.S)[1])
    assert config.base_model == "starter"


def test_every_preset_in_the_readme_exists_and_every_preset_is_in_it():
    table = README.split("## Presets")[1].split("##")[0]
    named = set(
        re.findall(r"[\w.-]+", " ".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| ")))
    )
    assert named - {"preset"} == {preset.name for preset in presets()}


@pytest.mark.parametrize("line", [line for line in LINES if line.split()[0] in ("presets", "runs")])
def test_the_listing_commands_run(line, tmp_path):
    done = ftui(line, "--runs", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout.splitlines()[-1])


@pytest.mark.true
def test_the_starter_learns_its_task_in_the_terminal_and_answers_as_it_was_taught(tmp_path):
    train, chat, check = (next(line for line in LINES if line.startswith(verb)) for verb in ("train", "chat", "check"))
    assert ftui(check, "--json").returncode == 0
    done = ftui(train, "--runs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    systems = found["report"]["systems"]
    assert (found["state"], found["report"]["verdict"]) == ("done", "better")
    assert systems["zero_shot"]["exact_match"] <= 0.05
    assert systems["tuned"]["exact_match"] >= 0.8
    assert found["proof"]["top1_agreement"] >= 0.98
    answered = ftui(chat, "--runs", str(tmp_path), "--json")
    reply = json.loads(json.loads(answered.stdout.splitlines()[-1])["reply"])
    assert (reply["product"], reply["order"], reply["urgency"]) == ("desk fan", "A-4821", "high")
