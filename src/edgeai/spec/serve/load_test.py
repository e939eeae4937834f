"""`edgeai spec load`: what a server does under load on the loopback, and whether every answer is right.

A server is started as a process of its own. Rounds of 1, 4, 16 clients ask greedily, each with speculation and
without, interleaved. Afterwards plain decoding answers the same prompts here; in float32 every served answer must be
the same, token for token. Below, `ties.py` looks into every difference.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from edgeai.core.config import dump_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.spec.config.load import LoadConfig
from edgeai.spec.data.prompts import builtin_prompts, load_prompts, select
from edgeai.spec.serve.near_ties import Checker
from edgeai.spec.serve.reports import LoadReport, Round
from edgeai.spec.target.loading import load_target

_START_S = 1800.0
_STOP_S = 60.0
_SHORT_TOKENS = 8
_MEMORY_PROBES = 5


@dataclass(frozen=True)
class Heard:
    """One answer as a client saw it."""

    prompt: int
    """Which of the prompts."""
    ids: tuple[int, ...]
    first_s: float
    """From asking to the first text."""
    gaps_s: tuple[float, ...]
    """For every token after the first text: the time since the text before, shared by the tokens that came together."""
    accept_len: float


def run_load(cfg: LoadConfig, run: Run) -> LoadReport:
    """Start a server, load it, end it, check its answers.

    Raises:
        EdgeAIError: The server did not start, or did not answer.
    """
    prompts = load_prompts(cfg.prompts) if cfg.prompts else builtin_prompts()
    texts = [prompt.turns[0] for prompt in select(prompts, cfg.max_prompts)]
    plays: list[tuple[int, bool, float, list[Heard]]] = []
    memory: list[int] = []
    with _server(cfg, run) as (url, name, pid):
        asyncio.run(_play(url, name, texts, 1, len(texts[:2]), cfg.max_tokens, speculates=True))  # warms up
        for number, clients in enumerate(cfg.clients):
            for speculates in (True, False):
                run.metrics.progress("rounds", 2 * number + (not speculates), 2 * len(cfg.clients), unit="round")
                count = max(cfg.requests, 2 * clients)
                begin_s = time.perf_counter()
                heard = asyncio.run(_play(url, name, texts, clients, count, cfg.max_tokens, speculates=speculates))
                plays.append((clients, speculates, time.perf_counter() - begin_s, heard))
        run.metrics.progress("rounds", 2 * len(cfg.clients), 2 * len(cfg.clients), unit="round")
        for probe in range(_MEMORY_PROBES if cfg.memory_requests else 0):
            run.metrics.progress("memory", probe, _MEMORY_PROBES, unit="part")
            count = max(cfg.memory_requests // _MEMORY_PROBES, 1)
            asyncio.run(_play(url, name, texts, max(cfg.clients), count, _SHORT_TOKENS, speculates=True))
            memory.append(_resident_bytes(pid))
    target = load_target(cfg.serve.target, device=run.info["device"], metrics=run.metrics)
    checker = Checker(target, texts, max_tokens=cfg.max_tokens)
    rounds = []
    for number, (clients, speculates, wall_s, heard) in enumerate(plays):
        run.metrics.progress("checking answers", number, len(plays), unit="round")
        rounds.append(_summary(clients, speculates, wall_s, heard, checker))
    run.metrics.progress("checking answers", len(plays), len(plays), unit="round")
    return LoadReport(str(target.dtype).removeprefix("torch."), tuple(rounds), tuple(memory))


def _summary(clients: int, speculates: bool, wall_s: float, heard: Sequence[Heard], checker: Checker) -> Round:
    verdicts = [checker.judge(one.prompt, one.ids) for one in heard]
    gaps = sorted(gap for one in heard for gap in one.gaps_s)
    firsts = sorted(one.first_s for one in heard)
    return Round(
        clients=clients,
        speculates=speculates,
        num_requests=len(heard),
        num_tokens=sum(len(one.ids) for one in heard),
        wall_s=wall_s,
        first_s=(percentile(firsts, 0.5), percentile(firsts, 0.95)),
        gap_s=(percentile(gaps, 0.5), percentile(gaps, 0.95), percentile(gaps, 0.99)),
        accept_len=sum(one.accept_len for one in heard) / len(heard),
        num_ties=verdicts.count("tie"),
        num_wrong=verdicts.count("wrong"),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    place = -(-len(ordered) * round(share * 1000) // 1000)  # rounded up
    return ordered[max(place - 1, 0)]


async def _play(
    url: str, name: str, texts: Sequence[str], clients: int, count: int, max_tokens: int, *, speculates: bool
) -> list[Heard]:
    """Let clients ask until `count` requests are answered, each its next one as soon as it has an answer."""
    todo = iter(range(count))
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=600.0, limits=limits) as client:

        async def work() -> list[Heard]:
            heard = []
            for number in todo:
                place = number % len(texts)
                heard.append(await _ask(client, name, place, texts[place], max_tokens, speculates=speculates))
            return heard

        parts = await asyncio.gather(*(work() for _ in range(clients)))
    return [one for part in parts for one in part]


async def _ask(
    client: httpx.AsyncClient, name: str, place: int, text: str, max_tokens: int, *, speculates: bool
) -> Heard:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_speculation": True},
        "speculative": "auto" if speculates else "off",
    }
    ids: list[int] = []
    gaps: list[float] = []
    accept_len = 1.0
    last_s = begin_s = time.perf_counter()
    first_s: float | None = None
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        if reply.status_code != 200:
            raise EdgeAIError(f"the server answered with status {reply.status_code}")
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise EdgeAIError(f"the server says: {chunk['error']['message']}")
            if told := chunk.get("speculation"):
                now_s = time.perf_counter()
                tokens = [piece["token"] for piece in told["pieces"]]
                if first_s is None:
                    first_s = now_s - begin_s
                else:
                    gaps += [(now_s - last_s) / len(tokens)] * len(tokens)
                ids += tokens
                last_s = now_s
            stats = (chunk.get("metrics") or {}).get("speculative_decoding")
            accept_len = stats["mean_acceptance_length"] if stats else accept_len
    return Heard(place, tuple(ids), first_s or 0.0, tuple(gaps), accept_len)


@contextmanager
def _server(cfg: LoadConfig, run: Run) -> Iterator[tuple[str, str, int]]:
    """A server process; gives its address, its model's name and its id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    served = cfg.serve.model_copy(update={"host": "127.0.0.1", "port": port})
    config = run.path / "serve.yaml"
    config.write_text(dump_config(served), encoding="utf-8")
    log = run.path / "server.log"
    command = [sys.executable, "-m", "edgeai", "spec", "serve", "-c", str(config), "--json"]
    command += ["--out", str(run.path / "server"), "--device", run.info["device"]]
    url = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if name != "EDGEAI_API_KEY"}
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment)
    try:
        run.metrics.note(f"starting a server; it writes to {log}")
        yield url, _wait_for(url, process, log), process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            return str(httpx.get(f"{url}/v1/models", timeout=5.0).json()["data"][0]["id"])
        except httpx.HTTPError:
            time.sleep(0.2)
    raise EdgeAIError("the server did not start", hint=f"see {log}")


def _resident_bytes(pid: int) -> int:
    """Memory of a process that is in use; 0 where /proc does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
