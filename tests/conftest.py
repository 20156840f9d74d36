"""What the tests share: tiny models, a config on a few rows, and, for truth, the starter model."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ftui.__main__  # noqa: F401  sets what must be set before torch is imported
from ftui.config import RunConfig
from ftui.device import Lease
from ftui.loop import carry_out
from ftui.models import starter_folder
from ftui.runs import Run, RunStore
from tests import tiny


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: packed ones hold the time, and two workers would disagree on what the test is called."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny model of a family: llama, qwen2, qwen3, mistral, gpt2 or bert. Made once; do not write into it."""
    made: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in made:
            made[family] = tiny.make_model(tmp_path_factory.mktemp(f"tiny-{family}"), family)
        return made[family]

    return folder_of


@pytest.fixture(scope="session")
def tiny_model(tiny_family) -> Path:
    return tiny_family("llama")


@pytest.fixture(scope="session")
def starter() -> Path:
    return starter_folder()


@pytest.fixture
def values(tiny_model, tmp_path) -> dict:
    return tiny.values(tiny_model, tmp_path)


@pytest.fixture
def config(values) -> RunConfig:
    return RunConfig.parse(values)


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture(scope="session")
def finished_run(tiny_model, tmp_path_factory) -> Run:
    """A 16-bit run on the tiny model that went through to its end. Do not change it."""
    folder = tmp_path_factory.mktemp("finished")
    run = RunStore(folder / "runs").create(RunConfig.parse(tiny.values(tiny_model, folder)))
    assert carry_out(run, Lease()) == "done", run.events()[-1].message
    return run


@pytest.fixture
def run_to_change(finished_run, tmp_path) -> Run:
    """A copy of the finished run."""
    return Run(shutil.copytree(finished_run.path, tmp_path / "runs" / finished_run.run_id))
