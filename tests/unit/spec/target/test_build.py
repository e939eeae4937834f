"""`target.runtime: auto`: which runtime is taken, and what is said about it."""

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target import build
from edgeai.spec.target.build import build_target
from edgeai.spec.target.native.library import Unavailable


class Notes:
    """A listener that keeps the notes."""

    def __init__(self):
        self.texts = []

    def on_note(self, text):
        self.texts.append(text)


@pytest.fixture
def choose(monkeypatch, tiny_tokenizer):
    """choose(model, device="cpu", **config): the runtime taken, and the notes; torch does not load anything."""
    monkeypatch.setattr(build, "load_torch_target", lambda *_, **__: TorchTarget)

    def run(model, *, device="cpu", **config):
        notes = Notes()
        target = build_target(
            TargetConfig(model=str(model), **config), device=device, metrics=Metrics(None, listener=notes)
        )
        return target.runtime, notes.texts

    return run


class TorchTarget:
    runtime = "torch"


def test_auto_takes_the_native_runtime_for_a_gguf_file_on_the_cpu(choose, write_gguf, library):
    runtime, notes = choose(write_gguf("Q4_1"))
    assert runtime == "native"
    assert notes == [f"target.runtime: auto: native on {library.name}, {torch.get_num_threads()} threads"]


def test_auto_says_why_it_takes_torch(choose, write_gguf, library, tiny_folder, monkeypatch):
    def why(model, **options):
        runtime, notes = choose(model, **options)
        assert runtime == "torch"
        (note,) = notes
        return note.removeprefix("target.runtime: auto: torch, because ")

    path = write_gguf("Q4_1")
    assert why(tiny_folder) == "the model is not a GGUF file"
    assert why(path, device="cuda:0") == "it runs on the CPU, not on cuda:0"
    assert why(path, dtype="float32") == "target.dtype=float32 is a number format of torch"
    assert why(write_gguf("F32", "gemma")).startswith("tiny-F32.gguf has the architecture 'gemma'")
    assert why(write_gguf("MXFP4")) == "the tensor 'token_embd.weight' has the type MXFP4"

    def unavailable():
        raise Unavailable("there is no C++ compiler", "sudo apt install g++")

    monkeypatch.setattr(build, "load_library", unavailable)
    assert why(path) == "there is no C++ compiler; for the native runtime: sudo apt install g++"
    assert why(tiny_folder) == "the model is not a GGUF file"


def test_a_runtime_that_is_named_is_taken_or_refused(choose, write_gguf, library, tiny_folder):
    path = write_gguf("Q4_1")
    assert choose(path, runtime="torch") == ("torch", [])
    assert choose(path, runtime="native", dtype="float32")[0] == "native"
    with pytest.raises(UsageError, match=r"cannot run .* here: it runs on the CPU, not on cuda:0"):
        choose(path, runtime="native", device="cuda:0")
    assert choose(tiny_folder, runtime="native", dtype="float32")[0] == "native"


def test_a_damaged_file_is_refused_and_not_given_to_torch(choose, write_gguf, library, tmp_path):
    whole = write_gguf("Q8_0").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgeAIError, match="is not a readable GGUF file"):
        choose(tmp_path / "cut.gguf")
