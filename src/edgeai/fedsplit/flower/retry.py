"""Rounds that are repeated without a device that was lost in them."""

from __future__ import annotations

import io
from typing import Any

import torch

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run, is_alive
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.transport.device_transport import DeviceLost
from edgeai.fedsplit.protocol.round import Round
from edgeai.fedsplit.sim.build import Sim
from edgeai.fedsplit.sim.history import History
from edgeai.fedsplit.sim.train import play_round


class RetryingRounds:
    """Run rounds; when a device is lost, repeat the round from its start without that device.

    Args:
        run: The run, which receives notes.
        backend: Its min_nodes is the number of devices below which the run fails.
        owner: Process that submitted the run; the run ends when that process is gone. 0: no such process.
    """

    def __init__(self, run: Run, backend: FlowerConfig, owner: int) -> None:
        self._run, self._backend, self._owner = run, backend, owner

    def __call__(self, sim: Sim, number: int, history: History) -> Round:
        """Run one round among the clients that can be reached.

        Raises:
            EdgeAIError: Too few clients are left, or the submitting process is gone.
        """
        if self._owner and not is_alive(self._owner):
            raise EdgeAIError(
                f"process {self._owner}, which submitted this run, is gone", hint="continue the run with --resume"
            )
        assert isinstance(sim.devices, FlowerDevices)
        clients = range(sim.cfg.num_clients)
        away = sim.devices.away(clients)
        if away:
            self._run.metrics.note(f"round {number} runs without clients {_names(away)}, which are not connected")
        state_before = _to_bytes(history.state())
        while True:
            if len(clients) - len(away) < self._backend.min_nodes:
                raise EdgeAIError(
                    f"only {len(clients) - len(away)} clients are left, fewer than backend.min_nodes "
                    f"({self._backend.min_nodes})",
                    hint="start SuperNodes, then continue the run with --resume",
                )
            try:
                return play_round(sim, number, away)
            except DeviceLost as lost:
                self._run.metrics.note(f"{lost}; round {number} is repeated without it")
                away = away | {lost.client}
                history.restore(_from_bytes(state_before))


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _from_bytes(state: bytes) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True)
    return found


def _names(clients: set[int]) -> str:
    return ", ".join(map(str, sorted(clients)))
