"""llama.cpp servers as child processes: answers, and a clear line for each way to fail."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.evaluation.peers import llama_builds, llama_server
from edgeai.spec.evaluation.peers.llama_builds import BinaryBuild, Options
from edgeai.spec.evaluation.peers.llama_server import LlamaServer


@pytest.fixture
def start(fake: Any) -> Iterator[Callable[[], LlamaServer]]:
    """start(): a server of the fake program; all are ended with the test."""
    started: list[LlamaServer] = []

    def make() -> LlamaServer:
        options = Options(model=fake.model, threads=2, context=128, flash_attention=True)
        started.append(BinaryBuild(str(fake.program)).start("llama-server", options))
        return started[-1]

    yield make
    for server in started:
        server.close()


def test_answer_holds_tokens_and_times(fake: Any, start: Any) -> None:
    fake.order(answers={"4 5 6": [7, 8, 9, 2]})
    server = start()
    answer = server.answer([4, 5, 6], 10)
    assert answer.ids == (7, 8, 9, 2)
    # the first token belongs to the prefill, as in edgeai
    assert (answer.num_timed, answer.decode_s) == (3, 0.015)
    assert (answer.num_prompt_tokens, answer.prefill_s) == (3, 0.006)
    (request,) = fake.received("plain:")
    assert request["prompt"] == [4, 5, 6]
    assert (request["n_predict"], request["temperature"], request["top_k"]) == (10, 0.0, 1)
    assert request["cache_prompt"] is False


def test_process_ends_with_close(start: Any) -> None:
    server = start()
    server.close()
    assert server._process.returncode is not None
    server.close()  # once more does nothing


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"fault": "refuses"}, "llama-server refused a prompt of 3 tokens: the request exceeds the context"),
        ({"fault": "no timings"}, "llama-server did not send tokens and timings; its version is too old or new"),
        ({"fault": "no json"}, "llama-server did not send JSON; it is not a llama.cpp server"),
        ({"dies_after": {"plain": 0}}, "llama-server ended with exit code 7: ggml: error: out of paper"),
        (
            {"fault": "illegal instruction"},
            "llama-server was ended by an illegal instruction: it does not suit this CPU",
        ),
        (
            {"fault": "cached"},
            "llama-server read 2 of 3 prompt tokens and sent 4 of 4 tokens; its timings do not fit",
        ),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_failed_answers(fake: Any, start: Any, orders: dict[str, Any], message: str) -> None:
    server = start()
    fake.order(**orders)
    with pytest.raises(EdgeAIError) as caught:
        server.answer([4, 5, 6], 4)
    assert caught.value.message == message


def test_model_that_cannot_be_loaded(fake: Any, start: Any) -> None:
    fake.order(fault="cannot load")
    with pytest.raises(EdgeAIError) as caught:
        start()
    assert caught.value.message == (
        "llama-server ended with exit code 1: llama_model_load: error loading model: unknown tensor type"
    )


@pytest.mark.parametrize("fault", ["never ready", "hangs"])
def test_server_that_never_becomes_ready(fake: Any, start: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(llama_server, "START_S", 1.0)
    fake.order(fault=fault)
    with pytest.raises(EdgeAIError) as caught:
        start()
    assert caught.value.message.startswith("llama-server did not load the model within 1 s")


def test_port_in_use_by_another_server(fake: Any, start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = start()._port
    monkeypatch.setattr(llama_builds, "free_port", lambda: port)
    other = tmp_path / "other.gguf"
    with pytest.raises(EdgeAIError) as caught:
        BinaryBuild(str(fake.program)).start("llama-server", Options(other, 2, 128, True))
    # which of the two is noticed first depends on how fast the program fails to listen
    assert caught.value.message in (
        f"port {port} answers for {fake.model}, not for {other}",
        "llama-server ended with exit code 1: OSError: [Errno 98] Address already in use",
    )


def test_port_in_use_by_something_that_does_not_answer(fake: Any, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setattr(llama_builds, "free_port", lambda: listener.getsockname()[1])
        with pytest.raises(EdgeAIError) as caught:
            start()
    assert caught.value.message == "llama-server ended with exit code 1: OSError: [Errno 98] Address already in use"


def test_program_that_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("text")
    with pytest.raises(UsageError) as caught:
        LlamaServer("llama-server", [str(program)], port=1, model=tmp_path)
    assert caught.value.message == f"cannot run {program}: Permission denied"
