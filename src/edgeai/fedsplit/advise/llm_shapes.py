"""Large language models as shapes: the layers of a Llama on the meta device, without memory for weights.

Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; grouped queries as in Llama 2 and 3.
The layers serve to count parameters, FLOPs, bytes and memory; they cannot compute values.

Shapes: b samples, T positions, D width, A heads, G heads of keys and values.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeai.fedsplit.config.advise import TransformerShapeConfig


class ShapeBlock(nn.Module):
    """Decoder layer: RMSNorm, grouped-query attention with rotary positions, RMSNorm, SwiGLU, with residuals.

    Args:
        width: Model width: D.
        num_heads: Number of attention heads: A.
        num_kv_heads: Number of key and value heads: G.
        ffn: Hidden width of the SwiGLU.
    """

    def __init__(self, width: int, *, num_heads: int, num_kv_heads: int, ffn: int) -> None:
        super().__init__()
        self.head_width, self.num_queries = width // num_heads, num_heads // num_kv_heads
        kv_width = num_kv_heads * self.head_width
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.output = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = nn.Linear(width, kv_width, bias=False), nn.Linear(width, kv_width, bias=False)
        self.gate, self.up = nn.Linear(width, ffn, bias=False), nn.Linear(width, ffn, bias=False)
        self.down = nn.Linear(ffn, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[b, T, D] to [b, T, D]."""
        x = x + self.attend(self.norm1(x))
        y = self.norm2(x)
        out: Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return out

    def attend(self, x: Tensor) -> Tensor:
        """Return attention outputs through a fused kernel, which stores no [T, T] scores, as CPUs and GPUs do."""
        query, key = self._rotated(self._heads(self.query(x))), self._rotated(self._heads(self.key(x)))
        value = self._heads(self.value(x))
        key, value = (heads.repeat_interleave(self.num_queries, dim=1) for heads in (key, value))
        mixed = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, True)[0]
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # [b, heads, T, D / A]

    def _rotated(self, x: Tensor) -> Tensor:
        """Return heads after operations that cost as much as rotary embedding; the values do not matter."""
        angle = x.new_empty(x.shape[-2], x.shape[-1])
        first, second = x.chunk(2, dim=-1)
        return x * angle.cos() + torch.cat((-second, first), dim=-1) * angle.sin()


def build_shape(cfg: TransformerShapeConfig) -> nn.Sequential:
    """Return the layers embed, block1, ..., norm, head on the meta device: tokens [b, T] to logits [b, T, vocab]."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.device("meta"):
        layers["embed"] = nn.Embedding(cfg.vocab, cfg.width)
        for number in range(1, cfg.layers + 1):
            layers[f"block{number}"] = ShapeBlock(
                cfg.width, num_heads=cfg.heads, num_kv_heads=cfg.kv_heads, ffn=cfg.ffn
            )
        layers["norm"] = nn.RMSNorm(cfg.width)
        layers["head"] = nn.Linear(cfg.width, cfg.vocab, bias=False)
    return nn.Sequential(layers)
