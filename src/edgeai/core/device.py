"""Choice of device, number format and thread count, with the reason."""

import contextlib
import ctypes
import functools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeai.core.errors import EdgeAIError, UsageError

DTYPES = ("float32", "bfloat16", "float16")
# A gain below this is timing noise, and float32 has no rounding questions.
_WORTHWHILE_GAIN = 1.1
_TIMED_ROUNDS = 12


@dataclass(frozen=True)
class Device:
    """A chosen device."""

    torch_device: str
    """torch device: "cpu", "cuda:0" or "mps"."""
    why: str
    threads: int
    """Number of CPU threads of torch."""


def choose_device(name: str) -> Device:
    """Choose the device, and limit torch's threads to the cores of this process.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1" or "mps". Auto takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: The name is unknown.
        EdgeAIError: This machine or this build of torch does not have the device.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(f'unknown device "{name}"', hint="use auto, cpu, cuda, cuda:1 or mps")
    if torch.get_num_threads() > num_cores():
        torch.set_num_threads(num_cores())
    threads = torch.get_num_threads()
    asked = "auto" if kind == "auto" else f"asked for with --device {name}"
    num_cuda, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if kind == "cuda" and int(index or 0) >= num_cuda:
        raise EdgeAIError(
            f"--device {name}: torch {torch.__version__} sees {num_cuda} CUDA devices here", hint="use --device auto"
        )
    if kind == "mps" and not has_mps:
        raise EdgeAIError("--device mps: torch sees no Apple GPU here", hint="use --device auto")
    if kind == "cuda" or (kind == "auto" and num_cuda):
        device = f"cuda:{index or 0}"
        return Device(device, f"{asked}: {torch.cuda.get_device_name(device)}", threads)
    if kind == "mps" or (kind == "auto" and has_mps):
        return Device("mps", f"{asked}: Apple GPU", threads)
    return Device("cpu", asked if kind == "cpu" else f"{asked}: no GPU that torch can use", threads)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Limit the threads that torch uses for its operations from the calling thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_dtype(name: str, device: str) -> str:
    """Choose the number format of model weights.

    Args:
        name: "auto", "float32", "bfloat16" or "float16".
        device: The torch device.

    Returns:
        The format. Auto takes bfloat16 where it is faster than float32: on a GPU that has it, and on a CPU only if a
        timing says so, which may differ between machines: store the result with everything that depends on it.

    Raises:
        UsageError: The format is unknown.
    """
    if name in DTYPES:
        return name
    if name != "auto":
        raise UsageError(f'unknown dtype "{name}"', hint="use auto, float32, bfloat16 or float16")
    kind = torch.device(device).type
    if kind == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if kind == "cpu" and bf16_gain() >= _WORTHWHILE_GAIN:
        return "bfloat16"
    return "float32"


@functools.cache
def bf16_gain() -> float:
    """Time a matrix product of the size in a small model on the CPU.

    Returns:
        The time in float32 divided by the time in bfloat16, each the best of several; above 1 bfloat16 is faster.
    """
    best_s = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    operands = {dtype: (torch.ones(16, 1024, dtype=dtype), torch.ones(4096, 1024, dtype=dtype)) for dtype in best_s}
    for _ in range(_TIMED_ROUNDS):  # in turn, so that other load slows both alike
        for dtype, (x, weight) in operands.items():
            begin = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            best_s[dtype] = min(best_s[dtype], time.perf_counter() - begin)
    return best_s[torch.float32] / best_s[torch.bfloat16]


def num_cores() -> int:
    """Return the number of usable cores: the affinity of this process, limited by a container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def release_memory() -> None:
    """Return freed pages to the system on Linux; does nothing elsewhere.

    glibc keeps the pages of freed tensors. Tensors of changing sizes do not fit into the gaps, so that the process
    would grow to several times the memory in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
