"""tests.faulty with ranks that may share a base although they are CPUs: `python -m tests.cpu_shares FAULT train CONFIG ...`.

accelerate spreads a base over accelerators only. All but that one word is real: torch's fully_shard, over gloo.
"""

from __future__ import annotations

import os
import runpy

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from trl import SFTTrainer

begin, train = PartialState.__init__, SFTTrainer.train


def beginning(self, *arguments, **options):
    begin(self, *arguments, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


def training(self, *arguments, **options):
    """Says at the end what this rank holds of each weight."""
    done = train(self, *arguments, **options)
    weights = list(self.model.parameters())
    held = sum(weight.to_local().numel() if isinstance(weight, DTensor) else weight.numel() for weight in weights)
    whole = sum(weight.numel() for weight in weights)
    print(f"Rank {os.environ['RANK']} holds {held / whole:.3f} of the weights.", flush=True)
    return done


if __name__ == "__main__":
    PartialState.__init__, SFTTrainer.train = beginning, training
    runpy.run_module("tests.faulty", run_name="__main__")
