"""`edgeai spec load`: throughput and latency of a server under load, and the correctness of every answer.

A server runs as a separate process. Rounds of 1, 4 and 16 clients send greedy requests over the loopback, each round
with and without speculation, interleaved. Afterwards plain decoding answers the same prompts in this process. On
the native runtime and in float32 every served answer must equal it token for token; in lower precision
`check_answers.py` examines every difference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgeai.core.run import Run
from edgeai.spec.config.load import LoadConfig
from edgeai.spec.data.prompts import builtin_prompts, load_prompts, select
from edgeai.spec.serve.load.check_answers import AnswerChecker
from edgeai.spec.serve.load.clients import LoadClients, ObservedAnswer
from edgeai.spec.serve.load.server_process import ServerProcess, server_process
from edgeai.spec.serve.reports import LoadReport, LoadRound
from edgeai.spec.target.build import build_target

_SHORT_TOKENS = 8
_MEMORY_PROBES = 5


@dataclass(frozen=True)
class _PlayedRound:
    """Answers of one round, before they are checked."""

    num_clients: int
    speculates: bool
    wall_s: float
    answers: Sequence[ObservedAnswer]


def run_load(cfg: LoadConfig, run: Run) -> LoadReport:
    """Start a server, send requests to it, stop it, and check its answers.

    Args:
        cfg: Server, clients and prompts.
        run: Run directory for the server's files; receives progress.

    Raises:
        EdgeAIError: The server did not start, or did not answer.
    """
    found = load_prompts(cfg.prompts, on_skip=run.metrics.note) if cfg.prompts else builtin_prompts()
    prompts = select(found, cfg.max_prompts)
    with server_process(cfg.serve, run) as server:
        clients = LoadClients(server.url, server.model, prompts)
        # warm-up: every slot is used once, since the first use of its memory takes time
        clients.run(cfg.serve.slots, cfg.serve.slots, max_tokens=cfg.max_tokens, speculates=True)
        played = _play_rounds(cfg, clients, run)
        memory_bytes = _probe_memory(cfg, clients, server, run)
    target = build_target(cfg.serve.target, device=run.info["device"], metrics=run.metrics)
    checker = AnswerChecker(target, prompts, max_tokens=cfg.max_tokens)
    rounds = []
    for number, one in enumerate(played):
        run.metrics.progress("checking answers", number, len(played), unit="round")
        rounds.append(_summary(one, checker))
    run.metrics.progress("checking answers", len(played), len(played), unit="round")
    return LoadReport(str(target.dtype).removeprefix("torch."), target.runtime, tuple(rounds), memory_bytes)


def _play_rounds(cfg: LoadConfig, clients: LoadClients, run: Run) -> list[_PlayedRound]:
    plan = [(num_clients, speculates) for num_clients in cfg.clients for speculates in (True, False)]
    played = []
    for number, (num_clients, speculates) in enumerate(plan):
        run.metrics.progress("rounds", number, len(plan), unit="round")
        num_requests = max(cfg.requests, 2 * num_clients)
        begin_s = time.perf_counter()
        answers = clients.run(num_clients, num_requests, max_tokens=cfg.max_tokens, speculates=speculates)
        played.append(_PlayedRound(num_clients, speculates, time.perf_counter() - begin_s, answers))
    run.metrics.progress("rounds", len(plan), len(plan), unit="round")
    return played


def _probe_memory(cfg: LoadConfig, clients: LoadClients, server: ServerProcess, run: Run) -> tuple[int, ...]:
    """Return the server's memory after each equal share of the short requests."""
    sizes = []
    for probe in range(_MEMORY_PROBES if cfg.memory_requests else 0):
        run.metrics.progress("memory", probe, _MEMORY_PROBES, unit="part")
        num_requests = max(cfg.memory_requests // _MEMORY_PROBES, 1)
        clients.run(max(cfg.clients), num_requests, max_tokens=_SHORT_TOKENS, speculates=True)
        sizes.append(server.resident_bytes())
    return tuple(sizes)


def _summary(played: _PlayedRound, checker: AnswerChecker) -> LoadRound:
    answers = played.answers
    verdicts = [checker.judge(answer.prompt, answer.ids) for answer in answers]
    gaps_s = sorted(gap_s for answer in answers for gap_s in answer.gaps_s)
    firsts_s = sorted(answer.first_s for answer in answers)
    return LoadRound(
        clients=played.num_clients,
        speculates=played.speculates,
        num_requests=len(answers),
        num_tokens=sum(len(answer.ids) for answer in answers),
        wall_s=played.wall_s,
        first_s=(percentile(firsts_s, 0.5), percentile(firsts_s, 0.95)),
        gap_s=(percentile(gaps_s, 0.5), percentile(gaps_s, 0.95), percentile(gaps_s, 0.99)),
        accept_len=sum(answer.accept_len for answer in answers) / len(answers),
        num_ties=verdicts.count("tie"),
        num_wrong=verdicts.count("wrong"),
    )


def percentile(ordered: Sequence[float], frac: float) -> float:
    """Return the smallest value that at least this fraction of the values does not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    place = -(-len(ordered) * round(frac * 1000) // 1000)  # rounded up
    return ordered[max(place - 1, 0)]
