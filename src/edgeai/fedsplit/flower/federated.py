"""Plain federated learning by one of Flower's own strategies: its server side aggregates, our devices train.

Messages are those that Flower's strategies send: "arrays" down and up, "metrics" with num-examples up. The ledger, the
clock and codecs have no part in it; whoever wants them takes `method.kind: fedavg`.
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
    from edgeai.fedsplit.flower.device import Workshop

client_app = ClientApp()
FEDERATED = ("fedavg", "fedprox")
"""Methods whose devices need nothing but the weights."""
_DELTA = 1e-5


def strategies() -> tuple[str, ...]:
    """Those of Flower's strategies that work on weights alone."""
    no_use = ("Result", "Strategy")
    return tuple(name for name in strategy.__all__ if name not in no_use and not name.startswith(("Differ", "FedXgb")))


def check_strategy(cfg: SimConfig, name: str) -> None:
    """Refuses what cannot work.

    Raises:
        UsageError: Flower has no such strategy, or the method is not a federated one.
    """
    if name not in strategies():
        near = nearest(name, strategies())
        hint = f'did you mean "{near}"? ' if near else ""
        raise UsageError(
            f'Flower has no strategy "{name}" for weights', hint=f"{hint}there are: {', '.join(strategies())}"
        )
    if cfg.method.kind not in FEDERATED:
        raise UsageError(
            f"a strategy of Flower aggregates whole models, and {cfg.method.kind} is no method of that kind",
            hint=f"use -s method.kind={FEDERATED[0]}, which leaves training to the devices",
        )


def federate(
    cfg: SimConfig, name: str, grid: Grid, *, dp_noise: float = 0.0, dp_clip: float = 1.0, **options: Any
) -> Result:
    """Trains by a strategy of Flower's.

    Args:
        cfg: Data, partition, model, optimizer and rounds.
        name: Of the strategy, such as "FedAdam".
        grid: Flower's.
        dp_noise: Noise multiplier of Flower's central differential privacy with fixed clipping; 0 leaves it out. All
            clients weigh the same then, and Flower logs epsilon at delta = 1e-5 where its accountant knows the
            strategy.
        dp_clip: Each client's update is clipped to this norm then.
        options: Of the strategy's constructor.

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
    """One round on one device."""
    return Message(train_here(message.content, int(context.node_config["partition-id"])), reply_to=message)


def train_here(records: RecordDict, client: int) -> RecordDict:
    """Trains the weights that came down; the same device as in `method.kind: fedavg`."""
    from edgeai.fedsplit.protocol.message import Message as Wire

    config = records["config"]
    built = workshop(config["edgeai"])
    half = built.halves(client, int(config["server-round"]), {})
    wire = Wire(weights=records["arrays"].to_torch_state_dict(), options={"mu": float(config.get("proximal-mu", 0.0))})
    [answer] = half.handle("train", wire)
    num_samples = len(built.sim.clients[client])
    loss = float(answer.options["loss"])  # type: ignore[arg-type]
    metrics = MetricRecord({"num-examples": num_samples, "loss": loss, "one": 1})
    return RecordDict({"arrays": ArrayRecord(dict(answer.weights)), "metrics": metrics})


@cache
def workshop(text: str) -> Workshop:
    """What devices of this process are built from; the deployment engine starts one a message, Ray keeps it."""
    from edgeai.fedsplit.flower.device import Workshop

    return Workshop(text, 0)
