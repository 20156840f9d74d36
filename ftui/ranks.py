"""Ranks: the processes that `accelerate launch` started for one run, and what they agree on. Alone, nothing has to be agreed on.

Rank 0 owns the run and its folder; the others learn their share of the rows. All traffic goes through accelerate.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any, NamedTuple

from ftui.device import this_device
from ftui.errors import UserError

PATIENCE = timedelta(hours=12)  # the others wait for rank 0: while the base answers, and while it is asked midway
# Whatever the launcher was told: checkpoints are whole, and each rank reads the base itself and keeps its part where it
# computes, as 4-bit weights need it.
FOR_FSDP = {
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_OFFLOAD_PARAMS": "false",
}
LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo", "nccl", "socket timeout")


class Ranks(NamedTuple):
    """`index` counts from 0, over all machines; `count` is how many there are. `share_base`: each holds a part of it (FSDP)."""

    index: int = 0
    count: int = 1
    share_base: bool = False

    @property
    def is_first(self) -> bool:
        return self.index == 0

    def share(self, value: Any) -> Any:
        """What rank 0 gave. Waits until all are here."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so on one of them. Waits until all are here."""
        if self.count == 1:
            return flag
        from accelerate.utils import gather_object

        return any(gather_object([flag]))

    def most(self, number: int) -> int:
        """The largest of their numbers. Waits until all are here."""
        from accelerate.utils import gather_object

        return max(gather_object([number]))

    def wait(self) -> None:
        self.any(False)

    def part(self) -> None:
        """After this each goes its own way; the others may end."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


ALONE = Ranks()


def join_ranks() -> Ranks:
    """This process among those that were launched with it; ALONE when there are none. Waits until all are here.

    Does not return where the launcher has to start the others first. UserError when it is set to what ftui or this machine
    cannot do.
    """
    _launch_others()
    share_base = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if share_base:
            raise UserError(
                "One process has nobody to share a base with. Leave --use_fsdp out, or start more processes."
            )
        return ALONE
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise UserError(
            "ftui does not work with DeepSpeed. `accelerate launch --multi_gpu` gives each GPU the whole base, in 4 bits a "
            "quarter of its size; --use_fsdp in place of --multi_gpu gives each a part of it."
        )
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    if share_base:
        os.environ |= FOR_FSDP
    state = PartialState(cpu=this_device().kind == "cpu", timeout=PATIENCE)
    if share_base and state.distributed_type == DistributedType.MULTI_CPU:
        raise UserError("Only GPUs can share a base. Leave --use_fsdp out: each process then holds the whole base.")
    return Ranks(state.process_index, state.num_processes, share_base)


def _launch_others() -> None:
    """Without several GPUs and without --multi_gpu accelerate starts one process only, however many it was asked for.

    That it was asked for more is seen by the address it sets then, how many only in its own command line: with --multi_gpu
    the same line starts as many on a CPU, too.
    """
    environment = os.environ.keys()
    if "WORLD_SIZE" in environment or not {"MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"} <= environment:
        return
    if this_device().kind != "cpu":
        raise UserError(
            "The launcher was asked for several processes, but this machine has one GPU. Give --num_processes 1, or start "
            "ftui without `accelerate launch`."
        )
    import psutil

    line = psutil.Process(os.getppid()).cmdline()
    launcher = next((place for place, word in enumerate(line) if word.removesuffix(".py").endswith("launch")), None)
    if launcher is not None:
        asked = [word for word in line[launcher + 1 :] if word != "--cpu"]
        os.execv(sys.executable, [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *asked])


def is_lost_rank(error: BaseException) -> bool:
    """Whether this is what an agreement ends in when another rank has died."""
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in LOST)
