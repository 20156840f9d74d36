"""Loading: the only place where weights and tokenizers come into memory. It does not know what they are trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.attention import PACKABLE, register_varlen_attention
from ftui.device import memory_free, release_memory, this_device
from ftui.errors import UserError
from ftui.failures import first_line
from ftui.models.facts import config_of, weights_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftui.config import QuantizationSettings


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, always with a pad token: a spare one where the model has none, so that no answer's end is masked."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The tokenizer of {folder.name} cannot be read: {first_line(error)}") from None
    if tokenizer.pad_token is None:
        spare = [
            name
            for name in tokenizer.get_vocab()
            if re.search(r"pad|reserved_special|unk", name, re.I) and name in tokenizer.all_special_tokens
        ]
        tokenizer.pad_token = min(spare, default=tokenizer.eos_token)
    tokenizer.padding_side = "left"
    return tokenizer


def place_for(folder: Path) -> str | None:
    """Where the 16-bit model in `folder` fits beside what is loaded: "cuda", "cpu", or nowhere."""
    import torch

    release_memory()  # what torch keeps for later counts as taken
    needed = 1.1 * weights_size(folder)
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > needed:
        return "cuda"
    return "cpu" if memory_free() > needed else None


def load_model(
    folder: Path, quantization: QuantizationSettings | None = None, place: str | None = None, to_share: bool = False
) -> PreTrainedModel:
    """The model in `place` (this machine's device, if None), 4-bit where `quantization` says so, else in its own precision.

    "auto" lays it over all GPUs of this machine, layer after layer. `to_share`: in main memory, its 4-bit weights packed
    into the type of all others, so that ranks can take their parts of it.
    """
    from safetensors import SafetensorError
    from transformers import BitsAndBytesConfig

    quiet()
    device = this_device()
    options = {}
    if quantization is not None and quantization.load_in_4bit:
        storage = {"bnb_4bit_quant_storage": device.dtype} if to_share else {}
        options["quantization_config"] = BitsAndBytesConfig(
            **quantization.model_dump(), **storage, bnb_4bit_compute_dtype=device.dtype
        )
    try:
        with _quantizing_on(device.kind) if to_share and options else nullcontext():
            model = _load(folder, "cpu" if to_share else place or device.kind, options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"The weights of {folder.name} cannot be read: {first_line(error)}") from None
    if options:
        _keep_unpacked(model)
    _keep_head_whole(model)
    return model


def _load(folder: Path, kind: str, options: dict[str, Any]) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    if this_device().kind == "cuda":  # its kernels are planned anew for each shape, and here every pass has another
        torch.backends.cuda.enable_cudnn_sdp(False)
    one = {"": torch.cuda.current_device() if kind == "cuda" else "cpu"}  # each rank has its own
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=this_device().dtype,
        device_map=kind if kind == "auto" else one,
        attn_implementation=_attention(folder),
        use_safetensors=True,
        trust_remote_code=False,
        **options,
    )


@contextmanager
def _quantizing_on(kind: str) -> Iterator[None]:
    """Weights that go to main memory are rounded to 4 bits on the device on their way: bitsandbytes does it where they
    shall lie, and a processor manages a few million weights a second."""
    from bitsandbytes.nn import Params4bit

    theirs = Params4bit._quantize

    def quantize(self: Any, device: Any) -> Any:
        theirs(self, kind)
        self.quant_state.to(device)
        self.data = self.data.to(device)
        return self

    Params4bit._quantize = quantize
    try:
        yield
    finally:
        Params4bit._quantize = theirs


def _attention(folder: Path) -> str | None:
    """Our own attention where rows may lie side by side and a row needs no more than causal attention; else the stock one."""
    config = config_of(folder)
    windowed = config.get("sliding_window") and config.get("use_sliding_window", True)
    plain = config.get("model_type") in PACKABLE and not windowed and not config.get("attn_logit_softcapping")
    return register_varlen_attention() if plain else None


def quiet() -> None:
    """No progress bars and no advice, on kernels or larger batches, between the lines that are for a person."""
    import logging
    import warnings

    for library in ("bitsandbytes", "trl"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for said in (".*is_gradient_checkpointing.*", "`broadcast_buffers` is deprecated.*"):
        warnings.filterwarnings("ignore", message=said)


def _keep_head_whole(model: PreTrainedModel) -> None:
    """torch copies a frozen weight once a row when a batch's last states are a view, as they are before the first word
    of a reply: 1.5 GB for 26 rows and the vocabulary of the starter."""
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _, states: (states[0].contiguous(), *states[1:]))


def _keep_unpacked(model: PreTrainedModel) -> None:
    """On an AVX512-BF16 CPU an eval forward re-packs Linear4bit in place; dequantizing and gradients are wrong afterwards."""
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
