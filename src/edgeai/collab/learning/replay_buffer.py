"""The replay buffer of labeled frames: the newest, and a uniform sample of all older ones.

Images stay JPEG, labels and weights are compressed, so that 256 frames take a few megabytes. Every fifth frame is held
out: it is never used in training and evaluates the updates.

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

_RESERVOIR_STREAM = 0x5E5A  # separates these draws from others with the same seed


@dataclass(frozen=True)
class ReplayItem:
    """A frame with the cloud's labels."""

    frame_id: str
    time_s: float
    """Capture time."""
    image: bytes
    """JPEG file, as uploaded."""
    packed: bytes
    """Compressed labels and weights."""
    height: int
    width: int
    score: float
    """The miner's h at capture."""
    version: int
    """Version of the edge model at capture."""
    importance: float
    """1/p, with p the probability of the upload."""
    is_holdout: bool

    @property
    def num_bytes(self) -> int:
        """Memory of image, labels and weights."""
        return len(self.image) + len(self.packed)

    def labels_and_weight(self) -> tuple[Labels, NDArray[np.float32]]:
        """Return labels [H,W] and weights in [0,1], to 1/255 [H,W]."""
        planes = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8).reshape(2, self.height, self.width)
        return planes[0], planes[1].astype(np.float32) / 255


class ReplayBuffer:
    """Stores at most `capacity` frames.

    A frame first joins the newest frames. When it leaves them, it is offered to a reservoir, which holds a uniform
    sample of all frames older than the newest (Vitter's algorithm R). No frame is stored twice.

    Args:
        config: Capacity, number of newest frames, and hold-out.
        seed: Seed of the reservoir.
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
        """Iterate by age, newest last."""
        yield from self._reservoir
        yield from self._newest

    @property
    def num_added(self) -> int:
        """Number of frames added so far."""
        return self._num_added

    @property
    def num_bytes(self) -> int:
        """Memory of the stored frames."""
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
        """Add a labeled frame, and return its item.

        Args:
            frame_id: Id of the frame.
            time_s: Capture time.
            image: JPEG file.
            labels: Labels of the cloud; IGNORE pixels are not used in training [H,W].
            weight: Training weight of each pixel in [0,1], stored to 1/255 [H,W].
            score: The miner's h.
            version: Version of the edge model that computed the score.
            importance: Importance weight 1/p of the upload.
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
        """Return at most `num` newest frames, newest last, including held-out ones."""
        return list(self)[-num:]

    def holdout(self) -> list[ReplayItem]:
        """Return the held-out frames."""
        return [item for item in self if item.is_holdout]

    def sample(self, num: int, rng: np.random.Generator) -> list[ReplayItem]:
        """Sample a batch: half from the newest frames, half from the reservoir, none held out.

        An empty reservoir is replaced by the newest frames. A half with too few frames repeats some.

        Args:
            num: Batch size.
            rng: Samples the frames.

        Returns:
            `num` frames, or none if there are no training frames.
        """
        newest = [item for item in self._newest if not item.is_holdout]
        reservoir = [item for item in self._reservoir if not item.is_holdout]
        if not newest or not reservoir:
            return _draw(newest or reservoir, num, rng)
        return _draw(newest, (num + 1) // 2, rng) + _draw(reservoir, num // 2, rng)

    def sample_all(self, num: int, rng: np.random.Generator) -> list[ReplayItem]:
        """Sample at most `num` distinct frames that are not held out, uniformly."""
        items = [item for item in self if not item.is_holdout]
        return _draw(items, min(num, len(items)), rng)

    def _offer(self, item: ReplayItem) -> None:
        self._num_offered += 1
        if len(self._reservoir) < self._num_reservoir:
            self._reservoir.append(item)
            return
        place = int(self._rng.integers(self._num_offered))
        if place < self._num_reservoir:
            del self._reservoir[place]  # keeps the order by age
            self._reservoir.append(item)


def _draw(items: list[ReplayItem], num: int, rng: np.random.Generator) -> list[ReplayItem]:
    if not items:
        return []
    return [items[place] for place in rng.choice(len(items), num, replace=num > len(items))]
