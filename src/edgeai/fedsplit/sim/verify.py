"""`edgeai fedsplit verify`: checks identities between methods on this machine and version.

Eleven facts that follow from algebra, checked on digits with a small network: most of them to the bit, because the same
operations run in the same order. They support the results of methods for which there is no such identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.core.metrics import Metrics
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.protocol.batching import derived_seed, permuted
from edgeai.fedsplit.protocol.channel import build_ends
from edgeai.fedsplit.protocol.ledger import LedgerTotals
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.sim.build import Sim, build_sim
from edgeai.fedsplit.sim.train import play_round

_ROUNDS = 2
_LABEL_BYTES = 8
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Check:
    """Result of checking one fact."""

    number: int
    """Number of the fact, from 1."""
    fact: str
    """The identity."""
    holds: bool
    """Whether it holds on this machine."""
    detail: str
    """Measured difference, or what was compared."""
    seconds: float
    """Duration of the check."""


@dataclass(frozen=True)
class VerifyReport:
    """Results of all checks."""

    checks: tuple[Check, ...]
    """One entry per identity."""

    @property
    def num_failed(self) -> int:
        """Number of facts that do not hold."""
        return sum(not check.holds for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"num_failed": self.num_failed, **asdict(self)}


class Finding(NamedTuple):
    """Outcome of one check."""

    holds: bool
    detail: str


class Fact(NamedTuple):
    """A fact and its check."""

    text: str
    check: Callable[[], Finding]


def verify(metrics: Metrics) -> VerifyReport:
    """Check all facts.

    Args:
        metrics: Receives the progress.
    """
    checks = []
    for number, fact in enumerate(FACTS, start=1):
        start = time.perf_counter()
        found = fact.check()
        checks.append(Check(number, fact.text, found.holds, found.detail, time.perf_counter() - start))
        metrics.progress("verify", number, len(FACTS), unit="facts")
    return VerifyReport(tuple(checks))


def _v1_is_fedavg() -> Finding:
    reference = _run("fedavg")
    runs = [(f"cut {cut}", _run("splitfed-v1", cut=cut), reference) for cut in _cuts()]
    skewed = {"partition": {"kind": "dirichlet", "alpha": 0.3}, "optim": {"momentum": 0.9}}
    runs.append(("Dirichlet, momentum", _run("splitfed-v1", **skewed), _run("fedavg", **skewed)))
    return _equal(runs)


def _relay_at_any_cut() -> Finding:
    first, *others = _cuts()
    reference = _run("relay", cut=first)
    return _equal((f"cut {cut}", _run("relay", cut=cut), reference) for cut in others)


def _ushape_is_relay() -> Finding:
    return _equal([("U-shape", _run("ushape"), _run("relay"))])


def _sflg_ends() -> Finding:
    return _equal(
        [
            ("one group each and V1", _run({"kind": "sflg", "groups": 3}), _run("splitfed-v1")),
            ("one group and V2", _run({"kind": "sflg", "groups": 1}), _run("splitfed-v2")),
        ]
    )


def _one_client() -> Finding:
    kinds = ("fedavg", "relay", "splitfed-v1", "splitfed-v2", "psl")
    central = _central()
    runs = [(kind, _weights(_run(kind, num_clients=1)), central) for kind in kinds]
    return _equal_weights(runs)


def _multihop_is_relay() -> Finding:
    return _equal([("multi-hop", _run("multihop"), _run("relay"))])


def _hsfl_ends() -> Finding:
    return _equal(
        [
            ("nobody splits and FedAvg", _run({"kind": "hsfl", "split_frac": 0.0}), _run("fedavg")),
            ("all split and V1", _run({"kind": "hsfl", "split_frac": 1.0}), _run("splitfed-v1")),
        ]
    )


def _cse_is_local_loss() -> Finding:
    return _equal([("CSE-FSL, h = 1", _run({"kind": "cse-fsl", "h": 1}), _run("local-loss"))])


def _local_loss_is_half() -> Finding:
    local, relay = _run("local-loss").ledger.totals, _run("relay").ledger.totals
    half, whole = _cut_bytes(local), _cut_bytes(relay)
    return Finding(2 * half == whole, f"{half:,} of {whole:,} bytes at the cut, labels left out")


def _codec_and_ledger() -> Finding:
    ends = build_ends(CodecConfig(), 0, 0)
    message = Message(activations={"z": torch.ones(2, 3)}, labels={"y": torch.ones(2, dtype=torch.int64)})
    is_same = all(end.pack(message) is message and end.unpack(message) is message for end in ends)
    wrong = [kind for kind, expected in _FORMULAS.items() if _differs(kind, expected)]
    detail = f"codec none passes messages as they are: {is_same}; bytes differ: {', '.join(wrong) or 'nowhere'}"
    return Finding(is_same and not wrong, detail)


def _batchnorm() -> Finding:
    model = {"kind": "cnn", "norm": "batch"}
    fedavg, v1 = _run("fedavg", model=model), _run("splitfed-v1", model=model)
    is_equal, detail = _equal([("SplitFed V1 and FedAvg, running statistics too", v1, fedavg)])
    num_bytes = sum(value.numel() * value.element_size() for value in _weights(fedavg).values())
    charged = fedavg.ledger.totals.up["weights"] == _ROUNDS * fedavg.cfg.num_clients * num_bytes
    return Finding(is_equal and charged, f"{detail}; running statistics are charged: {charged}")


FACTS: tuple[Fact, ...] = (
    Fact("SplitFed V1 is FedAvg, at any cut, IID or not", _v1_is_fedavg),
    Fact("relay split learning does not depend on the cut", _relay_at_any_cut),
    Fact("U-shaped is vanilla split learning", _ushape_is_relay),
    Fact("SFLG with a group for each client is V1, with one group V2", _sflg_ends),
    Fact("with one client FedAvg, SL, V1, V2 and PSL are training without any split", _one_client),
    Fact("multi-hop is two-part split learning", _multihop_is_relay),
    Fact("HSFL without splitting clients is FedAvg, with nobody else SplitFed V1", _hsfl_ends),
    Fact("CSE-FSL with h = 1 is local loss", _cse_is_local_loss),
    Fact("local loss moves half of split learning's bytes at the cut", _local_loss_is_half),
    Fact("no codec changes nothing, and the ledger is the formula", _codec_and_ledger),
    Fact("BatchNorm's running statistics are averaged like weights, and charged", _batchnorm),
)
"""All facts, in the order of the report."""


def _config(method: str | Mapping[str, Any], **changes: Any) -> SimConfig:
    document = {
        "method": {"kind": method} if isinstance(method, str) else dict(method),
        "data": {"kind": "digits", "num_train": 300, "num_test": 50},
        "num_clients": 3,
        "cut": 1,
        "rounds": _ROUNDS,
        "batch": 32,
        **changes,
    }
    return SimConfig.model_validate(document)


def _run(method: str | Mapping[str, Any], **changes: Any) -> Sim:
    """Run all rounds without evaluation."""
    sim = build_sim(_config(method, **changes))
    for number in range(1, _ROUNDS + 1):
        play_round(sim, number)
    return sim


def _cuts() -> range:
    """Return every legal cut of the model."""
    return range(1, len(build_sim(_config("fedavg")).setup.model))


def _central() -> dict[str, Tensor]:
    """Return the weights of a plain training loop over the batches of the only client."""
    cfg = _config("fedavg", num_clients=1)
    sim = build_sim(cfg)
    model, samples = sim.setup.model.copy().model, sim.clients[0]
    for number in range(1, _ROUNDS + 1):
        optimizer = torch.optim.SGD(model.parameters(), lr=cfg.optim.lr)
        for rows in permuted(len(samples), cfg.batch, derived_seed(cfg.seed, number, 0, 0, 1)):
            optimizer.zero_grad()
            F.cross_entropy(model(samples.x[rows]), samples.y[rows]).backward()
            optimizer.step()
    return dict(model.state_dict())


def _weights(sim: Sim) -> dict[str, Tensor]:
    return sim.method.global_model.weights()


def _equal(runs: Iterable[tuple[str, Sim, Sim]]) -> Finding:
    return _equal_weights((name, _weights(one), _weights(other)) for name, one, other in runs)


def _equal_weights(runs: Iterable[tuple[str, Mapping[str, Tensor], Mapping[str, Tensor]]]) -> Finding:
    """Compare weights to the bit; the detail lists the largest distances."""
    worst = {name: max(_distances(one, other)) for name, one, other in runs}
    wrong = [f"{name} by {distance:.1e}" for name, distance in worst.items() if distance]
    return Finding(not wrong, f"differ: {', '.join(wrong)}" if wrong else f"equal to the bit: {', '.join(worst)}")


def _distances(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[float]:
    for name, value in one.items():
        yield float((value.double() - other[name].double()).abs().max())


def _cut_bytes(totals: LedgerTotals) -> int:
    return sum(way[kind] for way in (totals.up, totals.down) for kind in ("activations", "gradients"))


def _formula(*, up: bool, down: bool, weights: str) -> Callable[[Sim], LedgerTotals]:
    """Return the bytes by formula: E n (q s + l) up, E n q s down, and |C| s or N s each way, over all rounds."""

    def expected(sim: Sim) -> LedgerTotals:
        setup = sim.setup
        num_samples = _ROUNDS * sum(setup.num_samples)
        q_bytes = _FLOAT_BYTES * torch.Size(setup.model.shape_at(setup.first)).numel()
        parts = setup.model.part(0, setup.first if weights == "client" else len(setup.model))
        num_weights = sum(parameter.numel() for parameter in parts.parameters())
        weight_bytes = _ROUNDS * sim.cfg.num_clients * _FLOAT_BYTES * num_weights
        zero = LedgerTotals()
        return LedgerTotals(
            {
                **zero.up,
                "activations": num_samples * q_bytes * up,
                "labels": num_samples * _LABEL_BYTES * up,
                "weights": weight_bytes,
            },
            {**zero.down, "gradients": num_samples * q_bytes * down, "weights": weight_bytes},
        )

    return expected


_FORMULAS: Mapping[str, Callable[[Sim], LedgerTotals]] = {
    "fedavg": _formula(up=False, down=False, weights="whole"),
    "relay": _formula(up=True, down=True, weights="client"),
    "splitfed-v1": _formula(up=True, down=True, weights="client"),
    "splitfed-v2": _formula(up=True, down=True, weights="client"),
}


def _differs(kind: str, expected: Callable[[Sim], LedgerTotals]) -> bool:
    sim = _run(kind)
    return sim.ledger.totals != expected(sim)
