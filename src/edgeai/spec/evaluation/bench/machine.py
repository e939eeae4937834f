"""Description of the machine that a measurement ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from edgeai.core.device import peak_memory_bytes
from edgeai.core.metrics import Metrics


def hardware(device: torch.device) -> str:
    """Return the name of the processor or GPU, the number of CPU threads, and torch's version."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    model = model or platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{model}, {threads} {'thread' if threads == 1 else 'threads'}, torch {torch.__version__}"


def note_load(metrics: Metrics) -> None:
    """Note other processes that would disturb a measurement, if there are any."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        metrics.note(f"the machine is not quiet: {load:.1f} processes ran on average over the last minute")


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory: torch's allocations on a GPU, else the resident memory of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory_bytes()
