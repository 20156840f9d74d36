"""What this machine is, the precision it computes in, and the lease that says who holds the accelerator."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftui.errors import UserError

if TYPE_CHECKING:
    import torch

STICKY = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "hardware stack error",
    "invalid program counter",
    "uncorrectable ecc error",
    "cublas_status_execution_failed",
    "cudnn_status_execution_failed",
)
LISTENING_SECONDS = 0.5
NVIDIA = Path("/dev/nvidia0")  # where its driver shows the first GPU, also inside a container
UNUSED_GPU = (
    "There is an NVIDIA GPU here, but torch cannot use it, so all work is done by the CPU. Its driver may be too old for "
    "this torch: compare the CUDA version that nvidia-smi shows with the one torch was built for."
)
POISONED = (
    "The GPU has failed in a way that this process cannot mend, and takes no more work from it. What was saved is kept: "
    "restart ftui, then Resume goes on from the newest checkpoint."
)


class Device(NamedTuple):
    """`memory` in bytes: of the GPU, or of the machine (its container's limit, where that is lower)."""

    kind: str
    name: str
    memory: int
    cores: int
    bf16: bool

    @property
    def dtype(self) -> torch.dtype:
        """What the frozen base is kept and multiplied in: bf16 where the hardware has it, else fp16 on a GPU, fp32 on a CPU."""
        import torch

        return torch.bfloat16 if self.bf16 else torch.float16 if self.kind == "cuda" else torch.float32


@cache
def this_device() -> Device:
    """The first GPU, else the CPU. Emulated bf16 (a T4 says yes to `is_bf16_supported()`) does not count."""
    import torch

    cores = core_limit() or _cores()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Device("cuda", properties.name, properties.total_memory, cores, bf16)
    return Device("cpu", "CPU", machine_memory(), cores, _cpu_has_bf16())


def gpu_problem() -> str | None:
    """Why a GPU that this machine has is not used, unless somebody has hidden it on purpose; torch falls back silently."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return UNUSED_GPU if NVIDIA.exists() and this_device().kind == "cpu" and not hidden else None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_limit() -> int | None:
    """How many cores a container or a Space gives this process, where that is fewer than it sees; libraries count those."""
    limits = []
    with suppress(OSError, ValueError):  # no cgroup, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        limits.append(max(1, int(quota) // int(period)))
    if "SPACE_ID" in os.environ and os.environ.get("CPU_CORES", "").isdecimal():
        limits.append(max(1, int(os.environ["CPU_CORES"])))
    return min(limits) if limits and min(limits) < _cores() else None


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def machine_memory() -> int:
    """Bytes of memory this process may use."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no cgroup, or "max"
    return min(limits)


def memory_free() -> int:
    """Bytes of main memory that this process can still take."""
    import psutil

    return min(psutil.virtual_memory().available, machine_memory() - psutil.Process().memory_info().rss)


def disk_free(folder: Path) -> int:
    """Bytes that can still be written to a folder, or to the one it will be made in."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def memory_used() -> int:
    """Bytes in use now: reserved on the GPU, else resident in this process."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return torch.cuda.memory_reserved()
    return psutil.Process().memory_info().rss


def forget_peak() -> None:
    """From here on `memory_peak` counts anew."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):  # not Linux, or not allowed: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def memory_peak() -> int:
    """The most bytes that were in use at once, in the way of `memory_used`; where nobody keeps count, those in use now."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    try:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return memory_used()
    return int(line.split()[1]) * 1024


def release_memory() -> None:
    """Give freed blocks back, so that the next one to measure sees them."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # a poisoned GPU refuses this, too
            torch.cuda.empty_cache()
    with suppress(OSError):  # not glibc: the allocator decides
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """On a GPU, or on a CPU, where torch's allocator raises a plain RuntimeError."""
    texts = ("can't allocate memory", "out of memory", "bad_alloc", "bad alloc", "alloc_failed")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error).lower() for text in texts)
    )


def is_poisoned(error: BaseException) -> bool:
    """Whether the GPU refuses all further work of this process: these errors stick to its CUDA context until it ends.

    torch raises AcceleratorError, a RuntimeError; older builds and some libraries a plain one. A lack of memory passes.
    """
    if isinstance(error, RuntimeError) and any(text in str(error).lower() for text in STICKY):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and is_poisoned(cause)


class Lease:
    """Who holds the accelerator. Runs take it for long; the chat takes it for a reply, and gives its memory up for a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._give_way: list[Callable[[], None]] = []
        self.holder: str | None = None
        self.trouble: str | None = None

    def on_run(self, give_way: Callable[[], None]) -> None:
        """`give_way` is called whenever a run takes the accelerator, so that nothing idle sits in its memory."""
        self._give_way.append(give_way)

    @contextmanager
    def held_by(
        self, holder: str, timeout: float = 0, is_run: bool = True, listen: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Holds the accelerator within the block. UserError names the one who has it, after `timeout` seconds, or the
        trouble that only a restart ends. `listen` is called while one waits, and may raise."""
        until = time.monotonic() + timeout
        while not self._lock.acquire(timeout=min(LISTENING_SECONDS, max(0, until - time.monotonic()))):
            listen()
            if time.monotonic() >= until:
                raise UserError(
                    f"The accelerator is busy: {self.holder or 'another task'}. Wait until it is done, or stop it."
                )
        self.holder = holder
        try:
            if self.trouble:
                raise UserError(self.trouble)
            for give_way in self._give_way if is_run else ():
                give_way()
            yield
        except BaseException as error:
            self.note(error)
            raise
        finally:
            self.holder = None
            self._lock.release()

    def note(self, error: BaseException) -> None:
        """Remembers a failure after which the accelerator takes no more work from this process."""
        if is_poisoned(error):
            self.trouble = POISONED
