"""`edgeai fedsplit verify`: what must be equal is equal, on this machine, with this version.

Eleven facts that follow from algebra, checked on digits with a small net: most of them to the bit, because the same
operations run in the same order. They are the reason to believe the numbers of methods for which there is no such fact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeai.core.metrics import Metrics
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.protocol.batching import derived_seed
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
    """One fact."""

    number: int
    fact: str
    holds: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class VerifyReport:
    """All facts."""

    checks: tuple[Check, ...]

    @property
    def num_failed(self) -> int:
        """Facts that do not hold."""
        return sum(not check.holds for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"num_failed": self.num_failed, **asdict(self)}


Finding = tuple[bool, str]


def verify(metrics: Metrics) -> VerifyReport:
    """Checks all facts.

    Args:
        metrics: Told how far it is.
    """
    checks = []
    for number, (fact, find) in enumerate(FACTS, start=1):
        start = time.perf_counter()
        holds, detail = find()
        checks.append(Check(number, fact, holds, detail, time.perf_counter() - start))
        metrics.progress("verify", number, len(FACTS), unit="facts")
    return VerifyReport(tuple(checks))


def _v1_is_fedavg() -> Finding:
    reference = _played("fedavg")
    runs = [(f"cut {cut}", _played("splitfed-v1", cut=cut), reference) for cut in _cuts()]
    skewed = {"partition": {"kind": "dirichlet", "alpha": 0.3}, "optim": {"momentum": 0.9}}
    runs.append(("Dirichlet, momentum", _played("splitfed-v1", **skewed), _played("fedavg", **skewed)))
    return _equal(runs)


def _relay_at_any_cut() -> Finding:
    first, *others = _cuts()
    reference = _played("relay", cut=first)
    return _equal((f"cut {cut}", _played("relay", cut=cut), reference) for cut in others)


def _ushape_is_relay() -> Finding:
    return _equal([("U-shape", _played("ushape"), _played("relay"))])


def _sflg_ends() -> Finding:
    return _equal(
        [
            ("one group each and V1", _played({"kind": "sflg", "groups": 3}), _played("splitfed-v1")),
            ("one group and V2", _played({"kind": "sflg", "groups": 1}), _played("splitfed-v2")),
        ]
    )


def _one_client() -> Finding:
    kinds = ("fedavg", "relay", "splitfed-v1", "splitfed-v2", "psl")
    central = _central()
    runs = [(kind, _weights(_played(kind, num_clients=1)), central) for kind in kinds]
    return _equal_weights(runs)


def _multihop_is_relay() -> Finding:
    return _equal([("multi-hop", _played("multihop"), _played("relay"))])


def _hsfl_ends() -> Finding:
    return _equal(
        [
            ("nobody splits and FedAvg", _played({"kind": "hsfl", "split_frac": 0.0}), _played("fedavg")),
            ("all split and V1", _played({"kind": "hsfl", "split_frac": 1.0}), _played("splitfed-v1")),
        ]
    )


def _cse_is_local_loss() -> Finding:
    return _equal([("CSE-FSL, h = 1", _played({"kind": "cse-fsl", "h": 1}), _played("local-loss"))])


def _local_loss_is_half() -> Finding:
    local, relay = _played("local-loss").ledger.totals, _played("relay").ledger.totals
    half, whole = _cut_bytes(local), _cut_bytes(relay)
    return 2 * half == whole, f"{half:,} of {whole:,} bytes at the cut, labels left out"


def _codec_and_ledger() -> Finding:
    ends = build_ends(CodecConfig(), 0, 0)
    message = Message(activations={"z": torch.ones(2, 3)}, labels={"y": torch.ones(2, dtype=torch.int64)})
    is_same = all(end.pack(message) is message and end.unpack(message) is message for end in ends)
    wrong = [kind for kind, expected in _FORMULAS.items() if _differs(kind, expected)]
    detail = f"codec none passes messages as they are: {is_same}; bytes differ: {', '.join(wrong) or 'nowhere'}"
    return is_same and not wrong, detail


def _batchnorm() -> Finding:
    model = {"kind": "cnn", "norm": "batch"}
    fedavg, v1 = _played("fedavg", model=model), _played("splitfed-v1", model=model)
    is_equal, detail = _equal([("SplitFed V1 and FedAvg, running statistics too", v1, fedavg)])
    num_bytes = sum(value.numel() * value.element_size() for value in _weights(fedavg).values())
    charged = fedavg.ledger.totals.up["weights"] == _ROUNDS * fedavg.cfg.num_clients * num_bytes
    return is_equal and charged, f"{detail}; running statistics are charged: {charged}"


FACTS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("SplitFed V1 is FedAvg, at any cut, IID or not", _v1_is_fedavg),
    ("relay split learning does not depend on the cut", _relay_at_any_cut),
    ("U-shaped is vanilla split learning", _ushape_is_relay),
    ("SFLG with a group for each client is V1, with one group V2", _sflg_ends),
    ("with one client FedAvg, SL, V1, V2 and PSL are training without any split", _one_client),
    ("multi-hop is two-part split learning", _multihop_is_relay),
    ("HSFL without splitting clients is FedAvg, with nobody else SplitFed V1", _hsfl_ends),
    ("CSE-FSL with h = 1 is local loss", _cse_is_local_loss),
    ("local loss moves half of split learning's bytes at the cut", _local_loss_is_half),
    ("no codec changes nothing, and the ledger is the formula", _codec_and_ledger),
    ("BatchNorm's running statistics are averaged like weights, and charged", _batchnorm),
)
"""In the order of the reference's list."""


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


def _played(method: str | Mapping[str, Any], **changes: Any) -> Sim:
    """A run after its rounds; nothing is tested."""
    sim = build_sim(_config(method, **changes))
    for number in range(1, _ROUNDS + 1):
        play_round(sim, number)
    return sim


def _cuts() -> range:
    """Every legal cut of the model used here."""
    return range(1, len(build_sim(_config("fedavg")).setup.model))


def _central() -> dict[str, Tensor]:
    """The same training written as a plain loop over the batches of the only client."""
    cfg = _config("fedavg", num_clients=1)
    sim = build_sim(cfg)
    model, samples = sim.setup.model.copy().model, sim.clients[0]
    for number in range(1, _ROUNDS + 1):
        optimizer = torch.optim.SGD(model.parameters(), lr=cfg.optim.lr)
        generator = torch.Generator().manual_seed(derived_seed(cfg.seed, number, 0, 0, 1))
        for rows in torch.randperm(len(samples), generator=generator).split(cfg.batch):
            optimizer.zero_grad()
            F.cross_entropy(model(samples.x[rows]), samples.y[rows]).backward()
            optimizer.step()
    return dict(model.state_dict())


def _weights(sim: Sim) -> dict[str, Tensor]:
    return sim.method.global_model.weights()


def _equal(runs: Iterable[tuple[str, Sim, Sim]]) -> Finding:
    return _equal_weights((name, _weights(one), _weights(other)) for name, one, other in runs)


def _equal_weights(runs: Iterable[tuple[str, Mapping[str, Tensor], Mapping[str, Tensor]]]) -> Finding:
    """Whether weights are the same to the bit; says how far they are apart where not."""
    worst = {name: max(_distances(one, other)) for name, one, other in runs}
    wrong = [f"{name} by {distance:.1e}" for name, distance in worst.items() if distance]
    return not wrong, f"differ: {', '.join(wrong)}" if wrong else f"equal to the bit: {', '.join(worst)}"


def _distances(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[float]:
    for name, value in one.items():
        yield float((value.double() - other[name].double()).abs().max())


def _cut_bytes(totals: LedgerTotals) -> int:
    return sum(way[kind] for way in (totals.up, totals.down) for kind in ("activations", "gradients"))


def _formula(*, up: bool, down: bool, weights: str) -> Callable[[Sim], LedgerTotals]:
    """Bytes by the cost table: E n (q s + l) up, E n q s down, and |C| s or N s each way, over all rounds."""

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
    sim = _played(kind)
    return sim.ledger.totals != expected(sim)
