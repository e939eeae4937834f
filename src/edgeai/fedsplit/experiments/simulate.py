"""`edgeai fedsplit sim`: train with the method and on the backend that the config names."""

from __future__ import annotations

from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.reports.run_report import SimReport
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import train


def simulate(cfg: SimConfig, run: Run, *, resume: bool = False) -> SimReport:
    """Train with one method and report accuracy, bytes, virtual time, energy and leakage.

    Args:
        cfg: Data, partition, model, method, devices and backend.
        run: Run directory. The state after each round is saved there.
        resume: Continue from that state. An interrupted round is repeated from its start, with the same result.

    Raises:
        UsageError: The config is not feasible, for example because a cut does not exist.
        EdgeAIError: The loss is NaN or infinite, or the backend failed. report.json holds the rounds before.
    """
    if cfg.backend.kind == "inproc":
        return train(build_sim(cfg, run.device), run, resume=resume)
    from edgeai.fedsplit.flower.launch import run_on_flower  # needs flwr, which is an optional dependency

    return run_on_flower(cfg, run, resume=resume)
