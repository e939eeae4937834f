"""Random labelled street scenes for pretraining, some of them under a drift.

Scene number i depends on (seed, i) alone; numbers of training scenes are odd and those of validation scenes even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeai.collab.drift import KINDS, apply
from edgeai.collab.schema import StreetConfig
from edgeai.collab.stream import Frame
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


def clear_scene(seed: int, new_looks: bool) -> Frame:
    """A random scene."""
    return street_scene(seed, StreetConfig(looks="new" if new_looks else "base"))


class Scenes:
    """Endless scenes.

    Args:
        seed: Of everything.
        drift_frac: Share of scenes under a drift of random kind.
        max_level: Strongest drift; the level is uniform up to it.
        new_looks_frac: Share of scenes with new looks.
        draw: Makes a scene from a seed, with new looks or not.
    """

    def __init__(
        self,
        seed: int,
        *,
        drift_frac: float,
        max_level: float,
        new_looks_frac: float,
        draw: Callable[[int, bool], Frame] = clear_scene,
    ) -> None:
        self.seed = seed
        self.drift_frac = drift_frac
        self.max_level = max_level
        self.new_looks_frac = new_looks_frac
        self.draw = draw

    def train(self, step: int, batch: int) -> list[LabelledScene]:
        """Scenes of one training step."""
        return [self._scene(2 * (step * batch + i) + 1) for i in range(batch)]

    def val(self, num: int) -> list[LabelledScene]:
        """The validation scenes."""
        return [self._scene(2 * i) for i in range(num)]

    def _scene(self, number: int) -> LabelledScene:
        rng = np.random.default_rng((self.seed, DRAW_DRIFT, number))
        drifted, new_looks = rng.random() < self.drift_frac, bool(rng.random() < self.new_looks_frac)
        kind, level = KINDS[int(rng.integers(len(KINDS)))], float(rng.uniform(0.0, self.max_level))
        drift_seed = int(rng.integers(2**31))
        frame = self.draw(int(np.random.default_rng((self.seed, DRAW_SCENE, number)).integers(2**31)), new_looks)
        assert frame.labels is not None
        if not drifted:
            return LabelledScene(frame.image, frame.labels, "")
        return LabelledScene(apply(frame.image, kind, level, drift_seed, frame.depth_m), frame.labels, kind)
