"""What an hour of this machine costs, where that is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ftui.device import Device
from ftui.errors import UserError

PRICES_OF = "2026-08-22"
# Hugging Face Spaces: name, GPU, cores, dollars an hour.
SPACES = (
    ("cpu-basic", "CPU", 2, 0.00),
    ("cpu-upgrade", "CPU", 8, 0.03),
    ("t4-small", "T4", 4, 0.40),
    ("t4-medium", "T4", 8, 0.60),
    ("l4x1", "L4", 8, 0.80),
    ("l4x4", "L4", 48, 3.80),
    ("l40sx1", "L40S", 8, 1.80),
    ("l40sx4", "L40S", 48, 8.30),
    ("l40sx8", "L40S", 192, 23.50),
    ("a10g-small", "A10G", 4, 1.00),
    ("a10g-large", "A10G", 12, 1.50),
    ("a10g-largex2", "A10G", 24, 3.00),
    ("a10g-largex4", "A10G", 48, 5.00),
    ("a100-large", "A100", 12, 2.50),
    ("a100x4", "A100", 48, 10.00),
    ("a100x8", "A100", 96, 20.00),
)


class Price(NamedTuple):
    """`per_hour` in dollars; `basis`: who says so."""

    per_hour: float
    basis: str


def price_here(environment: Mapping[str, str], device: Device) -> Price | None:
    """The price that FTUI_PRICE_PER_HOUR names, else that of this Space's hardware; None where nobody says.

    UserError for a price that is no number.
    """
    said = environment.get("FTUI_PRICE_PER_HOUR", "").strip()
    if said:
        try:
            per_hour = float(said.removeprefix("$"))
        except ValueError:
            per_hour = math.nan
        if not 0 <= per_hour < math.inf:
            raise UserError(f"FTUI_PRICE_PER_HOUR must be dollars an hour such as 0.80, not “{said[:20]}”.")
        return Price(per_hour, f"${per_hour:.2f} an hour (FTUI_PRICE_PER_HOUR)")
    if not environment.get("SPACE_ID"):
        return None
    cores = environment.get("CPU_CORES", "")
    return _of_space(device, int(cores) if cores.isdecimal() else device.cores)


def _of_space(device: Device, cores: int) -> Price | None:
    """By its GPU and the number of its cores, which tell one size from the next."""
    gpus = {gpu for _, gpu, _, _ in SPACES if gpu in device.name.replace("-", " ").split()}
    alike = [hardware for hardware in SPACES if hardware[1] in gpus]
    if not alike:
        return None
    name, _, _, per_hour = min(alike, key=lambda hardware: abs(hardware[2] - cores))
    return Price(per_hour, f"${per_hour:.2f} an hour ({name} on Hugging Face Spaces, as of {PRICES_OF})")
