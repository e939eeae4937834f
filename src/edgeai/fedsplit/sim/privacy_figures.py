"""Privacy figures of a run: spent epsilon, guarantees of the config, and measured leakage."""

from __future__ import annotations

import math

from torch.nn import functional as F

from edgeai.fedsplit.privacy.guarantee import guarantee
from edgeai.fedsplit.privacy.leakage import measure_leakage
from edgeai.fedsplit.reports.leakage_report import Leakage
from edgeai.fedsplit.sim.build import Sim


def spent_epsilon(sim: Sim) -> float | None:
    """Return the largest epsilon that DP-SGD has spent on any client so far; None without DP-SGD steps.

    More steps or fewer samples never spend less. Clients that another one dominates in both need no accountant, which
    is slow.
    """
    trained = [
        (protect.num_private_steps, -num_samples, protect)
        for protect, num_samples in zip(sim.protects, sim.setup.num_samples, strict=True)
        if protect is not None and protect.num_private_steps
    ]
    spent, fewest = [], math.inf
    for num_steps, minus_samples, protect in sorted(trained, key=lambda one: one[:2], reverse=True):
        if -minus_samples < fewest:
            fewest = -minus_samples
            spent.append(protect.epsilon(num_steps, min(sim.cfg.batch, fewest), fewest))
    return max((epsilon for epsilon in spent if epsilon is not None), default=None)


def guarantees(sim: Sim) -> tuple[str, ...]:
    """Return the guarantees for the client with the fewest samples and the cut with the most values: the worst case."""
    cfg, setup = sim.cfg, sim.setup
    if cfg.privacy.is_off:
        return ()
    positions = setup.positions if sim.policy is None else range(1, len(setup.model))  # a policy may choose any cut
    return guarantee(
        cfg.privacy,
        num_values=max(math.prod(setup.model.shape_at(position)) for position in positions),
        num_samples=min(setup.num_samples),
        batch=cfg.batch,
        num_epochs=cfg.rounds * cfg.local_epochs,
        num_classes=setup.num_classes,
    )


def leakage(sim: Sim) -> Leakage | None:
    """Measure what client 0 leaks about its training samples to an attacker who holds the test samples.

    Returns:
        None if leakage is not to be measured, or nothing crosses a cut.
    """
    if sim.cfg.leakage.is_off:
        return None
    model = sim.method.model_of(0, sim.devices.kept)
    if model is None:
        return None
    position = sim.method.setup.positions[0]
    tail = model.part(position, len(model)).eval()
    return measure_leakage(
        model.part(0, position),
        sim.protects[0],
        sim.clients[0],
        sim.dataset.test,
        lambda z, y: F.cross_entropy(tail(z), y),
        sim.cfg.leakage,
    )
