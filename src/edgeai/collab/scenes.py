"""Random labelled street scenes for pretraining, some of them under a drift.

Scene number i depends on (seed, i) alone; numbers of training scenes are odd and those of validation scenes even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeai.collab.drift import KINDS, apply
from edgeai.collab.street import street_scene

DRAW_SCENE, DRAW_DRIFT = 1, 2  # keep the draws of one scene apart


@dataclass(frozen=True)
class LabelledScene:
    """A frame with its truth."""

    image: np.ndarray
    """RGB [H,W,3] uint8."""
    labels: np.ndarray
    """[H,W] uint8."""
    drift: str
    """What was laid over it; empty for a clear one."""


def clear_scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels of a random scene."""
    frame = street_scene(seed)
    assert frame.labels is not None
    return frame.image, frame.labels


class Scenes:
    """Endless scenes.

    Args:
        seed: Of everything.
        drift_frac: Share of scenes under a drift of random kind.
        max_level: Strongest drift; the level is uniform up to it.
        draw: Makes image and labels from a seed.
    """

    def __init__(
        self,
        seed: int,
        *,
        drift_frac: float,
        max_level: float,
        draw: Callable[[int], tuple[np.ndarray, np.ndarray]] = clear_scene,
    ) -> None:
        self.seed = seed
        self.drift_frac = drift_frac
        self.max_level = max_level
        self.draw = draw

    def train(self, step: int, batch: int) -> list[LabelledScene]:
        """Scenes of one training step."""
        return [self._scene(2 * (step * batch + i) + 1) for i in range(batch)]

    def val(self, num: int) -> list[LabelledScene]:
        """The validation scenes."""
        return [self._scene(2 * i) for i in range(num)]

    def _scene(self, number: int) -> LabelledScene:
        rng = np.random.default_rng((self.seed, DRAW_SCENE, number))
        image, labels = self.draw(int(rng.integers(2**31)))
        rng = np.random.default_rng((self.seed, DRAW_DRIFT, number))
        if rng.random() >= self.drift_frac:
            return LabelledScene(image, labels, "")
        kind, level = KINDS[int(rng.integers(len(KINDS)))], float(rng.uniform(0.0, self.max_level))
        return LabelledScene(apply(image, kind, level, int(rng.integers(2**31))), labels, kind)
