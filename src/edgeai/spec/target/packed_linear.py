"""Linear layers with frozen weights, packed once for the CPU's matrix kernels.

On a CPU, oneDNN copies a plain weight into its own blocked layout on every call, which costs more than the product
itself for the few rows of decoding; float32 also becomes much slower from one row to several. Packing the weights in
advance makes both number formats two to four times faster at 1 to 8 rows and never slower.

Shapes: M rows, I inputs, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# below this number of weights the fixed cost of the oneDNN call exceeds the gain of the layout
_MIN_PACKED_NUMEL = 1 << 16
_PACKED_DTYPES = (torch.float32, torch.bfloat16)


class PackedLinear:
    """y = x W^T + b for a frozen W.

    Args:
        weight: Weight matrix W [O, I].
        bias: Bias b [O]; None for no bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._bias = bias
        self._is_packed = (
            weight.device.type == "cpu"
            and weight.dtype in _PACKED_DTYPES
            and weight.numel() >= _MIN_PACKED_NUMEL
            and torch.backends.mkldnn.is_available()
            and (weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._is_packed else weight

    def __call__(self, x: Tensor) -> Tensor:
        """Map [..., I] to [..., O]."""
        if self._is_packed:
            out: Tensor = _linear(x, self._weight, self._bias, "none", [], "")
            return out
        return F.linear(x, self._weight, self._bias)


_linear = torch.ops.mkldnn._linear_pointwise.default
