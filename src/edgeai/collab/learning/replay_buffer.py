"""The cloud's memory of labelled frames: the newest, and a uniform sample of everything before.

Images stay JPEG, labels and weights are packed, so that 256 frames take a few megabytes. Every fifth frame is held out:
it is never trained on and judges the updates.

Shapes: H x W pixels.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeai.collab.config.policy import ReplayConfig
from edgeai.collab.metrics.confusion import IGNORE, Labels

_RESERVOIR_STREAM = 0x5E5A  # keeps the draws apart from others that use the same seed


@dataclass(frozen=True)
class ReplayItem:
    """A frame with the cloud's labels."""

    frame_id: str
    time_s: float
    """When the frame was taken."""
    image: bytes
    """JPEG, as it came up the link."""
    packed: bytes
    """Labels and weights."""
    height: int
    width: int
    score: float
    """The miner's h when the frame was taken."""
    version: int
    """Edge model that gave the score."""
    importance: float
    """1/p with p the probability of the upload."""
    is_holdout: bool

    @property
    def num_bytes(self) -> int:
        """Memory of image, labels and weights."""
        return len(self.image) + len(self.packed)

    def labels_and_weight(self) -> tuple[Labels, NDArray[np.float32]]:
        """Labels [H,W] and weights in [0,1] to 1/255 [H,W]."""
        planes = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(2, self.height, self.width)
        return planes[0], planes[1].astype(np.float32) / 255


class ReplayBuffer:
    """Keeps at most `capacity` frames.

    A frame enters the newest; when it leaves that, it is offered to the reservoir, which so holds a uniform
    sample of all frames older than the newest (Vitter's algorithm R). No frame is there twice.

    Args:
        config: Capacity, newest frames and hold-out.
        seed: Of what the reservoir keeps.
    """

    def __init__(self, config: ReplayConfig, seed: int) -> None:
        self._holdout_every = config.holdout_every
        self._newest: deque[ReplayItem] = deque()
        self._num_newest = config.newest
        self._reservoir: list[ReplayItem] = []
        self._num_reservoir = config.capacity - self._num_newest
        self._rng = np.random.default_rng((seed, _RESERVOIR_STREAM))
        self._num_added = 0
        self._num_offered = 0

    def __len__(self) -> int:
        return len(self._newest) + len(self._reservoir)

    def __iter__(self) -> Iterator[ReplayItem]:
        """By age, youngest last."""
        yield from self._reservoir
        yield from self._newest

    @property
    def num_added(self) -> int:
        """Frames ever added."""
        return self._num_added

    @property
    def num_bytes(self) -> int:
        """Memory of the frames kept."""
        return sum(item.num_bytes for item in self)

    def add(
        self,
        *,
        frame_id: str,
        time_s: float,
        image: bytes,
        labels: Labels,
        weight: NDArray[np.float32],
        score: float,
        version: int,
        importance: float,
    ) -> ReplayItem:
        """Takes in a labelled frame.

        Args:
            frame_id: Name of the frame.
            time_s: When it was taken.
            image: JPEG.
            labels: The cloud's; IGNORE is not trained on [H,W].
            weight: Of each pixel in training, in [0,1]; kept to 1/255 [H,W].
            score: The miner's h.
            version: Edge model that gave the score.
            importance: 1/p of the upload.
        """
        planes = np.stack([labels, np.rint(weight * 255).astype(np.uint8)])
        planes[0][planes[1] == 0] = IGNORE
        height, width = labels.shape
        self._num_added += 1
        is_holdout = self._num_added % self._holdout_every == 0
        packed = zlib.compress(planes.tobytes(), 1)
        item = ReplayItem(frame_id, time_s, image, packed, height, width, score, version, importance, is_holdout)
        self._newest.append(item)
        if len(self._newest) > self._num_newest:
            self._offer(self._newest.popleft())
        return item

    def newest(self, num: int) -> list[ReplayItem]:
        """The last `num` frames at most, youngest last, held out or not."""
        return list(self)[-num:]

    def holdout(self) -> list[ReplayItem]:
        """Frames that are never trained on."""
        return [item for item in self if item.is_holdout]

    def sample(self, num: int, rng: np.random.Generator) -> list[ReplayItem]:
        """Draws a batch: half from the newest, half from the reservoir, none held out.

        While there is no reservoir the newest fill its place. A half that has too few frames gives some twice.

        Args:
            num: Frames.
            rng: Draws them.

        Returns:
            `num` frames, or none if there is nothing to train on.
        """
        newest = [item for item in self._newest if not item.is_holdout]
        reservoir = [item for item in self._reservoir if not item.is_holdout]
        if not newest or not reservoir:
            return _draw(newest or reservoir, num, rng)
        return _draw(newest, (num + 1) // 2, rng) + _draw(reservoir, num // 2, rng)

    def sample_all(self, num: int, rng: np.random.Generator) -> list[ReplayItem]:
        """Draws at most `num` different frames that are not held out, all equally likely."""
        items = [item for item in self if not item.is_holdout]
        return _draw(items, min(num, len(items)), rng)

    def _offer(self, item: ReplayItem) -> None:
        self._num_offered += 1
        if len(self._reservoir) < self._num_reservoir:
            self._reservoir.append(item)
            return
        place = int(self._rng.integers(self._num_offered))
        if place < self._num_reservoir:
            del self._reservoir[place]  # which keeps the others by age
            self._reservoir.append(item)


def _draw(items: list[ReplayItem], num: int, rng: np.random.Generator) -> list[ReplayItem]:
    if not items:
        return []
    return [items[place] for place in rng.choice(len(items), num, replace=num > len(items))]
