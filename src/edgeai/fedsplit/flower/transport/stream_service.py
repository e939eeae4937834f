"""The server's gRPC service: one bidirectional stream per device and round, over links that may break."""

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
from edgeai.fedsplit.flower.transport.device_transport import Traffic
from edgeai.fedsplit.flower.transport.packing import unpack_message
from edgeai.fedsplit.flower.transport.stream_session import StreamSession, drain

SERVICE, METHOD = "edgeai.fedsplit.Stream", "Round"
PATH = f"/{SERVICE}/{METHOD}"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),  # detects links that died silently
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


@dataclass(frozen=True)
class Certificate:
    """Files of the service's TLS certificate."""

    key: Path
    chain: Path


class StreamService:
    """gRPC service that attaches each device's link to its session.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        num_clients: Number of clients of the run.
        chunk_bytes: Chunk size of downlink payloads.
        traffic: Receives the byte counts.
        certificate: TLS certificate; None for unencrypted links.
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
        """Secret that devices receive through Flower and present here."""
        self.sessions: dict[int, StreamSession] = {}
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
        """End all links."""
        for session in self.sessions.values():
            session.close()
        self._server.stop(grace=1.0).wait()

    def _round(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serve one link, from hello to its end."""
        joiner = Joiner()
        payload = self._next(incoming, joiner)
        if payload is None:
            return
        _, words = unpack_message(payload)
        session = self.sessions.get(words["client"])
        if not secrets.compare_digest(words["token"], self.token):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
        if session is None or session.attempt != words["attempt"]:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this attempt is over")
        assert session is not None
        out = session.attach(words["num_seen"])
        threading.Thread(target=self._listen, args=(session, incoming, joiner, context), daemon=True).start()
        context.add_callback(lambda: out.put(None))  # a dead link must not block its thread
        for payload in drain(out):
            for chunk in chunks(payload, self._chunk_bytes):
                with self._lock:
                    self._traffic.down_sent += len(chunk)
                yield chunk

    def _listen(
        self, session: StreamSession, incoming: Iterator[bytes], joiner: Joiner, context: grpc.ServicerContext
    ) -> None:
        """Process a device's payloads until its link ends. A corrupt chunk ends the link; the device reconnects."""
        try:
            while (payload := self._next(incoming, joiner)) is not None:
                session.take(payload)
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
