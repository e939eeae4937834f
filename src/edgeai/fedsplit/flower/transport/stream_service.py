"""The server's gRPC service: one bidirectional stream a device and round, over links that may break."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.flower.transport.chunks import Joiner, chunks
from edgeai.fedsplit.flower.transport.courier import Traffic
from edgeai.fedsplit.flower.transport.packing import unpack_message
from edgeai.fedsplit.flower.transport.stream_line import Line, drain

SERVICE, METHOD = "edgeai.fedsplit.Stream", "Round"
PATH = f"/{SERVICE}/{METHOD}"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),  # finds links that are dead without a word
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


@dataclass(frozen=True)
class Certificate:
    """The service's, where the link is encrypted."""

    key: Path
    chain: Path


class StreamService:
    """Takes devices' links, and gives each to its line.

    Args:
        host: Address to listen on.
        port: 0 for a free one.
        num_clients: Of the run.
        chunk_bytes: Of what goes down.
        traffic: Bytes are counted here.
        certificate: None leaves the link open to read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        num_clients: int,
        *,
        chunk_bytes: int,
        traffic: Traffic,
        certificate: Certificate | None = None,
    ) -> None:
        self.token = secrets.token_hex(16)
        """Devices show it; it came to them by Flower."""
        self.lines: dict[int, Line] = {}
        self._chunk_bytes, self._traffic = chunk_bytes, traffic
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(2 * num_clients + 4), options=OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(self._round)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        where = f"{host}:{port}"
        if certificate is None:
            self.port = int(self._server.add_insecure_port(where))
        else:
            pair = (certificate.key.read_bytes(), certificate.chain.read_bytes())
            self.port = int(self._server.add_secure_port(where, grpc.ssl_server_credentials([pair])))
        if not self.port:
            raise EdgeAIError(f"cannot listen on {where}", hint="choose another backend.stream_port, or 0")
        self._server.start()

    def close(self) -> None:
        """Ends all links."""
        for line in self.lines.values():
            line.close()
        self._server.stop(grace=1.0).wait()

    def _round(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """One link, from its hello to its end."""
        joiner = Joiner()
        payload = self._next(incoming, joiner)
        if payload is None:
            return
        _, words = unpack_message(payload)
        line = self.lines.get(words["client"])
        if not secrets.compare_digest(words["token"], self.token):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
        if line is None or line.attempt != words["attempt"]:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this attempt is over")
        assert line is not None
        out = line.attach(words["num_seen"])
        threading.Thread(target=self._listen, args=(line, incoming, joiner, context), daemon=True).start()
        context.add_callback(lambda: out.put(None))  # a dead link must not hold its thread
        for payload in drain(out):
            for chunk in chunks(payload, self._chunk_bytes):
                with self._lock:
                    self._traffic.down_sent += len(chunk)
                yield chunk

    def _listen(self, line: Line, incoming: Iterator[bytes], joiner: Joiner, context: grpc.ServicerContext) -> None:
        """Takes in what a device says until its link ends; a damaged chunk ends it, and the device comes anew."""
        try:
            while (payload := self._next(incoming, joiner)) is not None:
                line.take(payload)
        except (grpc.RpcError, EdgeAIError, ValueError):
            context.cancel()

    def _next(self, incoming: Iterator[bytes], joiner: Joiner) -> bytes | None:
        for chunk in incoming:
            with self._lock:
                self._traffic.up_received += len(chunk)
            payload = joiner.add(chunk)
            if payload is not None:
                return payload
        return None
