"""The training loop: run a round, evaluate, check the loss, save the state, log."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import asdict

from edgeai.core.checkpoint import load_state, save_state
from edgeai.core.errors import EdgeAIError
from edgeai.core.files import json_text, write_whole
from edgeai.core.run import Run
from edgeai.core.units import amount, duration
from edgeai.fedsplit.protocol.round import Cutoff, Round, RoundServer
from edgeai.fedsplit.reports.run_report import TIMELINE, RoundRow, SimReport
from edgeai.fedsplit.sim.build import Sim
from edgeai.fedsplit.sim.evaluate import evaluate
from edgeai.fedsplit.sim.history import History

PlayRound = Callable[[Sim, int, History], Round]
"""Run one round: (sim, round number, history) to the finished round."""


def train(sim: Sim, run: Run, *, resume: bool = False, play: PlayRound | None = None) -> SimReport:
    """Train for all rounds on the devices of `sim`, whatever backend they run on.

    Args:
        sim: Model, method, clock, ledger and devices.
        run: Run directory. The state after each round is saved there.
        resume: Continue from that state. An interrupted round is repeated from its start, with the same result.
        play: Replaces `play_round`, for backends that can lose a device during a round.

    Raises:
        EdgeAIError: The loss is NaN or infinite. report.json holds the rounds before.
    """
    cfg, history = sim.cfg, History(sim)
    if resume:
        state = load_state(run.path)
        if state is not None:  # otherwise it was interrupted in its first round
            history.restore(state)
        run.metrics.rewind(len(history.rows))
    for warning in history.warnings:
        run.metrics.note(warning)
    for number in range(len(history.rows) + 1, cfg.rounds + 1):
        rnd = play(sim, number, history) if play else play_round(sim, number)
        is_tested = number % cfg.eval_every == 0 or number == cfg.rounds
        if number == 1:
            write_whole(run.path / TIMELINE, json_text([asdict(span) for span in sim.clock.spans], indent=None) + "\n")
        history.add(rnd, evaluate(sim.method.evaluated(sim.devices.kept), sim.dataset.test) if is_tested else None)
        if rnd.loss.num_samples and not math.isfinite(rnd.loss.mean):
            run.finish("failed", history.report().to_json())
            raise EdgeAIError(
                f"the training loss is {rnd.loss.mean} in round {number}; the rounds until then are in {run.path}",
                hint=f"lower optim.lr (now {cfg.optim.lr:g})",
            )
        save_state(run.path, history.state())
        run.metrics.log(number, _logged(history.rows[-1]))
        run.metrics.note(_in_short(history.rows[-1], cfg.rounds))
        run.metrics.progress("train", number, cfg.rounds, unit="rounds")
    return history.report(measure=True)


def play_round(sim: Sim, number: int, away: Collection[int] = ()) -> Round:
    """Run one round of the method and advance the clock to its end.

    Args:
        sim: The run.
        number: Number of the round, from 1.
        away: Clients that cannot be reached.
    """
    if sim.policy is not None:
        sim.policy.set_cuts(sim.method, number)
    cohort = sim.world.cohort(number)
    selected = [client for client in cohort.selected if client not in away]
    sim.clock.begin_round(number, carry_over=sim.method.carries_over)
    sim.devices.begin(number)
    server = RoundServer(number, sim.clock, sim.ledger)
    limit_s = math.inf if sim.world.deadline_s is None else server.begin_s + sim.world.deadline_s
    cutoff = Cutoff(min(cohort.num_wanted, len(selected)), limit_s, cohort.drops)
    rnd = Round(number, selected, sim.devices, server, cutoff)
    if selected:
        sim.method.round(rnd)
    sim.devices.end()
    rnd.usage = sim.clock.end_round(rnd.server.end_s)
    if sim.policy is not None:
        sim.policy.observe(rnd, sim.ledger)
    return rnd


def _logged(row: RoundRow) -> dict[str, float]:
    """Return the figures for metrics.jsonl."""
    return {name: value for name, value in asdict(row).items() if value is not None and name != "round"}


def _in_short(row: RoundRow, num_rounds: int) -> str:
    parts = [f"round {row.round}/{num_rounds}"]
    if row.loss is not None:
        parts.append(f"loss {row.loss:.4f}")
    if row.accuracy is not None:
        parts.append(f"accuracy {row.accuracy:.2%}")
    parts.append(f"{amount(row.bytes_up + row.bytes_down, 'B')} and {duration(row.end_s)} of virtual time so far")
    return ", ".join(parts)
