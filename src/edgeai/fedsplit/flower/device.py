"""One device of a run, in whatever process: its half of the model for one round, and its state between rounds.

The saved state is one blob: the tensors of the client half, the state of its channel end, and the number of draws of
its protection. From a round's blob and the messages of that round the round can be replayed to the bit, because halves
use derived random numbers only.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from edgeai.fedsplit.config.backend import InprocConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.privacy.protection import Protect, build_protect
from edgeai.fedsplit.protocol.channel import build_ends
from edgeai.fedsplit.protocol.client_half import State
from edgeai.fedsplit.protocol.devices import Answer
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.client_factory import ClientFactory
from edgeai.fedsplit.sim.inproc import answers

NOTHING = b""
"""The blob of a device without saved state."""


def config_text(cfg: SimConfig) -> str:
    """Return a run's config as sent to devices, without its backend."""
    return json.dumps(cfg.model_copy(update={"backend": InprocConfig()}).model_dump(mode="json"))


def digest_of(blob: bytes) -> str:
    """Return the digest of a blob; empty for NOTHING."""
    return hashlib.blake2b(blob, digest_size=16).hexdigest() if blob else ""


def read_blob(blob: bytes) -> dict[str, Any]:
    """Return the contents of a blob, with keys kept, end and protect; empty for NOTHING."""
    if not blob:
        return {}
    opened: dict[str, Any] = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    return opened


class DeviceFactory:
    """Model, data and protections of a run, from which the devices of a process are built.

    Args:
        text: The run's config, as `config_text` returns it.
        threads: torch threads, as many as at the server, because sums depend on how they are split; 0 for no change.
    """

    def __init__(self, text: str, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.cfg = SimConfig.model_validate(json.loads(text))
        self.sim = build_sim(self.cfg)
        self.protects: list[Protect | None] = list(self.sim.protects)
        self.halves = ClientFactory(self.cfg, self.sim.method, self.sim.clients, self.protects)


class DeviceRound:
    """A device in one round.

    Args:
        factory: Factory of the run's devices.
        client: Client number of the device.
        number: Round number.
        positions: Cut position of each client in this round.
        blob: Saved state of the device.
    """

    def __init__(self, factory: DeviceFactory, client: int, number: int, positions: Sequence[int], blob: bytes) -> None:
        cfg, method = factory.cfg, factory.sim.method
        if method.setup.positions != tuple(positions):
            method.setup = replace(method.setup, positions=tuple(positions))
        saved = read_blob(blob)
        self._protect = build_protect(cfg.privacy, cfg.seed, client, num_classes=factory.sim.dataset.num_classes)
        factory.protects[client] = self._protect
        self._end = build_ends(cfg.codec, cfg.seed, client)[0]
        kept: State = {}
        if saved:
            kept = saved["kept"]
            self._end.load_state(saved["end"])
            if self._protect is not None:
                self._protect.load_state(saved["protect"])
        self._half = factory.halves(client, number, kept)

    def exchange(self, op: str, wire: Message) -> Iterator[Answer]:
        """Process one request; yield the device's answers."""
        return answers(self._half, self._end, op, wire)

    def blob(self) -> bytes:
        """Return the device's current state as a blob."""
        saved = {
            "kept": {name: value.detach().clone() for name, value in self._half.kept.items()},
            "end": self._end.state(),
            "protect": None if self._protect is None else self._protect.state(),
        }
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        return buffer.getvalue()

    @property
    def memory_bytes(self) -> tuple[int, int]:
        """Peak memory, and the peak of activations held while waiting for the server."""
        return self._half.peak_bytes, self._half.held_bytes
