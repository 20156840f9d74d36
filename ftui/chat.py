"""chat: one loaded model that answers, asked through the very template it was trained with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from ftui.device import Lease, is_out_of_memory, release_memory
from ftui.encoding import Encoding, Message
from ftui.errors import UserError
from ftui.examples import encoding_of
from ftui.failures import first_line
from ftui.models import load_model, load_tokenizer, model_folder, place_for
from ftui.runs import Run
from ftui.settings import Settings, Whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Which = Literal["merged", "adapter", "base"]


class ChatSettings(Settings):
    """Fields of `transformers.GenerationConfig`. Temperature 0 is greedy: the likeliest token each time."""

    temperature: float = Field(
        0.0, ge=0, le=2, title="Temperature", description="0 always takes the likeliest word; higher is more varied."
    )
    top_p: float = Field(
        0.95, gt=0, le=1, title="Top-p", description="Chooses among the likeliest words that together reach this share."
    )
    max_new_tokens: Whole = Field(
        256, ge=1, le=8192, title="Longest reply (tokens)", description="Replies are cut here."
    )

    @property
    def sampling(self) -> dict[str, Any]:
        """How the next token is taken, as `generate` is told."""
        if not self.temperature:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}


class Speaker(NamedTuple):
    """Who is asked: one of a run's models. `checkpoint`: a folder whose adapter is asked in place of the run's."""

    run: Run
    which: Which
    checkpoint: Path | None = None

    @property
    def key(self) -> tuple[Path, str, Path, int]:
        """Another one after every change: the run, which of its models, and its folder, which a new merge replaces."""
        folder = self.run.merged_dir if self.which == "merged" else self.checkpoint or self.run.adapter_dir
        return self.run.path, self.which, folder, folder.stat().st_ino if folder.is_dir() else 0


class Loaded(NamedTuple):
    """`key`: that of the speaker when it was loaded."""

    key: tuple[Path, str, Path, int]
    model: PreTrainedModel
    encoding: Encoding


class Said(NamedTuple):
    """A reply so far. `is_cut`: it has come to the limit of its length, not to its end."""

    words: str
    is_cut: bool = False


class ChatModel:
    """The model that is loaded for chat, at most one. It holds the lease for as long as it loads or answers."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._answering = threading.Lock()
        self._loaded: Loaded | None = None
        lease.on_run(self.unload)

    def stream(
        self, speaker: Speaker, messages: Sequence[Message], settings: ChatSettings, stop: threading.Event
    ) -> Iterator[tuple[Said, str]]:
        """The reply so far and the exact prompt, again and again until the reply is whole; ends early once `stop` is set.

        The first is empty and comes as soon as it is this one's turn, before anything is loaded. UserError when the model
        answers somebody else, or the accelerator is busy.
        """
        with self._alone(), self._lease.held_by("the chat", timeout=2, is_run=False):
            yield Said(""), ""
            try:
                loaded = self._load(speaker)
                prompt = loaded.encoding.prompt(messages)
                for reply in stream_reply(loaded.model, loaded.encoding, messages, settings, stop):
                    yield reply, prompt
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            loaded = None
            self.unload()  # outside the except block, whose traceback would keep the memory
            raise UserError(
                "Memory ran out while answering. Clear the chat, shorten the reply, or take a smaller model; the next message loads it again."
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._answering.acquire(timeout=2):
            raise UserError("The model is answering in another window. Send this again when it is done.")
        try:
            yield
        finally:
            self._answering.release()

    def unload(self) -> None:
        if self._loaded is not None:
            self._loaded = None
            release_memory()

    def _load(self, speaker: Speaker) -> Loaded:
        key = speaker.key
        if self._loaded is None or self._loaded.key != key:
            self.unload()
            self._loaded = Loaded(key, *load_for_chat(speaker))
        return self._loaded


def load_for_chat(speaker: Speaker) -> tuple[PreTrainedModel, Encoding]:
    """The merged model, the adapter on its base as it was trained, or the untouched base; asked as the run was trained."""
    run, which, checkpoint = speaker
    encoding = chat_encoding(run)
    if which == "merged":
        if not run.merged_dir.is_dir():
            raise UserError(
                f"Run {run.run_id} has no merged model yet. `python -m ftui merge {run.run_id}` makes it; or chat with its adapter."
            )
        return _load_whole(run.merged_dir), encoding
    base = model_folder(run.config.base_model, run.config.revision)
    if which == "base":
        return _load_whole(base), encoding
    return load_adapted(run, base, checkpoint).eval(), encoding


def _load_whole(folder: Path) -> PreTrainedModel:
    place = place_for(folder)
    if place is None:
        raise UserError(
            "This model in 16 bits fits neither the GPU nor the memory. Chat with the adapter on its 4-bit base instead."
        )
    return load_model(folder, place=place).eval()


def load_adapted(run: Run, base_dir: Path, checkpoint: Path | None = None, place: str | None = None) -> PreTrainedModel:
    """Base and adapter, or that of a checkpoint, in the precision they were trained in. `place` as in `load_model`."""
    from safetensors import SafetensorError

    adapter_dir = checkpoint or run.adapter_dir
    if not adapter_dir.is_dir():
        raise UserError(f"Run {run.run_id} has no adapter: it was not trained far enough. Start it again.")
    base = load_model(base_dir, run.config.quantization, place)
    from peft import PeftModel  # it brings bitsandbytes, which has been asked to be quiet by now

    try:
        return PeftModel.from_pretrained(base, adapter_dir)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"The adapter in {adapter_dir.name} of run {run.run_id} cannot be read: {first_line(error)}. "
            "Take one of its checkpoints, or train it again."
        ) from None


def chat_encoding(run: Run) -> Encoding:
    """The encoding that was saved with the adapter; that of the config where nothing is trained yet."""
    if run.adapter_dir.is_dir():
        return Encoding(load_tokenizer(run.adapter_dir))
    return encoding_of(run.config, model_folder(run.config.base_model, run.config.revision))


def stream_reply(
    model: PreTrainedModel,
    encoding: Encoding,
    messages: Sequence[Message],
    settings: ChatSettings,
    stop: threading.Event,
) -> Iterator[Said]:
    """The reply so far, each time it has grown, and once more when it was cut."""
    prompt = encoding.prompt_ids(messages)
    _check_context(model, len(prompt), settings.max_new_tokens)
    writing = Writing(model, encoding, prompt, settings, stop)
    text = ""
    try:
        for piece in writing.pieces:
            if piece:
                text += piece
                yield Said(text)
    finally:
        writing.end()
    if writing.failure is not None:
        raise writing.failure
    if writing.is_cut or not text:
        yield Said(text, writing.is_cut)


class Writing:
    """A reply that a thread of its own writes until it is whole, comes to its limit, or `stop` is set.

    `pieces` come as they are written. After `end`: whether it `is_cut`, and the `failure` that broke it off.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoding: Encoding,
        prompt: list[int],
        settings: ChatSettings,
        stop: threading.Event,
    ) -> None:
        from transformers import TextIteratorStreamer

        self._model, self._encoding, self._prompt, self._settings, self._stop = model, encoding, prompt, settings, stop
        self.pieces = TextIteratorStreamer(encoding.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.is_cut = False
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Writes no further, and waits until the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        try:
            written, stops = self._generate(), self._encoding.stop_token_ids
            self.is_cut = len(written) >= self._settings.max_new_tokens and written[-1] not in stops
        except BaseException as error:  # handed to the reader; a silent thread would leave it waiting
            self.failure = error
            self.pieces.end()

    def _generate(self) -> list[int]:
        """The tokens of the reply."""
        import torch
        from transformers import StoppingCriteria

        stop = self._stop

        class Wish(StoppingCriteria):
            def __call__(self, input_ids, scores, **kwargs):
                return torch.full((len(input_ids),), stop.is_set(), device=input_ids.device)

        prompt = torch.tensor([self._prompt], device=self._model.device)
        written = self._model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=self._settings.max_new_tokens,
            eos_token_id=self._encoding.stop_token_ids,
            pad_token_id=self._encoding.tokenizer.pad_token_id,
            streamer=self.pieces,
            stopping_criteria=[Wish()],
            **self._settings.sampling,
        )
        return written[0, len(self._prompt) :].tolist()


def _check_context(model: PreTrainedModel, prompt_tokens: int, max_new_tokens: int) -> None:
    context = model.config.get_text_config().to_dict().get("max_position_embeddings")
    if context and prompt_tokens + max_new_tokens > context:
        raise UserError(
            f"This conversation has {prompt_tokens} tokens; with {max_new_tokens} for the reply it is longer than "
            f"the {context} the model can read. Clear the chat or shorten the reply."
        )
