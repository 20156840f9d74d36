"""What the tests share: tiny models, a config on a few rows, and, for truth, the starter model."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as ftui does, before torch is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from ftui.config import RunConfig
from ftui.models import starter_folder
from ftui.runs import RunStore


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
    """A config as nested dictionaries: 16-bit, six steps, 20 rows to learn from, 4 to watch, 6 for the test."""
    return {
        "base_model": str(tiny_model),
        "dataset": {"path": str(tiny.write_rows(tmp_path / "rows.jsonl", tiny.rows()))},
        "template": {"system": "Look.", "prompt": "{{text}}", "completion": "{{answer}}"},
        "split": {"validation": 4, "test": 6, "seed": 1},
        "quantization": {"load_in_4bit": False},
        "lora": {"r": 8, "lora_alpha": 16},
        "training": {
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 5e-3,
            "max_length": 128,
            "eval_steps": 3,
        },
        "evaluation": {"max_new_tokens": 8},
    }


@pytest.fixture
def config(values) -> RunConfig:
    return RunConfig.parse(values)


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")
