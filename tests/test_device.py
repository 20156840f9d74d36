"""What the machine is taken for, and who holds its accelerator."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from ftui import device
from ftui.device import Device, Lease, is_out_of_memory, is_poisoned, this_device
from ftui.errors import UserError


def test_a_gpu_that_only_emulates_bf16_computes_in_fp16_and_a_cpu_without_it_in_fp32():
    import torch

    assert Device("cuda", "Tesla T4", 16_000_000_000, 4, bf16=False).dtype is torch.float16
    assert Device("cuda", "L4", 24_000_000_000, 8, bf16=True).dtype is torch.bfloat16
    assert Device("cpu", "CPU", 8_000_000_000, 2, bf16=False).dtype is torch.float32


def test_emulated_bf16_is_not_asked_for(monkeypatch):
    import torch

    asked = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="Tesla T4", total_memory=16)
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: asked.update(options) or False)
    assert this_device.__wrapped__().bf16 is False
    assert asked == {"including_emulation": False}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`", True),
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: unspecified launch failure", True),
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`", True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("CUDA error: out of memory", False),
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_what_a_gpu_never_recovers_from_is_told_from_what_passes(text, expected):
    from torch import AcceleratorError

    assert is_poisoned(AcceleratorError(text)) is is_poisoned(RuntimeError(text)) is expected
    assert not is_poisoned(ValueError(text))
    try:
        try:
            raise AcceleratorError(text)
        except RuntimeError as error:
            raise ValueError("a library's own words") from error
    except ValueError as wrapped:
        assert is_poisoned(wrapped) is expected


def test_after_a_gpu_was_poisoned_by_whoever_held_it_nobody_gets_it_again():
    lease = Lease()
    with pytest.raises(RuntimeError), lease.held_by("the chat"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    for _ in range(2):
        with pytest.raises(UserError, match="restart ftui"), lease.held_by("run 7", timeout=1):
            pytest.fail("the accelerator was given away")
    assert lease.holder is None


def test_the_lease_names_its_holder_to_whoever_is_refused_and_is_free_afterwards():
    lease = Lease()
    with lease.held_by("run 7"), pytest.raises(UserError, match="busy: run 7"), lease.held_by("the chat"):
        pass
    with lease.held_by("the chat"):
        assert lease.holder == "the chat"
    assert lease.holder is None


def test_a_lease_is_free_again_after_a_failure():
    lease = Lease()
    with pytest.raises(ValueError), lease.held_by("run 7"):
        raise ValueError
    with lease.held_by("run 8"):
        assert lease.holder == "run 8"


def test_what_sits_idle_gives_way_to_a_run_and_not_to_a_reply():
    lease, given = Lease(), []
    lease.on_run(lambda: given.append("chat unloaded"))
    with lease.held_by("the chat", is_run=False):
        assert given == []
    with lease.held_by("run 7"):
        assert given == ["chat unloaded"]


def test_a_run_waits_for_a_reply_that_is_being_written():
    lease, replied = Lease(), threading.Event()

    def reply() -> None:
        with lease.held_by("the chat", is_run=False):
            replied.set()
            threading.Event().wait(0.2)

    chat = threading.Thread(target=reply)
    chat.start()
    replied.wait()
    with lease.held_by("run 7", timeout=10):
        assert lease.holder == "run 7"
    chat.join()


def test_a_run_that_waited_for_what_poisoned_the_gpu_does_not_begin_on_it():
    lease, waiting = Lease(), threading.Event()

    def reply() -> None:
        with suppress(RuntimeError), lease.held_by("the chat", is_run=False):
            waiting.wait()
            raise RuntimeError("CUDA error: device-side assert triggered")

    chat = threading.Thread(target=reply)
    chat.start()
    with pytest.raises(UserError, match="restart ftui"), lease.held_by("run 7", timeout=10, listen=waiting.set):
        raise AssertionError("it began")
    chat.join()


@pytest.mark.parametrize("said", ["CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "std::bad_alloc"])
def test_a_library_that_gets_no_memory_is_out_of_memory(said):
    assert device.is_out_of_memory(RuntimeError(said)) and not device.is_poisoned(RuntimeError(said))


@pytest.mark.parametrize(
    "quota, limit", [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("9900000 100000", None)]
)
def test_cores_are_those_that_the_container_may_use(monkeypatch, quota, limit):
    monkeypatch.setattr(device, "_cores", lambda: 16)
    monkeypatch.setattr(device.Path, "read_text", lambda path: quota)
    assert device.core_limit() == limit


def test_on_a_space_the_cores_are_those_of_its_hardware(monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 16)
    monkeypatch.setenv("CPU_CORES", "2")
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert device.core_limit() in (None, len(device.os.sched_getaffinity(0)))
    monkeypatch.setenv("SPACE_ID", "ana/tuner")
    assert device.core_limit() == 2


def test_memory_is_that_of_the_machine_or_less():
    import psutil

    assert 0 < device.machine_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(("hidden", "is_told"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_a_gpu_that_torch_cannot_use_is_told_and_one_that_was_hidden_is_not(monkeypatch, tmp_path, hidden, is_told):
    monkeypatch.setattr(device, "this_device", lambda: Device("cpu", "CPU", 8_000_000_000, 2, bf16=True))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device.gpu_problem() is None, "this machine has none"
    monkeypatch.setattr(device, "NVIDIA", tmp_path)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert bool(device.gpu_problem()) == is_told
