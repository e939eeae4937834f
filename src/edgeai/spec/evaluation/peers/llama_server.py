"""A llama.cpp server as a child process on a loopback port, and its completions of prompts given as token ids."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.evaluation.peers.peer import PeerAnswer

START_S = 120.0
"""Time within which a server must have loaded the model."""
ANSWER_S = 900.0
_POLL_S = 0.05
_ADDRESS = "127.0.0.1"


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((_ADDRESS, 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class _Reply:
    status: int
    body: Any


class LlamaServer:
    """Start a server and wait until it has loaded the model.

    Args:
        name: Name in error messages.
        command: Program and arguments of the server.
        port: Port that the command makes it listen on.
        model: GGUF file that the command makes it load.

    Raises:
        UsageError: The program cannot be run.
        EdgeAIError: The server ended, serves another model, or does not become ready.
    """

    def __init__(self, name: str, command: Sequence[str], *, port: int, model: Path) -> None:
        self.name = name
        self._port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT, bufsize=0
            )
        except OSError as error:
            self._log.close()
            raise UsageError(f"cannot run {command[0]}: {error.strerror}", hint="see llamacpp.servers") from error
        try:
            self._wait_until_ready()
            self._check_model(model)
        except BaseException:
            self.close()
            raise

    def answer(self, prompt_ids: Sequence[int], max_tokens: int) -> PeerAnswer:
        """Answer a prompt greedily, without reuse of earlier prompts.

        Args:
            prompt_ids: Prompt with its chat template applied.
            max_tokens: Most tokens of the answer.

        Raises:
            EdgeAIError: The server ended, refused the prompt, or sent something else than a completion.
        """
        request = {
            "prompt": list(prompt_ids),
            "n_predict": max_tokens,
            "temperature": 0.0,
            "samplers": ["top_k"],
            "top_k": 1,
            "cache_prompt": False,
            "return_tokens": True,
        }
        reply = self._ask("POST", "/completion", request, ANSWER_S)
        if reply.status != 200:
            reason = _error_message(reply.body) or f"HTTP status {reply.status}"
            raise EdgeAIError(f"{self.name} refused a prompt of {len(prompt_ids)} tokens: {reason}")
        try:
            ids = tuple(int(token) for token in reply.body["tokens"])
            timings = reply.body["timings"]
            num_prompt, num_predicted = int(timings["prompt_n"]), int(timings["predicted_n"])
            prefill_s, decode_s = float(timings["prompt_ms"]) / 1e3, float(timings["predicted_ms"]) / 1e3
        except (KeyError, TypeError, ValueError) as error:
            raise EdgeAIError(f"{self.name} did not send tokens and timings; its version is too old or new") from error
        if num_prompt != len(prompt_ids) or len(ids) != num_predicted:
            raise EdgeAIError(
                f"{self.name} read {num_prompt} of {len(prompt_ids)} prompt tokens and sent {len(ids)} of "
                f"{num_predicted} tokens; its timings do not fit"
            )
        return PeerAnswer(ids, max(num_predicted - 1, 0), decode_s, num_prompt, prefill_s)

    def close(self) -> None:
        """End the process and wait for it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise self._ended()
            try:
                if self._request("GET", "/health", None, 5.0).status == 200:
                    return
            except (OSError, HTTPException, ValueError):
                pass  # not listening yet
            time.sleep(_POLL_S)
        raise EdgeAIError(f"{self.name} did not load the model within {START_S:.0f} s{self._last_line()}")

    def _check_model(self, model: Path) -> None:
        """Refuse another server that was on the port before."""
        reply = self._ask("GET", "/props", None, 30.0)
        served = reply.body.get("model_path") if isinstance(reply.body, dict) else None
        if served != str(model):
            raise EdgeAIError(f"port {self._port} answers for {served or 'something else'}, not for {model}")

    def _ask(self, method: str, path: str, body: Any, timeout_s: float) -> _Reply:
        try:
            return self._request(method, path, body, timeout_s)
        except TimeoutError as error:
            raise EdgeAIError(f"{self.name} did not answer within {timeout_s:.0f} s") from error
        except (OSError, HTTPException) as error:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                raise EdgeAIError(f"{self.name} closed the connection: {error}") from error
            raise self._ended() from error
        except ValueError as error:
            raise EdgeAIError(f"{self.name} did not send JSON; it is not a llama.cpp server") from error

    def _request(self, method: str, path: str, body: Any, timeout_s: float) -> _Reply:
        connection = HTTPConnection(_ADDRESS, self._port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            return _Reply(reply.status, json.loads(reply.read()))
        finally:
            connection.close()

    def _ended(self) -> EdgeAIError:
        code = self._process.returncode
        if code == -signal.SIGILL:
            hint = "compile it for this machine without AMX: docs, Comparison with llama.cpp"
            return EdgeAIError(f"{self.name} was ended by an illegal instruction: it does not suit this CPU", hint=hint)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return EdgeAIError(f"{self.name} {how}{self._last_line()}")

    def _last_line(self) -> str:
        """Return the last error in the log, else its last line, to append to a message."""
        lines = [line.strip() for line in self._log_text().splitlines() if line.strip()]
        errors = [line for line in lines if re.search(r"error|fail|couldn't|cannot", line, re.IGNORECASE)]
        return f": {(errors or lines)[-1][:200]}" if lines else ""

    def _log_text(self) -> str:
        log = self._log.fileno()  # pread: the child writes at the offset that both share
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")


def _error_message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""
