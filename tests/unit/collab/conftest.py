"""A tiny system for fast runs: noisy blocks of three colors in two kinds of light.

The edge model classifies single pixels and is calibrated for daylight; the cloud averages neighboring pixels and knows
both lights. Frames differ in contrast, so that their scores differ.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from edgeai.collab.cloud.answer_store import AnswerStore
from edgeai.collab.cloud.models import CloudModels
from edgeai.collab.config.policy import MinerConfig, ReplayConfig, UpdateConfig
from edgeai.collab.config.run import CollabRunConfig
from edgeai.collab.models.masks.source import Mask
from edgeai.collab.reports.frame_records import read_records
from edgeai.collab.sim.run import play
from edgeai.collab.streams.stream import Frame
from edgeai.core.link import LinkConfig
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run

COLORS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]], dtype=np.float32)
CLASSES = ("red", "green", "blue")
DUSK = np.array([0.5, 0.25, 0.45], dtype=np.float32)
BLOCK_PX = 8


class ToyStream:
    """Blocks of colors; from `dark_from` on it is dusk. Frames whose number is in `bad` cannot be read."""

    classes = CLASSES
    palette = COLORS.astype(np.uint8)

    def __init__(self, num_frames=60, *, height=16, width=24, rate_hz=5.0, dark_from=30, bad=()):
        self.num_frames, self.height, self.width, self.rate_hz = num_frames, height, width, rate_hz
        self.dark_from, self.bad = dark_from, bad
        self.problems = []

    def frame(self, index):
        rng = np.random.default_rng((7, index))
        labels = rng.integers(0, 3, (self.height // BLOCK_PX, self.width // BLOCK_PX), dtype=np.uint8)
        labels = labels.repeat(BLOCK_PX, 0).repeat(BLOCK_PX, 1)
        contrast = rng.uniform(0.3, 1.0)
        colors = 110 + contrast * (COLORS[labels] - 110) + rng.normal(0, 40, (self.height, self.width, 3))
        light, segment = (DUSK, "dusk") if index >= self.dark_from else (1.0, "day")
        image = np.clip(light * colors, 0, 255).astype(np.uint8)
        return Frame(f"{index:06d}", index / self.rate_hz, image, labels, segment)

    def frames(self):
        self.problems = []
        for index in range(self.num_frames):
            if index in self.bad:
                self.problems.append(f"{index:06d}.png: not a picture")
            else:
                yield self.frame(index)


class ToyEdge:
    """Nearest color by daylight, as a linear layer and BatchNorm that can be trained."""

    classes = CLASSES
    frozen_reason = ""
    digest = "toy"

    def __init__(self):
        mix = nn.Conv2d(3, 3, 1)
        centerd = torch.from_numpy((COLORS - COLORS.mean(0)) / 255)
        with torch.no_grad():
            mix.weight.copy_(24 * centerd[:, :, None, None])
            mix.bias.copy_(-24 * centerd @ torch.full((3,), 110 / 255))
        self.net = self.trainable = nn.Sequential(mix, nn.BatchNorm2d(3)).eval()

    def forward_batch(self, images):
        logits = self.net(images.permute(0, 3, 1, 2).float() / 255)
        return logits, logits.mean((2, 3))

    @torch.no_grad()
    def features(self, image):
        logits, pooled = self.forward_batch(torch.from_numpy(image.copy())[None])
        return logits[0], pooled[0]

    def logits(self, image):
        return self.features(image)[0]


class ToyCloud:
    """The largest of the three color channels of a patch, the light taken out."""

    classes = CLASSES

    def logits(self, image):
        daylight = image / DUSK if image.mean() < 70 else image
        x = torch.from_numpy(np.array(daylight)).permute(2, 0, 1)[None].float()
        x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)[0]
        return (x - x.mean(0)) / 10


class FirstBlock:
    """One mask: the block at the top left."""

    def propose(self, image, logits):
        mask = np.zeros(image.shape[:2], bool)
        mask[:BLOCK_PX, :BLOCK_PX] = True
        return [Mask(mask, 1.0)]


@dataclass
class ToyTestbed:
    """What `run.play` takes in place of a `Testbed`."""

    stream: ToyStream = field(default_factory=ToyStream)
    edge: ToyEdge = field(default_factory=ToyEdge)
    masks: object = field(default_factory=FirstBlock)
    max_bytes: int = 1 << 20

    @property
    def size_px(self):
        return self.stream.height, self.stream.width

    def cloud(self, config):
        return AnswerStore(CloudModels(ToyCloud(), self.masks, config.fusion).answer, max_bytes=self.max_bytes)

    def first_image(self):
        return self.stream.frame(0).image


PERFECT = LinkConfig(up_bps=1e12, down_bps=1e12, delay_s=0.0)
CHEAP = {
    "miner": MinerConfig(steps=5, hidden=4, min_frames=4),
    "update": UpdateConfig(
        steps=5, lr=0.02, every_frames=8, compute_s=0.5, refresh_prior=0, replay=ReplayConfig(capacity=40, newest=20)
    ),
    "link": PERFECT,
    "compute": {"edge_s": 0.03, "encode_s": 0.002, "cloud_s": 0.05},
}


@dataclass
class Played:
    """A run: its report, its records in order of the stream, and its folder."""

    report: object
    records: list
    folder: object


@pytest.fixture
def toy(tmp_path):
    """toy(strategy, testbed=..., **config): plays the tiny system."""
    number = 0

    def run(strategy, *, testbed=None, **changes):
        nonlocal number
        number += 1
        folder = tmp_path / f"run-{number}"
        folder.mkdir()
        cfg = CollabRunConfig.model_validate({**CHEAP, "strategy": strategy, "probe_frames": 2, **changes})
        report = play(copy.deepcopy(testbed or ToyTestbed()), cfg, folder=folder, metrics=Metrics(None))
        records = sorted(read_records(folder), key=lambda record: record.index)
        return Played(report, records, folder)

    return run


@pytest.fixture
def toys():
    """The parts of the tiny system."""
    return ToyStream, ToyEdge, ToyCloud, ToyTestbed


@pytest.fixture
def start_run():
    """start_run(cfg, path, listener=None): a new run, or the one that is there already; its files close at the end."""
    runs = []

    def start(cfg, path, listener=None):
        if path.exists():
            runs.append(Run.open(path, listener=listener))
        else:
            runs.append(Run.create(cfg, out=path, argv=[], device="cpu", device_why="test", listener=listener))
        return runs[-1]

    yield start
    for run in runs:
        run.metrics.close()
