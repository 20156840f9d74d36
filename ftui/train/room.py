"""Room: how much of a step goes through the model at once, and how less does when memory runs out."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ftui.errors import UserError
from ftui.train.recompute import recompute, recomputed_layers, recomputing_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST = 32  # tokens; a run whose rows must be shorter than that learns nothing
ALONG = ("input_ids", "labels", "position_ids", "seq_idx")  # what a batch holds for each token

Batch = dict[str, Any]


class NoRoom(UserError):
    """Memory ran out, and there is no smaller way to carry a step out."""


class Room:
    """A pass holds whole rows of at most `tokens` tokens together, a longer row alone.

    Where that is not enough and `may_shorten` allows it, rows are learned up to their token `longest`. They are checked
    whole nevertheless, so that losses before and after compare.
    """

    def __init__(self, tokens: float = inf, may_shorten: bool = False) -> None:
        self.tokens, self.may_shorten = tokens, may_shorten
        self.longest: float = inf

    def rows(self, batch: Batch, training: bool) -> Batch:
        """What is learned or checked of the rows of a batch."""
        return shorten_rows(batch, int(self.longest)) if training and self.longest < inf else batch

    def make(self, model: PreTrainedModel, batch: Batch, step: int) -> str:
        """Halves the largest pass; once the rows go one by one, recomputes more layers, and cuts rows where it may.

        `step`: how many are done. Returns what was done, in a sentence. NoRoom when there is nothing left to do.
        """
        training = model.training
        batch = self.rows(batch, training)
        large = [part for part in split_tokens(batch, self.tokens) if rows_of(part) > 1]
        layers, recomputed = len(recomputing_layers(model)), recomputed_layers(model)
        if large:
            self.tokens = max(tokens_of(half) for part in large for half in split_rows(part, 2))
            parts = len(split_tokens(batch, self.tokens))
            if training:
                return f"Memory ran out at step {step + 1}: the step is repeated in {parts} parts, which gives the same result and takes longer."
            return f"Memory ran out at the check after step {step}: its rows go in {parts} parts, which gives the same result and takes longer."
        if training and recomputed < layers:
            recomputed = layers if recomputed >= layers // 2 else ceil(layers / 2)
            recompute(model, recomputed)
            return (
                f"Memory ran out at step {step + 1} with one row at a time: activations of {recomputed} "
                f"of {layers} layers are recomputed from here on, which gives the same result and takes up to a third longer."
            )
        if training and self.may_shorten and longest_of(batch) > SHORTEST:
            self.longest = max(SHORTEST, longest_of(batch) // 2)
            return (
                f"Memory ran out at step {step + 1} although the rows go one by one and activations are recomputed: "
                f"rows are cut to {self.longest} tokens from here on, as the settings allow. Answers that stand further back are not learned."
            )
        raise NoRoom(
            "Memory ran out although the rows go one by one and activations are recomputed. "
            "Shorten max_length, or choose a smaller model."
        )


def rows_of(batch: Batch) -> int:
    """How many rows a batch holds, laid side by side or padded."""
    bounds = batch.get("cu_seq_lens_q")
    return len(bounds) - 1 if bounds is not None else len(batch["input_ids"])


def tokens_of(batch: Batch) -> int:
    """How many tokens a batch holds, padding included."""
    return batch["input_ids"].numel()


def longest_of(batch: Batch) -> int:
    """The tokens of the longest row of a batch, padding included."""
    return int(batch["max_length_q"]) if "max_length_q" in batch else batch["input_ids"].shape[-1]


def shorten_rows(batch: Batch, longest: int) -> Batch:
    """The batch with only the first `longest` tokens of each row."""
    import torch

    bounds = batch.get("cu_seq_lens_q")
    if bounds is None:
        return {key: value[:, :longest] for key, value in batch.items()}
    lengths = bounds.diff().clamp(max=longest)
    starts = bounds[:-1]
    kept = torch.cat([torch.arange(*row) for row in torch.stack([starts, starts + lengths], 1).tolist()])
    after = torch.cat([bounds[:1], lengths.cumsum(0, dtype=bounds.dtype)])
    widest = int(lengths.max())
    return {key: batch[key][:, kept] for key in ALONG if key in batch} | {
        "cu_seq_lens_q": after,
        "cu_seq_lens_k": after,
        "max_length_q": widest,
        "max_length_k": widest,
    }


def split_tokens(batch: Batch, tokens: float) -> list[Batch]:
    """The batch cut between rows into batches of at most so many tokens; a row that is longer goes alone."""
    bounds = batch.get("cu_seq_lens_q")
    width = batch["input_ids"].shape[-1]
    lengths = bounds.diff().tolist() if bounds is not None else [width] * rows_of(batch)
    cuts, held = [0], 0
    for row, length in enumerate(lengths):
        if held and held + length > tokens:
            cuts.append(row)
            held = 0
        held += length
    cuts.append(len(lengths))
    return [_rows_between(batch, *cut) for cut in pairwise(cuts)] if len(cuts) > 2 else [dict(batch)]


def split_rows(batch: Batch, parts: int) -> list[Batch]:
    """The batch cut into `parts` batches of whole rows, as even as they come."""
    rows = rows_of(batch)
    if parts <= 1 or rows <= 1:
        return [dict(batch)]
    cuts = [round(index * rows / min(parts, rows)) for index in range(min(parts, rows) + 1)]
    return [_rows_between(batch, start, end) for start, end in pairwise(cuts)]


def _rows_between(batch: Batch, start: int, end: int) -> Batch:
    bounds = batch.get("cu_seq_lens_q")
    if bounds is None:
        return {key: value[start:end] for key, value in batch.items()}
    first, last = int(bounds[start]), int(bounds[end])
    part = {key: batch[key][:, first:last] for key in ALONG if key in batch}
    lengths = bounds[start : end + 1] - bounds[start]
    longest = int(lengths.diff().max())
    return part | {"cu_seq_lens_q": lengths, "cu_seq_lens_k": lengths, "max_length_q": longest, "max_length_k": longest}
