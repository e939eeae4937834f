"""Builds a codec from its config."""

from __future__ import annotations

from edgeai.fedsplit.config.codec import Direction, FedliteConfig, Fp16Config, RandtopkConfig, TopkConfig, UniformConfig
from edgeai.fedsplit.protocol.codec.codec import Codec
from edgeai.fedsplit.protocol.codec.fedlite import FedLite
from edgeai.fedsplit.protocol.codec.fp16 import Fp16
from edgeai.fedsplit.protocol.codec.randtopk import RandTopK
from edgeai.fedsplit.protocol.codec.topk import TopK
from edgeai.fedsplit.protocol.codec.uniform import Uniform


def build_codec(cfg: Direction) -> Codec | None:
    """Build the codec of one direction; None if tensors are sent unchanged."""
    if isinstance(cfg, Fp16Config):
        return Fp16()
    if isinstance(cfg, UniformConfig):
        return Uniform(bits=cfg.bits, per_channel=cfg.per == "channel", stochastic=cfg.stochastic)
    if isinstance(cfg, TopkConfig):
        return TopK(cfg)
    if isinstance(cfg, RandtopkConfig):
        return RandTopK(cfg)
    if isinstance(cfg, FedliteConfig):
        return FedLite(
            num_subvectors=cfg.num_subvectors,
            groups=cfg.groups,
            centroids=cfg.centroids,
            iterations=cfg.iterations,
        )
    return None
