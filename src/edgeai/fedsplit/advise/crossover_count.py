"""Bytes that the ledger counts in real rounds on random samples, to compare with the crossover formulas."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.advise.crossover import Counted
from edgeai.fedsplit.config.advise import AdviseConfig, TransformerShapeConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.config.split import RelayConfig
from edgeai.fedsplit.config.world import WorldConfig
from edgeai.fedsplit.data.samples import Dataset, Samples
from edgeai.fedsplit.sim.build import assemble
from edgeai.fedsplit.sim.train import play_round


def count_rounds(cfg: AdviseConfig, cuts: Sequence[str]) -> tuple[Counted, ...]:
    """Run a round of FedAvg, and of relay learning at each cut, with one client per entry of `cfg.count_samples`.

    Only bytes are counted: the samples are noise, and the world is the default one.

    Raises:
        UsageError: The model is a shape without weights, or has one output per position.
    """
    if isinstance(cfg.model, TransformerShapeConfig):
        raise UsageError("count_samples runs real rounds, but a transformer-shape has no weights", hint="set it to []")
    counted = []
    for num_samples in cfg.count_samples:
        counted.append(Counted("", num_samples, _play(cfg, FedAvgConfig(), None, num_samples)))
        counted += [Counted(cut, num_samples, _play(cfg, RelayConfig(), cut, num_samples)) for cut in cuts]
    return tuple(counted)


def _play(cfg: AdviseConfig, method: FedAvgConfig | RelayConfig, cut: str | None, num_samples: int) -> int:
    """Return the bytes of a round with one client, both directions."""
    is_tokens = cfg.tokens or getattr(cfg.model, "vocab", None) is not None
    chance = torch.Generator().manual_seed(cfg.seed)
    shape = (num_samples, *cfg.sample_shape)
    x = torch.zeros(shape, dtype=torch.int64) if is_tokens else torch.randn(shape, generator=chance)
    samples = Samples(x, torch.randint(cfg.num_classes, (num_samples,), generator=chance))
    dataset = Dataset("noise", samples, samples, tuple(str(number) for number in range(cfg.num_classes)))
    asked = SimConfig(
        seed=cfg.seed,
        num_clients=1,
        model=cfg.model,
        cut=1 if cut is None else cut,
        method=method,
        local_epochs=cfg.local_epochs,
        batch=cfg.batch,
        optim=cfg.optim,
        codec=cfg.codec,
        world=WorldConfig(),
    )
    sim = assemble(asked, dataset, [samples])
    play_round(sim, 1)
    return sim.ledger.totals.num_bytes
