"""Builds the client half of a device for one round."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.protocol.client_half import ClientContext, ClientHalf, State
from edgeai.fedsplit.protocol.protection import Protection
from edgeai.fedsplit.sim.model_checks import draws_at_random


class ClientFactory:
    """Builds client halves with new modules; the same on every backend.

    Args:
        cfg: Config of the run.
        method: Training method.
        clients: Training samples of each client.
        protects: Protection of each client.
    """

    def __init__(
        self, cfg: SimConfig, method: Method, clients: Sequence[Samples], protects: Sequence[Protection | None]
    ) -> None:
        self._cfg, self._method, self._clients, self._protects = cfg, method, clients, protects
        self._is_random = draws_at_random(method.setup.model.model, is_custom=cfg.model.kind == "custom")

    def __call__(self, client: int, number: int, kept: State) -> ClientHalf:
        """Build the half of `client` for round `number`, with the state it kept from earlier rounds."""
        context = ClientContext(
            client=client,
            round=number,
            seed=self._cfg.seed,
            samples=self._clients[client],
            batch=self._cfg.batch,
            epochs=self._cfg.local_epochs,
            optim=self._cfg.optim,
            protect=self._protects[client],
            is_random=self._is_random,
            kept=kept,
        )
        return self._method.client_half(context, self._method.client_parts(client))
