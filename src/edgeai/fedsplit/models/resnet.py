"""ResNet-18 (He et al. 2016, https://arxiv.org/abs/1512.03385), block by block.

Differs from the paper: GroupNorm by default instead of BatchNorm, and a 3x3 stem without pooling for small images.
With the large stem, width 64 and 1,000 classes it has the paper's 11,689,512 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgeai.fedsplit.models.input_shapes import chain, norm_layers

_NUM_GROUPS = 32  # Wu and He 2018


class BasicBlock(nn.Module):
    """Residual block with two 3x3 convolutions.

    Args:
        inner: Channels of the input.
        outer: Channels of the output.
        stride: Stride of the first convolution.
        norm: Kind of normalization: group or batch.
    """

    def __init__(self, inner: int, outer: int, *, stride: int, norm: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
            *norm_layers(norm, outer, dims=2, num_groups=_NUM_GROUPS),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, padding=1, bias=False),
            *norm_layers(norm, outer, dims=2, num_groups=_NUM_GROUPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride=stride, bias=False),
                *norm_layers(norm, outer, dims=2, num_groups=_NUM_GROUPS),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, inner, H, W] to [b, outer, H / stride, W / stride]."""
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


def resnet18(shape: tuple[int, int, int], num_classes: int, *, width: int, norm: str, large: bool) -> nn.Sequential:
    """Return stem, four stages of two blocks, global average pooling and output layer.

    Args:
        shape: Shape [C, H, W] of a sample.
        num_classes: Number of outputs.
        width: Channels of the first stage; they double at each further stage.
        norm: Kind of normalization: group or batch.
        large: Whether to use the paper's stem, which reduces height and width by 4.
    """
    if large:
        conv, pool = nn.Conv2d(shape[0], width, 7, stride=2, padding=3, bias=False), [nn.MaxPool2d(3, 2, padding=1)]
    else:
        conv, pool = nn.Conv2d(shape[0], width, 3, padding=1, bias=False), []
    stem = nn.Sequential(conv, *norm_layers(norm, width, dims=2, num_groups=_NUM_GROUPS), nn.ReLU(), *pool)
    layers: dict[str, nn.Module] = {"stem": stem}
    inner = width
    for stage in range(4):
        outer = width * 2**stage
        for half in range(2):
            stride = 2 if stage and not half else 1
            layers[f"block{2 * stage + half + 1}"] = BasicBlock(inner, outer, stride=stride, norm=norm)
            inner = outer
    layers["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return chain(**layers, out=nn.Linear(inner, num_classes))
