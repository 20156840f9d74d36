"""ftui in a process of its own, in fp32, with a fault in rank 1: `python -m tests.faulty FAULT train CONFIG ...`.

For tests that launch several processes, where nothing can be patched from outside. The faults are the names of functions.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count

import ftui.device

RANK = int(os.environ.get("RANK", "0"))
LACKING = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def nothing() -> None:
    """All goes well."""


def killed() -> None:
    """The system kills rank 1 in its fourth step."""
    from trl import SFTTrainer

    step = SFTTrainer.training_step

    def dying(self, *arguments, **options):
        if self.state.global_step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments, **options)

    SFTTrainer.training_step = dying


def mistaken() -> None:
    """Rank 1 alone cannot read the rows."""
    import ftui.loop
    from ftui.errors import UserError

    def missing(*arguments):
        raise UserError("There is no file rows.jsonl on this machine.")

    ftui.loop.prepare = missing


def slow() -> None:
    """Each step of rank 1 takes a while, so that somebody can stop it."""
    import time

    from trl import SFTTrainer

    step = SFTTrainer.training_step

    def slower(self, *arguments, **options):
        time.sleep(0.2)
        return step(self, *arguments, **options)

    SFTTrainer.training_step = slower


def hungry_forward() -> None:
    """In rank 1 no more than one row fits into memory, as the forward pass finds out."""
    _in_hidden_states(lambda hidden: _run_out())


def hungry_backward() -> None:
    """In rank 1 no more than one row fits into memory, as the backward pass finds out in its middle."""
    _in_hidden_states(lambda hidden: hidden.register_hook(lambda gradient: _run_out()))


def hungry_again() -> None:
    """In rank 1 the backward pass finds so twice: with two rows, and in the first of the next step's two passes with one."""
    act = lambda hidden: hidden.register_hook(lambda gradient: _run_out())  # noqa: E731
    _in_hidden_states(act, lambda rows, call: call in (1, 4))


def _in_hidden_states(act, acts=lambda rows, call: rows > 1) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    forward, calls = LlamaModel.forward, count(1)

    def hungry(self, *arguments, **options):
        found = forward(self, *arguments, **options)
        if self.training and acts(len(options["cu_seq_lens_q"]) - 1, next(calls)):
            act(found.last_hidden_state)
        return found

    LlamaModel.forward = hungry


def _run_out() -> None:
    raise RuntimeError(LACKING)


if __name__ == "__main__":
    ftui.device._cpu_has_bf16 = lambda: False
    if RANK == 1:
        globals()[sys.argv[1]]()
    from ftui.__main__ import main

    sys.exit(main(sys.argv[2:]))
