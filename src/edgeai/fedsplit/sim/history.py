"""What happened in a run so far: its report, and the state from which it can go on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch.nn import functional as F

from edgeai.fedsplit.privacy.guarantee import guarantee
from edgeai.fedsplit.privacy.leakage import Leakage, measure_leakage
from edgeai.fedsplit.protocol.message import Kind
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.reports.run_report import RoundRow, SimReport, Target
from edgeai.fedsplit.sim.build import Sim, has_batchnorm, hash_weights
from edgeai.fedsplit.sim.evaluate import Score


class History:
    """What happened so far, and the state to go on from."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self.rows: list[RoundRow] = []
        self.warnings = warnings_of(sim)
        self._score: Score | None = None
        self._clients_j = self._server_j = 0.0
        self._server_peak_bytes = 0
        self._figures: dict[str, float] = {}

    def add(self, rnd: Round, score: Score | None) -> None:
        """Adds a round that has ended."""
        sim = self._sim
        use = rnd.usage
        assert use is not None
        self._clients_j += sum(one.energy_j for one in use.clients.values())
        self._server_j += use.server.energy_j
        self._server_peak_bytes = max(self._server_peak_bytes, rnd.server.peak_bytes)
        self._figures = dict(rnd.notes)
        self._score = score or self._score
        totals = sim.ledger.totals
        self.rows.append(
            RoundRow(
                round=rnd.number,
                begin_s=use.begin_s,
                end_s=use.end_s,
                num_clients=len(rnd.clients),
                num_late=len(rnd.late),
                loss=rnd.loss.mean if math.isfinite(rnd.loss.mean) else None,
                accuracy=score.accuracy if score else None,
                test_loss=score.loss if score else None,
                bytes_up=totals.up_bytes,
                bytes_down=totals.down_bytes,
                clients_j=self._clients_j,
                server_j=self._server_j,
            )
        )

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as plain values and tensors."""
        sim = self._sim
        return {
            "rows": [asdict(row) for row in self.rows],
            "score": None if self._score is None else asdict(self._score),
            "server_peak_bytes": self._server_peak_bytes,
            "figures": self._figures,
            "method": sim.method.state(),
            "devices": sim.devices.state(),
            "clock": sim.clock.state(),
            "ledger": sim.ledger.state(),
            "policy": None if sim.policy is None else sim.policy.state(),
            "protects": [protect.state() if protect else None for protect in sim.protects],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        sim = self._sim
        self.rows = [RoundRow(**row) for row in state["rows"]]
        self._score = None if state["score"] is None else Score(**state["score"])
        if self.rows:
            self._clients_j, self._server_j = self.rows[-1].clients_j, self.rows[-1].server_j
        self._server_peak_bytes, self._figures = state["server_peak_bytes"], state["figures"]
        sim.method.load_state(state["method"])
        sim.devices.load_state(state["devices"])
        sim.clock.load_state(state["clock"])
        sim.ledger.load_state(state["ledger"])
        if sim.policy is not None:
            sim.policy.restore(sim.method, state["policy"])
        for protect, saved in zip(sim.protects, state["protects"], strict=True):
            if protect is not None:
                protect.load_state(saved)

    def report(self, *, measure: bool = False) -> SimReport:
        """The outcome so far.

        Args:
            measure: Measure leakage too, as far as the config asks for it.
        """
        sim, cfg = self._sim, self._sim.cfg
        totals = sim.ledger.totals
        accuracies = [row.accuracy for row in self.rows if row.accuracy is not None]
        return SimReport(
            method=cfg.method.kind,
            cuts=cut_names(sim),
            num_clients=cfg.num_clients,
            num_params=sum(parameter.numel() for parameter in sim.setup.model.model.parameters()),
            histograms=sim.setup.histograms,
            rounds=tuple(self.rows),
            accuracy=accuracies[-1] if accuracies else None,
            best_accuracy=max(accuracies, default=None),
            client_accuracy=self._score.by_client if self._score else (),
            bytes_up=_by_kind(totals.up),
            bytes_down=_by_kind(totals.down),
            seconds=sim.clock.now_s,
            clients_j=self._clients_j,
            server_j=self._server_j,
            client_memory_bytes=max(sim.devices.peak_bytes.values(), default=0),
            client_held_bytes=max(sim.devices.held_bytes.values(), default=0),
            server_memory_bytes=self._server_peak_bytes,
            target=_target(cfg.target_accuracy, self.rows),
            leakage=_leakage(sim) if measure else None,
            epsilon=self._epsilon(),
            guarantees=_guarantees(sim),
            warnings=self.warnings,
            figures=self._figures,
            weights_hash=hash_weights(sim.method),
        )

    def _epsilon(self) -> float | None:
        """The largest of those clients that trained.

        More steps or fewer samples never spend less, so that few clients need the accountant, which is slow.
        """
        sim = self._sim
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


def cut_names(sim: Sim) -> tuple[str, ...]:
    """The layer that each client's cut follows; one name where all are alike."""
    names = [sim.setup.model.names[position - 1] for position in sim.method.setup.positions]
    if not sim.method.is_split:
        return ()
    return (names[0],) if len(set(names)) == 1 else tuple(names)


def warnings_of(sim: Sim) -> tuple[str, ...]:
    """What a person should know before trusting the numbers."""
    found = []
    if has_batchnorm(sim.setup.model.model):
        found.append(
            "the model has BatchNorm: its running statistics are averaged or handed on like weights, and charged; "
            "clients with skewed data disturb them, and GroupNorm has none"
        )
    return (*found, *sim.method.warnings())


def _target(accuracy: float | None, rows: Sequence[RoundRow]) -> Target | None:
    if accuracy is None:
        return None
    for row in rows:
        if row.accuracy is not None and row.accuracy >= accuracy:
            num_bytes, joules = row.bytes_up + row.bytes_down, row.clients_j + row.server_j
            return Target(accuracy, row.round, num_bytes, row.end_s, joules)
    return Target(accuracy, None)


def _guarantees(sim: Sim) -> tuple[str, ...]:
    """For the client with the fewest samples and the cut with the most values, which hide records the least."""
    cfg, setup = sim.cfg, sim.setup
    if cfg.privacy.is_off:
        return ()
    positions = setup.positions if sim.policy is None else range(1, len(setup.model))  # a policy may choose any
    return guarantee(
        cfg.privacy,
        num_values=max(math.prod(setup.model.shape_at(position)) for position in positions),
        num_samples=min(setup.num_samples),
        batch=cfg.batch,
        num_epochs=cfg.rounds * cfg.local_epochs,
        num_classes=setup.num_classes,
    )


def _by_kind(num_bytes: Mapping[Kind, int]) -> dict[str, int]:
    return {str(kind): count for kind, count in num_bytes.items()}


def _leakage(sim: Sim) -> Leakage | None:
    """What client 0 gives away of its training samples, to someone who has the test samples."""
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
