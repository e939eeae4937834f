"""Secure aggregation: federated averaging with Flower's SecAgg+ (Bell et al., CCS 2020); the server sees only sums.

Flower offers SecAgg+ only in its older client and strategy API, which nothing else here uses. Weights are sent in fixed
point; the mean equals that of FedAvg to about five decimals.

Exported Flower apps import `federate_securely` and `client_app` from this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from edgeai.core.errors import UsageError
from edgeai.fedsplit.flower.federated import FEDERATED, factory, train_here

if TYPE_CHECKING:
    import numpy as np

    from edgeai.fedsplit.config.run import SimConfig

MIN_CLIENTS = 3
_TIMEOUT_S = 600.0  # a silent client counts as lost after this time


def check_secure(cfg: SimConfig) -> None:
    """Check that SecAgg+ can aggregate this run.

    Raises:
        UsageError: There are fewer than three clients, the method sends more than weights, or the model has BatchNorm.
    """
    if cfg.num_clients < MIN_CLIENTS:
        raise UsageError(
            f"SecAgg+ with {cfg.num_clients} clients hides no weights from them",
            hint=f"num_clients={MIN_CLIENTS} or more",
        )
    if cfg.method.kind not in FEDERATED:
        raise UsageError(
            f"SecAgg+ sums weights, but {cfg.method.kind} sends more than weights", hint="use -s method.kind=fedavg"
        )
    if getattr(cfg.model, "norm", None) == "batch":
        raise UsageError(
            "SecAgg+ sums fixed-point numbers up to 8, but BatchNorm's counts are larger",
            hint="use -s model.norm=group",
        )


def federate_securely(cfg: SimConfig, grid: Grid, context: Context) -> tuple[list[np.ndarray], list[float]]:
    """Train with secure aggregation.

    A round tolerates the loss of one client; the next round waits until all are connected.

    Args:
        cfg: Data, partition, model, optimizer and rounds.
        grid: Flower's grid.
        context: Context of the ServerApp.

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
    """A device of `method.kind: fedavg` in Flower's older API.

    Args:
        client: Client number.
    """

    def __init__(self, client: int) -> None:
        super().__init__()
        self._client = client

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        """Train one round; return the weights and the number of samples."""
        from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

        names = factory(config["edgeai"]).sim.method.global_model.model.state_dict()
        arrays = ArrayRecord({name: Array(array) for name, array in zip(names, parameters, strict=True)})
        trained = train_here(RecordDict({"arrays": arrays, "config": ConfigRecord(config)}), self._client)
        return trained["arrays"].to_numpy_ndarrays(), int(trained["metrics"]["num-examples"]), {}


def _client(context: Context) -> Client:
    return Trainer(int(context.node_config["partition-id"])).to_client()


client_app = ClientApp(client_fn=_client, mods=[secaggplus_mod])
