"""Federated learning with Flower's own strategies: the strategy aggregates, our devices train.

Messages are those of Flower's strategies: "arrays" down and up, "metrics" with num-examples up. Ledger, clock and
codecs are not involved; `method.kind: fedavg` on an edgeai backend has them.

Exported Flower apps import `federate` and `client_app` from this module.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, strategy

from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Result, Strategy

    from edgeai.fedsplit.config.run import SimConfig
    from edgeai.fedsplit.flower.device import DeviceFactory

client_app = ClientApp()
FEDERATED = ("fedavg", "fedprox")
"""Methods whose devices need only the weights."""
_DELTA = 1e-5


def strategies() -> tuple[str, ...]:
    """Return the names of Flower's strategies that need only weights."""
    no_use = ("Result", "Strategy")
    return tuple(name for name in strategy.__all__ if name not in no_use and not name.startswith(("Differ", "FedXgb")))


def check_strategy(cfg: SimConfig, name: str) -> None:
    """Check that a strategy of Flower can aggregate this run.

    Raises:
        UsageError: Flower has no such strategy, or the method does not train whole models.
    """
    if name not in strategies():
        near = nearest(name, strategies())
        hint = f'did you mean "{near}"? ' if near else ""
        raise UsageError(
            f'Flower has no strategy "{name}" for weights', hint=f"{hint}there are: {', '.join(strategies())}"
        )
    if cfg.method.kind not in FEDERATED:
        raise UsageError(
            f"Flower's strategies aggregate whole models, which {cfg.method.kind} does not train",
            hint=f"use -s method.kind={FEDERATED[0]}",
        )


def federate(
    cfg: SimConfig, name: str, grid: Grid, *, dp_noise: float = 0.0, dp_clip: float = 1.0, **options: Any
) -> Result:
    """Train with a strategy of Flower.

    Args:
        cfg: Data, partition, model, optimizer and rounds.
        name: Name of the strategy, such as "FedAdam".
        grid: Flower's grid.
        dp_noise: Noise multiplier of Flower's central differential privacy with fixed clipping; 0 for none. With it,
            all clients have equal weight, and Flower logs epsilon at delta = 1e-5 if its accountant supports the
            strategy.
        dp_clip: Norm to which each client's update is clipped if `dp_noise` is set.
        options: Keyword arguments of the strategy's constructor.

    Raises:
        UsageError: See `check_strategy`.
    """
    from edgeai.fedsplit.flower.device import config_text
    from edgeai.fedsplit.sim.build import build_sim
    from edgeai.fedsplit.sim.evaluate import evaluate

    check_strategy(cfg, name)
    sim = build_sim(cfg)

    def test(number: int, arrays: ArrayRecord) -> MetricRecord:
        sim.method.global_model.model.load_state_dict(arrays.to_torch_state_dict())
        score = evaluate(sim.method.evaluated(lambda _: {}), sim.dataset.test)
        return MetricRecord({"accuracy": score.accuracy, "loss": score.loss})

    if dp_noise:
        options["weighted_by_key"] = "one"
    made: Strategy = getattr(strategy, name)(fraction_evaluate=0.0, **options)
    if dp_noise:
        made = _private(made, dp_noise, dp_clip, cfg.num_clients)
    return made.start(
        grid=grid,
        initial_arrays=ArrayRecord(sim.method.global_model.model.state_dict()),
        num_rounds=cfg.rounds,
        train_config=ConfigRecord({"edgeai": config_text(cfg)}),
        evaluate_fn=test,
    )


def _private(made: Strategy, noise: float, clip: float, num_clients: int) -> Strategy:
    from flwr.serverapp import NeighboringRelation, PrivacyConfig, RdpAccountant, SamplingMethod
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

    accountant = None
    if type(made).aggregate_train is FedAvg.aggregate_train:
        relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
        accountant = RdpAccountant(PrivacyConfig(_DELTA, num_clients, relation, sampling))
    return DifferentialPrivacyServerSideFixedClipping(made, noise, clip, num_clients, accountant=accountant)


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round on one device."""
    return Message(train_here(message.content, int(context.node_config["partition-id"])), reply_to=message)


def train_here(records: RecordDict, client: int) -> RecordDict:
    """Train received weights on a client's data, as `method.kind: fedavg` does; return the reply records."""
    from edgeai.fedsplit.protocol.message import Message as Wire

    config = records["config"]
    built = factory(config["edgeai"])
    half = built.halves(client, int(config["server-round"]), {})
    wire = Wire(weights=records["arrays"].to_torch_state_dict(), options={"mu": float(config.get("proximal-mu", 0.0))})
    [answer] = half.handle("train", wire)
    num_samples = len(built.sim.clients[client])
    loss = float(answer.options["loss"])  # type: ignore[arg-type]
    metrics = MetricRecord({"num-examples": num_samples, "loss": loss, "one": 1})
    return RecordDict({"arrays": ArrayRecord(dict(answer.weights)), "metrics": metrics})


@cache
def factory(text: str) -> DeviceFactory:
    """Return the device factory of this process, cached: Ray's actors process many messages."""
    from edgeai.fedsplit.flower.device import DeviceFactory

    return DeviceFactory(text, 0)
