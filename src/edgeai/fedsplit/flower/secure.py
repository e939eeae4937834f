"""Federated averaging of which the server sees sums only: Flower's SecAgg+ (Bell et al., CCS 2020) around our devices.

Flower offers it for its older API of clients and strategies alone, so this is the one place that speaks it. Weights
travel in fixed point: the mean is that of FedAvg to about five decimals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from edgeai.core.errors import UsageError
from edgeai.fedsplit.flower.federated import FEDERATED, train_here, workshop

if TYPE_CHECKING:
    import numpy as np

    from edgeai.fedsplit.config.run import SimConfig

MIN_CLIENTS = 3
_TIMEOUT_S = 600.0  # a client that says nothing for so long is lost


def check_secure(cfg: SimConfig) -> None:
    """Refuses what cannot work.

    Raises:
        UsageError: Fewer than three clients, or no plain averaging.
    """
    if cfg.num_clients < MIN_CLIENTS:
        raise UsageError(
            f"SecAgg+ among {cfg.num_clients} clients hides nothing from them",
            hint=f"num_clients={MIN_CLIENTS} or more",
        )
    if cfg.method.kind not in FEDERATED:
        raise UsageError(
            f"SecAgg+ sums weights, and {cfg.method.kind} sends more than weights", hint="use -s method.kind=fedavg"
        )
    if getattr(cfg.model, "norm", None) == "batch":
        raise UsageError(
            "SecAgg+ sums fixed-point numbers up to 8, and BatchNorm's counts are larger",
            hint="use -s model.norm=group",
        )


def federate_securely(cfg: SimConfig, grid: Grid, context: Context) -> tuple[list[np.ndarray], list[float]]:
    """Trains. A round makes up for a client that is lost in it; the next one waits until all are there.

    Args:
        cfg: Data, partition, model, optimizer and rounds.
        grid: Flower's.
        context: Of the ServerApp.

    Returns:
        The weights in the order of the model's state dict, and the accuracy after each round.

    Raises:
        UsageError: See `check_secure`.
    """
    import torch
    from flwr.common import ndarrays_to_parameters
    from flwr.server import LegacyContext, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

    from edgeai.fedsplit.flower.device import config_text
    from edgeai.fedsplit.sim.build import build_sim
    from edgeai.fedsplit.sim.evaluate import evaluate

    check_secure(cfg)
    sim, text = build_sim(cfg), config_text(cfg)
    model = sim.method.global_model.model
    weights = [tensor.numpy() for tensor in model.state_dict().values()]
    accuracies: list[float] = []

    def test(number: int, arrays: list[np.ndarray], told: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        weights[:] = arrays
        named = zip(model.state_dict(), arrays, strict=True)
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in named})
        score = evaluate(sim.method.evaluated(lambda _: {}), sim.dataset.test)
        if number:
            accuracies.append(score.accuracy)
        return score.loss, {"accuracy": score.accuracy}

    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=cfg.num_clients,
        min_available_clients=cfg.num_clients,
        initial_parameters=ndarrays_to_parameters(weights),
        on_fit_config_fn=lambda number: {"edgeai": text, "server-round": number},
        evaluate_fn=test,
    )
    secure = SecAggPlusWorkflow(
        num_shares=cfg.num_clients,
        reconstruction_threshold=cfg.num_clients - 1,
        max_weight=float(max(sim.setup.num_samples)),
        timeout=_TIMEOUT_S,
    )
    legacy = LegacyContext(context, ServerConfig(num_rounds=cfg.rounds), strategy)
    DefaultWorkflow(fit_workflow=secure)(grid, legacy)
    return weights, accuracies


class Trainer(NumPyClient):
    """A device of `method.kind: fedavg`, as Flower's older API wants it.

    Args:
        client: Its number.
    """

    def __init__(self, client: int) -> None:
        super().__init__()
        self._client = client

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        """One round: weights in, weights out."""
        from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

        names = workshop(config["edgeai"]).sim.method.global_model.model.state_dict()
        arrays = ArrayRecord({name: Array(array) for name, array in zip(names, parameters, strict=True)})
        trained = train_here(RecordDict({"arrays": arrays, "config": ConfigRecord(config)}), self._client)
        return trained["arrays"].to_numpy_ndarrays(), int(trained["metrics"]["num-examples"]), {}


def _client(context: Context) -> Client:
    return Trainer(int(context.node_config["partition-id"])).to_client()


client_app = ClientApp(client_fn=_client, mods=[secaggplus_mod])
