"""Programs and packages that behave like llama.cpp."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FAKE = Path(__file__).with_name("fake_llama.py")
WHEEL = """
import json, sys, threading
from types import SimpleNamespace
sys.path.insert(0, {folder!r})
import fake_llama

class llama_flash_attn_type:
    LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED = 0, 1

class common_speculative_type:
    COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE = "ngram-simple"
    COMMON_SPECULATIVE_TYPE_DRAFT_EAGLE3 = "draft-eagle3"

class CommonParams(SimpleNamespace):
    def __init__(self):
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())
        draft = SimpleNamespace(mparams=SimpleNamespace(), cpuparams=SimpleNamespace(),
                                cpuparams_batch=SimpleNamespace())
        self.speculative = SimpleNamespace(types=[], draft=draft, ngram_simple=SimpleNamespace())

class Server:
    def __init__(self, params):
        with open(fake_llama.orders()["log"], "a") as log:
            log.write("start " + json.dumps(params, default=vars) + "\\n")
        mode = (params.speculative.types or ["plain"])[0]
        server = fake_llama.serve(params.model.path, params.port, mode=mode, flash_attention=params.flash_attn_type)
        threading.Thread(target=server.serve_forever, daemon=True).start()

def get_system_info():
    return "CPU : SSE3 = 1 | FMA = 1 | "
"""


class Fake:
    """Orders for the fake, its program, and what it has received."""

    def __init__(self, folder: Path) -> None:
        self._orders, self._log = folder / "orders.json", folder / "log.txt"
        self.program = folder / "llama-server"
        self.program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKE}" "$@"\n')
        self.program.chmod(0o755)
        self.model = folder / "model.gguf"
        self.model.write_bytes(b"GGUF" + bytes(60))
        self.order()

    def order(self, **orders: Any) -> None:
        """Set the orders of all servers, running ones included."""
        self._orders.write_text(json.dumps({"answers": {}, "log": str(self._log), **orders}))

    @property
    def environment(self) -> str:
        return str(self._orders)

    def received(self, kind: str) -> list[dict[str, Any]]:
        """Requests of one kind: "start", or the completions of a mode such as "plain:"."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(f"{kind} ")]

    def order_of_events(self) -> list[str]:
        """The first words of all lines of the log."""
        return [line.split()[0].rstrip(":") for line in self._log.read_text().splitlines()]

    def note(self, line: str) -> None:
        """Append a line to the log."""
        with self._log.open("a") as log:
            log.write(f"{line}\n")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """llama-server as `fake.program`, a GGUF file as `fake.model`."""
    made = Fake(tmp_path)
    monkeypatch.setenv("FAKE_LLAMA", made.environment)
    return made


@pytest.fixture
def fake_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The package xllamacpp, for this process and its children."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "xllamacpp.py").write_text(WHEEL.format(folder=str(FAKE.parent)))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
