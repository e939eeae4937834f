"""Randomised top-k (Zheng et al. 2023, "Reducing communication for split learning by randomized top-k sparsification").

Legend: b samples, q values per sample, k kept, m of them not from the top.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.config.codec import RandtopkConfig
from edgeai.fedsplit.protocol.codec.sizes import num_kept
from edgeai.fedsplit.protocol.codec.topk import TopK


class RandTopK(TopK):
    """Draws k values without replacement: each from the top k with probability 1 - alpha, otherwise from the rest.

    Both draws are uniform. They are made at once: m ~ Binomial(k, alpha) of the k values, at most q - k, come from the
    rest.

    Args:
        cfg: Number or share of values kept, and alpha.
    """

    def __init__(self, cfg: RandtopkConfig) -> None:
        super().__init__(cfg)
        self._alpha = cfg.alpha

    def select(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the indices of the kept values, int64 [b, k]."""
        flat = x.flatten(1)
        num_samples, num_values = flat.shape
        k = num_kept(self._cfg, num_values)
        top = flat.abs().topk(k, dim=1, sorted=False).indices.cpu()
        num_rest = (torch.rand(num_samples, k, generator=generator) < self._alpha).sum(dim=1)  # m [b]
        num_rest = num_rest.clamp(max=num_values - k)
        keys = torch.rand(num_samples, num_values, generator=generator)
        shuffled = top.gather(1, keys.gather(1, top).argsort(dim=1))  # the first m are replaced
        most = int(num_rest.max())
        rest = keys.scatter(1, top, -1.0).topk(most, dim=1).indices  # [b, most]; never a top value
        from_rest = torch.arange(most) < num_rest[:, None]
        shuffled[:, :most] = torch.where(from_rest, rest, shuffled[:, :most])
        return shuffled.to(x.device)
