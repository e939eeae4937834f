"""Rounds over gRPC streams: the same result, also over links that break."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.client_program import Program
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.local_deployment.security import Security, self_signed
from edgeai.fedsplit.flower.transport import stream_service
from edgeai.fedsplit.flower.transport.chunks import Joiner, chunks
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes
from edgeai.fedsplit.flower.transport.device_transport import DeviceLost, Traffic
from edgeai.fedsplit.flower.transport.stream_service import Certificate, StreamService
from edgeai.fedsplit.flower.transport.stream_transport import ServiceAddress, StreamTransport
from edgeai.fedsplit.flower.transport.wire_records import get_message
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import play_round

from ..conftest import NUM_CLIENTS, LoopGrid, config, outcome_of
from ..test_parity import SIX


class ThreadGrid(LoopGrid):
    """A grid whose nodes run their rounds in threads."""

    def answer(self, message: Any) -> Any:
        if message.metadata.message_type == "query.hello":
            return super().answer(message)
        program = Program()
        _, words = get_message(message.content, "ask")
        program.factory(words["config"], words["threads"])  # seeds torch once, because threads share its random state
        threading.Thread(target=self._play, args=(program, message), daemon=True).start()
        return None

    def _play(self, program: Program, message: Any) -> None:
        from flwr.app import Message

        context = self.contexts[message.metadata.dst_node_id]
        content = program.round(message.content, context)
        self.replies[message.metadata.message_id] = Message(content, reply_to=message)

    def pull_messages(self, ids: Any) -> list[Any]:
        return [one for one in super().pull_messages(ids) if one is not None]


class Cutter:
    """A link that breaks after a number of uplink bytes and can be reopened at once."""

    def __init__(self, port: int, every_bytes: int) -> None:
        self.every_bytes, self.num_cuts = every_bytes, 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                for source, sink, limit in ((here, there, self.every_bytes), (there, here, None)):
                    threading.Thread(target=self._pump, args=(source, sink, limit), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                passed += len(data)
                if limit is not None and passed > limit:
                    self.num_cuts += 1
                    self.every_bytes *= 2  # so that the run comes to an end
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def streaming(
    cfg: Any, cut_bytes: int | None = None, silence_s: float = 60.0, tls: Security | None = None, root: str = ""
) -> Iterator[Any]:
    """Yield a run over streams, with its parts."""
    grid, traffic = ThreadGrid(), Traffic()
    certificate = Certificate(tls.key, tls.certificate) if tls and tls.key and tls.certificate else None
    service = StreamService("127.0.0.1", 0, NUM_CLIENTS, chunk_bytes=1000, traffic=traffic, certificate=certificate)
    cutter = Cutter(service.port, cut_bytes) if cut_bytes else None
    nodes = ClientNodes(grid, NUM_CLIENTS, interval_s=0.001, patience_s=5.0)  # type: ignore[arg-type]
    nodes.wait_for(NUM_CLIENTS)
    address = ServiceAddress(f"127.0.0.1:{cutter.port if cutter else service.port}", root)
    transport = StreamTransport(
        grid,  # type: ignore[arg-type]
        nodes,
        config_text(cfg),
        service,
        address,
        traffic,
        threads=0,
        chunk_bytes=1000,
        silence_s=silence_s,
        start_s=silence_s,
    )
    sim = build_sim(cfg)
    try:
        yield dataclasses.replace(sim, devices=FlowerDevices(sim, transport, "cpu")), cutter, grid, service
    finally:
        if cutter:
            cutter.close()
        service.close()


@pytest.mark.usefixtures("grid")
@pytest.mark.parametrize("method", [*SIX, {"kind": "splitfed-v3"}], ids=lambda method: method["kind"])
def test_streams_change_nothing(method: dict[str, Any]) -> None:
    cfg = config(method=method)
    with streaming(cfg) as (sim, _, _, _):
        assert outcome_of(sim) == outcome_of(build_sim(cfg))
        traffic = sim.devices.transport.traffic
        ledger = sim.ledger.totals
        assert traffic.up_received >= ledger.up_bytes
        assert traffic.down_sent >= ledger.down_bytes


@pytest.mark.usefixtures("grid")
@pytest.mark.parametrize("method", ["splitfed-v2", "cse-fsl", "fedavg"])
def test_a_link_that_breaks_in_the_middle_changes_nothing(method: str) -> None:
    cfg = config(method=method, rounds=1)
    with streaming(cfg, cut_bytes=3000) as (sim, cutter, _, service):
        found = outcome_of(sim)
        assert found == outcome_of(build_sim(cfg))
        assert cutter.num_cuts >= 2, "the case was not met"
        assert max(line.num_links for line in service.sessions.values()) >= 2


@pytest.mark.usefixtures("grid")
def test_damage_on_the_way_down_is_repaired_by_a_new_link(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged: list[int] = []

    def chunks_with_damage(payload: bytes, size: int) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks(payload, size)):
            if number == 2 and len(damaged) < 3:
                damaged.append(number)
                yield chunk[:-1] + bytes([chunk[-1] ^ 1])
            else:
                yield chunk

    monkeypatch.setattr(stream_service, "chunks", chunks_with_damage)
    cfg = config(method="splitfed-v2", rounds=1)
    with streaming(cfg) as (sim, _, _, service):
        assert outcome_of(sim) == outcome_of(build_sim(cfg))
        assert len(damaged) == 3, "the case was not met"
        assert max(line.num_links for line in service.sessions.values()) >= 2


@pytest.mark.usefixtures("grid")
def test_streams_over_tls_trust_the_right_certificate_only(tmp_path: Path) -> None:
    cfg = config(method="splitfed-v2", rounds=1)
    ours, other = (self_signed(tmp_path / name, "127.0.0.1") for name in ("ours", "other"))
    assert ours.root is not None
    assert other.root is not None
    with streaming(cfg, tls=ours, root=ours.root.read_text()) as (sim, _, _, _):
        assert outcome_of(sim) == outcome_of(build_sim(cfg))
    with (
        streaming(cfg, silence_s=1.0, tls=ours, root=other.root.read_text()) as (sim, _, _, _),
        pytest.raises(DeviceLost),
    ):
        play_round(sim, 1)


@pytest.mark.usefixtures("grid")
def test_a_device_that_never_calls_is_lost() -> None:
    with streaming(config(method="fedavg"), silence_s=0.6) as (sim, _, grid, _):
        grid.silent.add(102)
        with pytest.raises(DeviceLost) as caught:
            play_round(sim, 1)
    assert caught.value.client == 2


def test_chunks_hold_all_of_a_payload() -> None:
    payload, joiner = bytes(range(256)) * 10, Joiner()
    found = [joiner.add(chunk) for chunk in chunks(payload, 1000)]
    assert found == [None, None, payload]
    assert [joiner.add(chunk) for chunk in chunks(b"x", 1000)] == [b"x"]


def test_damaged_and_misplaced_chunks_do_not_pass() -> None:
    first, second = chunks(bytes(1500), 1000)
    damaged = bytearray(first)
    damaged[-1] ^= 1
    for chunk, text in (
        (bytes(damaged), "a chunk of a stream is corrupt: its checksum does not match"),
        (second, "a chunk of a stream is out of order: it starts at byte 1000, expected 0"),
    ):
        with pytest.raises(EdgeAIError) as caught:
            Joiner().add(chunk)
        assert str(caught.value) == text
