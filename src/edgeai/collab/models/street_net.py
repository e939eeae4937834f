"""The street net: a small encoder-decoder for segmentation, in one size for the edge and one for the cloud.

Shapes: B images, C classes, F feature channels, H x W pixels, h x w = H/8 x W/8 positions.

    [B,3,H,W] -> stem /2 -> step /4 (saved as detail) -> step /8 -> residual blocks with growing dilation -> features
    features -> up to /4, joined with detail -> up to /2, joined with the stem -> class scores -> up to [B,C,H,W]

Ours, similar to ERFNet (residual dilated body at stride 8) and Fast-SCNN (one detail branch, depthwise-separable
convolutions). BatchNorm throughout: its statistics adapt to new lighting first.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

DILATIONS = (1, 2, 4, 8)  # repeated in turn; at stride 8 the last one spans 128 px


@dataclass(frozen=True)
class StreetNetShape:
    """Architecture sizes of a street net."""

    num_classes: int
    width: int = 128
    """Channels at stride 8; half of them at stride 4, a quarter at stride 2."""
    depth: int = 8
    """Residual blocks at stride 8."""
    separable: bool = True
    """Depthwise-separable blocks (edge) or full 3x3 convolutions (cloud)."""


class StreetNet(nn.Module):
    """Computes class scores and features of a batch of images.

    Args:
        shape: Architecture sizes.
    """

    def __init__(self, shape: StreetNetShape) -> None:
        super().__init__()
        self.shape = shape
        width, half, quarter = shape.width, shape.width // 2, shape.width // 4
        self.stem = _Conv(3, quarter, stride=2)
        self.detail = _Conv(quarter, half, stride=2, separable=shape.separable)
        self.down = _Conv(half, width, stride=2, separable=shape.separable)
        dilations = (DILATIONS[i % len(DILATIONS)] for i in range(shape.depth))
        self.body = nn.Sequential(*(_Residual(width, dilation, shape.separable) for dilation in dilations))
        self.up_4 = _Conv(width, half, size=1, act=False)
        self.join_4 = _Conv(half, half, separable=shape.separable)
        self.up_2 = _Conv(half, quarter, size=1, act=False)
        self.join_2 = _Conv(quarter, quarter, separable=shape.separable)
        self.scores = nn.Conv2d(quarter, shape.num_classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the net on images with H and W of at least 16.

        Args:
            x: Normalized images [B,3,H,W].

        Returns:
            Class scores [B,C,H,W] and features [B,F,h,w].
        """
        stem = self.stem(x)  # [B,F/4,H/2,W/2]
        detail = self.detail(stem)  # [B,F/2,H/4,W/4]
        features = self.body(self.down(detail))  # [B,F,h,w]
        y = self.join_4(F.relu(_upsample(self.up_4(features), detail) + detail))
        y = self.join_2(F.relu(_upsample(self.up_2(y), stem) + stem))
        return _upsample(self.scores(y), x), features


class _Conv(nn.Sequential):
    """Convolution, BatchNorm, ReLU; a separable one is a depthwise 3x3 and then a 1x1."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        size: int = 3,
        separable: bool = False,
        act: bool = True,
    ) -> None:
        layers: list[nn.Module] = []
        pad = dilation * (size // 2)
        if separable:
            layers += [nn.Conv2d(num_in, num_in, size, stride, pad, dilation, groups=num_in, bias=False)]
            layers += [nn.BatchNorm2d(num_in), nn.Conv2d(num_in, num_out, 1, bias=False)]
        else:
            layers += [nn.Conv2d(num_in, num_out, size, stride, pad, dilation, bias=False)]
        layers += [nn.BatchNorm2d(num_out)] + [nn.ReLU(inplace=True)] * act
        super().__init__(*layers)


class _Residual(nn.Module):
    """Two convolutions, the second dilated, added to their input."""

    def __init__(self, width: int, dilation: int, separable: bool) -> None:
        super().__init__()
        self.first = _Conv(width, width, separable=separable)
        self.second = _Conv(width, width, dilation=dilation, separable=separable, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _upsample(small: Tensor, like: Tensor) -> Tensor:
    """Resize a map bilinearly to the height and width of another map."""
    return F.interpolate(small, like.shape[-2:], mode="bilinear", align_corners=False)


def num_parameters(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())
