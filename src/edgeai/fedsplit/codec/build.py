"""From a config to a codec."""

from __future__ import annotations

from edgeai.fedsplit.codec.codec import Codec
from edgeai.fedsplit.codec.fedlite import FedLite
from edgeai.fedsplit.codec.fp16 import Fp16
from edgeai.fedsplit.codec.randtopk import RandTopK
from edgeai.fedsplit.codec.topk import TopK
from edgeai.fedsplit.codec.uniform import Uniform
from edgeai.fedsplit.codec_schema import Direction, FedliteConfig, Fp16Config, RandtopkConfig, TopkConfig, UniformConfig


def build_codec(cfg: Direction) -> Codec | None:
    """The codec of one direction; None where tensors cross as they are."""
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
