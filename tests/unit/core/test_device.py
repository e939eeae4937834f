import os
import sys
from pathlib import Path

import pytest
import torch

from edgeai.core import device
from edgeai.core.device import choose_device, choose_dtype, num_cores, peak_memory_bytes, release_memory
from edgeai.core.errors import EdgeAIError, UsageError


def test_cpu():
    chosen = choose_device("cpu")
    assert (chosen.torch_device, chosen.why) == ("cpu", "asked for with --device cpu")
    assert chosen.threads == torch.get_num_threads() <= num_cores()


def test_more_threads_than_cores_are_limited():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_cores() + 3)
        assert choose_device("cpu").threads == torch.get_num_threads() == num_cores()
    finally:
        torch.set_num_threads(before)


def test_auto_without_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").torch_device == "cpu"
    assert choose_device("auto").why == "auto: no GPU that torch can use"


def test_auto_takes_cuda_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "Some GPU")
    assert choose_device("auto").torch_device == "cuda:0"
    assert choose_device("cuda:1").torch_device == "cuda:1"
    assert choose_device("cuda:1").why == "asked for with --device cuda:1: Some GPU"


def test_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EdgeAIError) as caught:
        choose_device("cuda:1")
    assert str(caught.value) == f"--device cuda:1: torch {torch.__version__} sees 1 CUDA devices here"
    assert (caught.value.exit_code, caught.value.hint) == (1, "use --device auto")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:1", "cuda:x", "mps:0"])
def test_unknown_device(name):
    with pytest.raises(UsageError) as caught:
        choose_device(name)
    assert str(caught.value) == f'unknown device "{name}"'


@pytest.mark.parametrize(("gain", "dtype"), [(2.0, "bfloat16"), (1.05, "float32"), (0.3, "float32")])
def test_dtype_on_a_cpu_follows_the_timing(monkeypatch, gain, dtype):
    monkeypatch.setattr(device, "bf16_gain", lambda: gain)
    assert choose_dtype("auto", "cpu") == dtype
    assert choose_dtype("float16", "cpu") == "float16"


def test_bf16_gain_is_measured_once():
    assert device.bf16_gain() == device.bf16_gain() > 0


def test_unknown_dtype():
    with pytest.raises(UsageError) as caught:
        choose_dtype("int8", "cpu")
    assert (str(caught.value), caught.value.hint) == (
        'unknown dtype "int8"',
        "use auto, float32, bfloat16 or float16",
    )


def test_peak_memory_agrees_with_the_kernels_other_count():
    """getrusage and /proc count the same peak; 5 % because they batch their updates apart."""
    resource = pytest.importorskip("resource")
    scale = 1 if sys.platform == "darwin" else 1024
    expected = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    assert peak_memory_bytes() == pytest.approx(expected, rel=0.05)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be asked")
def test_released_memory_goes_back_to_the_system():
    """Blocks below the mapping threshold stay with glibc when freed, as long as one above them is alive."""

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [bytearray(b"x" * 65536) for _ in range(2000)]  # 125 MiB
    kept = blocks[-1]
    full = resident_bytes()
    del blocks
    release_memory()
    assert full - resident_bytes() > 60 * 2**20
    assert len(kept) == 65536
