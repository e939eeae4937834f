"""One device of a run, wherever its process is: its half of the model for one round, and what it keeps between rounds.

What a device keeps is one blob: the tensors that its half keeps, the state of its end of the link, and how often its
protection drew. With a round's blob and the messages of that round it can be played again to the bit, because halves
draw nothing but derived chances.
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
"""The blob of a device that has kept nothing yet."""


def config_text(cfg: SimConfig) -> str:
    """A run's config as it travels to devices, which need not know where they are."""
    return json.dumps(cfg.model_copy(update={"backend": InprocConfig()}).model_dump(mode="json"))


def digest_of(blob: bytes) -> str:
    """Names a blob by its content; empty for NOTHING."""
    return hashlib.blake2b(blob, digest_size=16).hexdigest() if blob else ""


def read_blob(blob: bytes) -> dict[str, Any]:
    """Opens a blob: kept, end, protect; empty for NOTHING."""
    if not blob:
        return {}
    opened: dict[str, Any] = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    return opened


class Workshop:
    """What the devices of a run are built from; one for all of them in a process.

    Args:
        text: The run's config, as `config_text` gives it.
        threads: Threads of torch, as at the server: sums depend on how they are split.
    """

    def __init__(self, text: str, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.cfg = SimConfig.model_validate(json.loads(text))
        self.sim = build_sim(self.cfg)
        self.protects: list[Protect | None] = list(self.sim.protects)
        self.halves = ClientFactory(self.cfg, self.sim.method, self.sim.clients, self.protects)


class LiveRound:
    """A device that is awake in one round.

    Args:
        workshop: Of the run.
        client: Number of the device.
        number: Of the round.
        positions: Each client's cut in this round.
        blob: What the device kept.
    """

    def __init__(self, workshop: Workshop, client: int, number: int, positions: Sequence[int], blob: bytes) -> None:
        cfg, method = workshop.cfg, workshop.sim.method
        if method.setup.positions != tuple(positions):
            method.setup = replace(method.setup, positions=tuple(positions))
        saved = read_blob(blob)
        self._protect = build_protect(cfg.privacy, cfg.seed, client, num_classes=workshop.sim.dataset.num_classes)
        workshop.protects[client] = self._protect
        self._end = build_ends(cfg.codec, cfg.seed, client)[0]
        kept: State = {}
        if saved:
            kept = saved["kept"]
            self._end.load_state(saved["end"])
            if self._protect is not None:
                self._protect.load_state(saved["protect"])
        self._half = workshop.halves(client, number, kept)

    def exchange(self, op: str, wire: Message) -> Iterator[Answer]:
        """One request and what the device says to it."""
        return answers(self._half, self._end, op, wire)

    def blob(self) -> bytes:
        """What the device keeps as of now."""
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
        """The most it held, and the most of it that waited for the server."""
        return self._half.peak_bytes, self._half.held_bytes
