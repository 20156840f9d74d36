"""What a loaded model answers, and how likely it finds given answers. Used to watch, to compare, to prove and to chat."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.device import is_out_of_memory, release_memory
from ftui.encoding import IGNORED, Encoded, Encoding, Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BATCH_TOKENS = 4096

Progress = Callable[[float], None]  # how many rows are done


class Reply(NamedTuple):
    """`tokens`: how many were written; `finished`: whether the model ended by itself; `seconds`: its share of its batch."""

    text: str
    tokens: int
    prompt_tokens: int
    finished: bool
    seconds: float


def reply_to_all(
    model: PreTrainedModel,
    encoding: Encoding,
    questions: Sequence[Sequence[Message]],
    max_new_tokens: int,
    stop_wanted: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done: None,
) -> list[Reply]:
    """Greedy replies, in the order of `questions`; fewer come back after a stop.

    They are answered in batches of like length, which are halved where memory runs out. `progress` gets how many are answered, a batch at work by its share.
    """
    prompts = [encoding.prompt_ids(question) for question in questions]
    replies: dict[int, Reply] = {}
    with evaluating(model):
        waiting = deque(reply_batches([len(prompt) for prompt in prompts], max_new_tokens))
        while waiting and not stop_wanted():
            batch = waiting.popleft()

            def tokens_written(tokens: int, before: int = len(replies), rows: int = len(batch)) -> bool:
                progress(before + rows * tokens / max_new_tokens)
                return stop_wanted()

            try:
                written = _reply_batch(model, encoding, [prompts[i] for i in batch], max_new_tokens, tokens_written)
            except (RuntimeError, MemoryError) as error:
                if len(batch) == 1 or not is_out_of_memory(error):
                    raise
                written = None
            if written is None:  # outside the except block, whose traceback would keep the memory
                release_memory()
                waiting.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
                continue
            if stop_wanted():  # in the middle of these
                break
            replies |= zip(batch, written, strict=True)
            progress(len(replies))
    return [replies[index] for index in sorted(replies)]


def reply_batches(lengths: Sequence[int], max_new_tokens: int) -> list[list[int]]:
    """Which questions are answered together: those of like length, as many as there is room for.

    `lengths`: of each question, in tokens; a batch holds places in it.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if batches and (lengths[place] + max_new_tokens) * (len(batches[-1]) + 1) <= BATCH_TOKENS:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _reply_batch(
    model: PreTrainedModel,
    encoding: Encoding,
    prompts: list[list[int]],
    max_new_tokens: int,
    tokens_written: Callable[[int], bool],
) -> list[Reply]:
    """`tokens_written` is told after each token how many there are, and says whether to stop."""
    import torch
    from transformers import StoppingCriteria

    class Watch(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            stop = tokens_written(input_ids.shape[1] - width)
            return torch.full((len(input_ids),), stop, device=input_ids.device)

    started = time.perf_counter()
    pad = encoding.tokenizer.pad_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=encoding.stop_token_ids,
        pad_token_id=pad,
        use_cache=True,
        stopping_criteria=[Watch()],
    )
    seconds = (time.perf_counter() - started) / len(prompts)
    stops = set(encoding.stop_token_ids)
    replies = []
    for prompt, written in zip(prompts, out[:, width:].tolist(), strict=True):
        end = next((index for index, token in enumerate(written) if token in stops), None)
        count = len(written) if end is None else end + 1
        replies.append(Reply(encoding.decode(written), count, len(prompt), end is not None, seconds))
    return replies


def labeled_logits(model: PreTrainedModel, example: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, vocabulary) fp32 logits before each of the n learned tokens of an example, and those n tokens."""
    import torch

    ids = torch.tensor([example.input_ids], device=model.device)
    labels = torch.tensor(example.labels[1:], device=model.device)
    learned = (labels != IGNORED).nonzero()[:, 0]
    if model._supports_logits_to_keep():  # of a long row and a large vocabulary all of them take gigabytes
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=learned).logits[0]
    else:
        logits = model(input_ids=ids, use_cache=False).logits[0, learned]
    return logits.float(), labels[learned]


def answer_losses(
    model: PreTrainedModel, examples: Sequence[Encoded], progress: Progress = lambda done: None
) -> list[float]:
    """Mean cross-entropy, in nats a token, of each example's learned tokens."""
    from torch.nn.functional import cross_entropy

    losses = []
    with evaluating(model):
        for example in examples:
            losses.append(float(cross_entropy(*labeled_logits(model, example))))
            progress(len(losses))
    return losses


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode without gradients within the block, the model's own mode after it."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
