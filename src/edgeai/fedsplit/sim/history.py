"""History of a run so far: its rounds, its report, and the state to resume from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.protocol.message import Kind
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.reports.run_report import RoundRow, SimReport, Target
from edgeai.fedsplit.sim.build import Sim
from edgeai.fedsplit.sim.evaluate import Score
from edgeai.fedsplit.sim.model_checks import has_batchnorm
from edgeai.fedsplit.sim.privacy_figures import guarantees, leakage, spent_epsilon


class History:
    """Rounds of a run so far, and the state to resume from.

    Args:
        sim: The run.

    Attributes:
        rows: One row per finished round.
        warnings: Caveats of the run.
    """

    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self.rows: list[RoundRow] = []
        self.warnings = warnings_of(sim)
        self._score: Score | None = None
        self._clients_j = self._server_j = 0.0
        self._server_peak_bytes = 0
        self._figures: dict[str, float] = {}

    def add(self, rnd: Round, score: Score | None) -> None:
        """Add a finished round.

        Args:
            rnd: The round.
            score: Its test result, if it was evaluated.
        """
        sim = self._sim
        usage = rnd.usage
        assert usage is not None
        self._clients_j += sum(one.energy_j for one in usage.clients.values())
        self._server_j += usage.server.energy_j
        self._server_peak_bytes = max(self._server_peak_bytes, rnd.server.peak_bytes)
        self._figures = dict(rnd.notes)
        self._score = score or self._score
        totals = sim.ledger.totals
        self.rows.append(
            RoundRow(
                round=rnd.number,
                begin_s=usage.begin_s,
                end_s=usage.end_s,
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
        """Return the state for resuming, as plain values and tensors."""
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
        """Restore what `state` returned."""
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
        """Return the report of the rounds so far.

        Args:
            measure: Whether to measure leakage, as far as the config asks for it.
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
            leakage=leakage(sim) if measure else None,
            epsilon=spent_epsilon(sim),
            guarantees=guarantees(sim),
            warnings=self.warnings,
            figures=self._figures,
            weights_hash=hash_weights(sim.method),
        )


def cut_names(sim: Sim) -> tuple[str, ...]:
    """Return the layer that each client's cut follows; a single name if all cuts are equal."""
    names = [sim.setup.model.names[position - 1] for position in sim.method.setup.positions]
    if not sim.method.is_split:
        return ()
    return (names[0],) if len(set(names)) == 1 else tuple(names)


def warnings_of(sim: Sim) -> tuple[str, ...]:
    """Return the caveats to know before trusting the results."""
    found = []
    if has_batchnorm(sim.setup.model.model):
        found.append(
            "the model has BatchNorm: its running statistics are averaged or handed on like weights, and charged; "
            "clients with skewed data disturb them, and GroupNorm has none"
        )
    return (*found, *sim.method.warnings())


def hash_weights(method: Method) -> str:
    """Return the SHA-256 over names and values of all weights that the server holds."""
    digest = hashlib.sha256()
    for module_name, module in sorted(method.modules().items()):
        for name, value in module.state_dict().items():
            digest.update(f"{module_name}.{name}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _target(accuracy: float | None, rows: Sequence[RoundRow]) -> Target | None:
    if accuracy is None:
        return None
    for row in rows:
        if row.accuracy is not None and row.accuracy >= accuracy:
            num_bytes, joules = row.bytes_up + row.bytes_down, row.clients_j + row.server_j
            return Target(accuracy, row.round, num_bytes, row.end_s, joules)
    return Target(accuracy, None)


def _by_kind(num_bytes: Mapping[Kind, int]) -> dict[str, int]:
    return {str(kind): count for kind, count in num_bytes.items()}
