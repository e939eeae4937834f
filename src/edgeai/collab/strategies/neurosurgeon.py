"""Neurosurgeon: partition the edge model where the sum of edge, link and cloud time is minimal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeai.collab.models.inputs import stack_images
from edgeai.collab.models.seg_model import SegModel
from edgeai.collab.models.street_net import StreetNet
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.strategy import EdgeFirst, Route, Split, Strategy
from edgeai.collab.wire.codec import HEADER_BYTES

CLOUD_SPEEDUP = 10.0
"""Speed of the cloud relative to the edge, for the same layer (ours)."""
REPLAN_S = 1.0
FIRST_JPEG_BYTES = 10_000
"""Assumed size until the first frame is sent."""


@dataclass(frozen=True)
class Cut:
    """A possible partition point of the edge model."""

    edge_frac: float
    """Share of the work at the edge."""
    num_bytes: int
    """Size of all activations that later layers use, at one byte per value."""


class Neurosurgeon(Strategy):
    """neurosurgeon: the edge model is partitioned between edge and cloud; the answer is always that of the edge model.

    Paper: Neurosurgeon, ASPLOS 2017. Rule: the layer k that minimizes edge(1..k) + bytes_k / rate + cloud(k+1..n), from
    predicted layer times and the measured rate, recomputed every second. Differs: layer times are shares of the
    configured or measured pass by multiply-adds, the cloud is 10 times as fast, activations are sent at one byte per
    value, and k = 0 sends the frame as JPEG.

    Two properties follow. First, a segmentation net keeps fine feature maps up to its end, all larger than a JPEG file,
    so only the two ends are ever selected: the whole model at the edge, or the whole model in the cloud. Second, with
    the default compute.edge_s of 0.03 s the edge needs less time than one round trip on 4g (0.05 s), so every frame
    stays at the edge and the result equals edge-only. Frames are offloaded when the edge is slower than the link: with
    compute.edge_s=0.2 on 4g, mean latency falls from 200 to 83 ms, at 9.6 kB per frame and 1 point of mIoU, which JPEG
    compression costs.
    """

    uses_cloud_models = False

    def __init__(self, context: StrategyContext) -> None:
        self._pass_s, self._delay_s = context.pass_s, context.delay_s
        self.cuts = find_cuts(context.edge.model, context.size_px)
        self._jpeg_bytes = FIRST_JPEG_BYTES
        self._goodput_bps: float | None = None
        self._layer = 0
        self._planned_s: float | None = None

    def route(self, now_s: float) -> Route:
        """Return the partition of the latest plan, recomputed every second."""
        if self._planned_s is None or now_s - self._planned_s >= REPLAN_S:
            self._layer, self._planned_s = self.plan(), now_s
        if self._layer == len(self.cuts) - 1:
            return EdgeFirst()
        cut = self.cuts[self._layer]
        edge_s = self._pass_s * cut.edge_frac
        return Split(self._layer, edge_s, (self._pass_s - edge_s) / CLOUD_SPEEDUP, cut.num_bytes)

    def plan(self) -> int:
        """Return the partition point with the lowest predicted latency; an unknown rate counts as infinite."""
        return min(range(len(self.cuts)), key=self.latency_s)

    def latency_s(self, layer: int) -> float:
        """Return the predicted latency of a partition point."""
        cut = self.cuts[layer]
        edge_s = self._pass_s * cut.edge_frac
        if layer == len(self.cuts) - 1:
            return edge_s
        num_bytes = HEADER_BYTES + (cut.num_bytes if layer else self._jpeg_bytes)
        link_s = 2 * self._delay_s + (8 * num_bytes / self._goodput_bps if self._goodput_bps else 0.0)
        return edge_s + link_s + (self._pass_s - edge_s) / CLOUD_SPEEDUP

    def on_sent(self, num_bytes: int, now_s: float, goodput_bps: float | None) -> None:
        """Update frame size and rate."""
        if self._layer == 0:
            self._jpeg_bytes = num_bytes - HEADER_BYTES
        self._goodput_bps = goodput_bps or self._goodput_bps


def find_cuts(model: SegModel, size_px: tuple[int, int]) -> list[Cut]:
    """Return the partition points, from the frame itself to the whole model at the edge.

    A street net can be partitioned after each stage; of other nets only the two ends are known.
    """
    net = model.trainable
    if not isinstance(net, StreetNet):
        return [Cut(0.0, 0), Cut(1.0, 0)]
    stages: list[nn.Module] = [net.stem, net.detail, net.down, *net.body.children()]
    stages += [net.up_4, net.join_4, net.up_2, net.join_2, net.scores]
    work, sizes = _measured(model, stages, size_px)
    # skip connections: the first two outputs are used again before the second-last and the fourth-last stage
    last_use = (len(stages) - 2, len(stages) - 4)
    cuts, done = [Cut(0.0, 0)], 0
    for place in range(len(stages) - 1):
        done += work[place]
        skips = sum(sizes[skip] for skip, last in enumerate(last_use) if skip < place < last)
        cuts.append(Cut(done / sum(work), sizes[place] + skips))
    return [*cuts, Cut(1.0, 0)]


@torch.no_grad()
def _measured(model: SegModel, stages: Sequence[nn.Module], size_px: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Return the multiply-adds and output values of each stage for one frame."""
    work, sizes = [0] * len(stages), [0] * len(stages)
    handles = []
    for place, stage in enumerate(stages):

        def note_size(_: nn.Module, __: Any, out: Tensor, place: int = place) -> None:
            sizes[place] = out.numel()

        def note_work(conv: nn.Module, __: Any, out: Tensor, place: int = place) -> None:
            assert isinstance(conv, nn.Conv2d)
            work[place] += out.numel() * conv.weight[0].numel()

        handles.append(stage.register_forward_hook(note_size))
        convs = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
        handles += [conv.register_forward_hook(note_work) for conv in convs]
    device = next(iter(stages[0].parameters())).device
    black = torch.zeros(*size_px, 3, dtype=torch.uint8).numpy()
    model.forward_batch(stack_images([black], device))
    for handle in handles:
        handle.remove()
    return work, sizes
