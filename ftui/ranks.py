"""Ranks: the processes that `accelerate launch` started for one run, and what they agree on. Alone, nothing has to be agreed on.

Rank 0 owns the run and its folder; the others learn their share of the rows. All traffic goes through accelerate.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, NamedTuple

from ftui.device import this_device
from ftui.errors import UserError

PATIENCE = timedelta(hours=12)  # the others wait for rank 0: while the base answers, and while it is asked midway
LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo", "nccl", "socket timeout")


class Ranks(NamedTuple):
    """`index` counts from 0, over all machines; `count` is how many there are."""

    index: int = 0
    count: int = 1

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

    UserError when the launcher is set to spread the model itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if "true" in (os.environ.get(name) for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")):
        raise UserError(
            "ftui does not spread a base over several GPUs. Start it with `accelerate launch --multi_gpu`: each GPU then "
            "holds the whole base, in 4 bits a quarter of its size."
        )
    from accelerate import PartialState

    state = PartialState(cpu=this_device().kind == "cpu", timeout=PATIENCE)
    return Ranks(state.process_index, state.num_processes)


def is_lost_rank(error: BaseException) -> bool:
    """Whether this is what an agreement ends in when another rank has died."""
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in LOST)
