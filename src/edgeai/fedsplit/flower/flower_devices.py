"""Devices on Flower, over any transport, with the same accounting of bytes and time as the other backends."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.device import read_blob
from edgeai.fedsplit.flower.transport.device_transport import DeviceTransport, RoundStart
from edgeai.fedsplit.flower.transport.packing import moved
from edgeai.fedsplit.protocol.channel import build_ends
from edgeai.fedsplit.protocol.client_half import State
from edgeai.fedsplit.protocol.devices import Answer, Devices
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.transport import Reply, Request
from edgeai.fedsplit.sim.build import Sim


class FlowerDevices(Devices):
    """All devices of a run, reached over a transport.

    Args:
        sim: The run; its protections are updated from the devices' states.
        transport: Connection to the devices.
        device: torch device of the server's tensors.
    """

    def __init__(self, sim: Sim, transport: DeviceTransport, device: str) -> None:
        cfg = sim.cfg
        ends = [build_ends(cfg.codec, cfg.seed, client)[1] for client in range(cfg.num_clients)]
        super().__init__(ends, sim.clock, sim.ledger)
        self.transport = transport
        self._sim, self._device = sim, device
        self._run, self._attempt = uuid.uuid4().hex, 0
        self._blobs: dict[int, bytes] = {}
        self._awake: dict[int, None] = {}

    def begin(self, number: int) -> None:
        """See `Devices.begin`."""
        self._round = number
        self.transport.traffic.first_round = self.transport.traffic.first_round or number
        self._attempt += 1
        self._awake.clear()
        positions = self._sim.method.setup.positions
        self.transport.begin(RoundStart(self._run, number, self._attempt, positions, dict(self._blobs)))

    def end(self) -> None:
        """See `Devices.end`."""
        for client, outcome in self.transport.finish(list(self._awake)).items():
            self._blobs[client] = outcome.blob
            self.note_memory(client, outcome.peak_bytes, outcome.held_bytes)
            protect = self._sim.protects[client]
            if protect is not None:
                protect.load_state(read_blob(outcome.blob)["protect"])
        self._awake.clear()

    def kept(self, client: int) -> State:
        """See `Devices.kept`."""
        kept: dict[str, Tensor] = read_blob(self._blobs.get(client, b"")).get("kept", {})
        return {name: value.to(self._device) for name, value in kept.items()}

    def stream(self, op: str, requests: Mapping[int, Request]) -> dict[int, Iterator[Reply]]:
        """See `Transport.stream`. All devices start at the same time."""
        wires = {client: self._server_ends[client].pack(request.message) for client, request in requests.items()}
        self._awake |= dict.fromkeys(requests)
        self.transport.push(op, wires)
        return {
            client: self.timed(client, op, request, wires[client], self._answers(client))
            for client, request in requests.items()
        }

    def state(self) -> dict[str, Any]:
        """See `Devices.state`. Blobs are stored as byte tensors, which torch.load(weights_only=True) accepts."""
        return {
            "blobs": {client: torch.frombuffer(bytearray(blob), dtype=torch.uint8) for client, blob in self._filled()},
            "ends": [end.state() for end in self._server_ends],
            "peak_bytes": dict(self.peak_bytes),
            "held_bytes": dict(self.held_bytes),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """See `Devices.load_state`."""
        if "blobs" not in state:
            raise EdgeAIError("an in-process run cannot be resumed on Flower", hint="start a new run")
        self._blobs = {client: bytes(blob.numpy().tobytes()) for client, blob in state["blobs"].items()}
        for end, saved in zip(self._server_ends, state["ends"], strict=True):
            end.load_state(saved)
        self.peak_bytes, self.held_bytes = dict(state["peak_bytes"]), dict(state["held_bytes"])

    def away(self, clients: Sequence[int]) -> set[int]:
        """Return those of `clients` that cannot be reached now."""
        return self.transport.away(clients)

    def _filled(self) -> list[tuple[int, bytes]]:
        return [(client, blob) for client, blob in self._blobs.items() if blob]

    def _answers(self, client: int) -> Iterator[Answer]:
        for answer in self.transport.pull(client):
            yield Answer(None if answer.wire is None else self._moved(answer.wire), answer.flops)

    def _moved(self, wire: Message) -> Message:
        return moved(wire, self._device)
