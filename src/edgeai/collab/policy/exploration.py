"""Random uploads: draws for given upload probabilities, exploration of easy frames, and importance weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeai.collab.config.policy import ExploreConfig

_EXPLORE_STREAM = 0xE4B1  # separates these draws from others with the same seed


@dataclass(frozen=True)
class UploadDraw:
    """A drawn upload decision and its probability."""

    is_hard: bool
    """The threshold policy selected the frame."""
    is_explored: bool
    """The threshold policy did not select the frame; exploration did."""
    prob_upload: float
    """Probability of an upload, given the frame."""

    @property
    def upload(self) -> bool:
        """The frame is uploaded."""
        return self.is_hard or self.is_explored


class Explorer:
    """Draws uploads. The draw for frame i depends only on the seed, on i, and on the frame's probability.

    Args:
        config: Exploration rate and clipping of importance weights.
        seed: Seed of the draws.
    """

    def __init__(self, config: ExploreConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    def decide(self, hard_prob: float, frame_index: int) -> UploadDraw:
        """Draw whether a frame is uploaded.

        Args:
            hard_prob: Upload probability from the threshold policy; 0 or 1 unless the policy is randomized.
            frame_index: Number of the frame in its stream.
        """
        draws = frame_draws(self._seed, frame_index)
        explore = self._config.explore_frac
        is_hard = bool(draws[0] < hard_prob)
        is_explored = not is_hard and bool(draws[1] < explore)
        return UploadDraw(is_hard, is_explored, hard_prob + (1.0 - hard_prob) * explore)

    def importance(self, drawn: UploadDraw) -> float:
        """Return the clipped weight 1/p of an uploaded frame.

        Sums over uploads with these weights estimate sums over all frames.
        """
        return min(1.0 / drawn.prob_upload, self._config.max_importance)


def frame_draws(seed: int, frame_index: int) -> np.ndarray:
    """Return two uniform draws in [0,1): the first decides by the frame's probability, the second on exploration."""
    return np.random.default_rng((seed, _EXPLORE_STREAM, frame_index)).random(2)


def drawn_rate(num_uploads: int, num_frames: int, seed: int) -> float:
    """Return the upload probability at which exactly `num_uploads` of `num_frames` frames are drawn with this seed.

    The draws do not depend on the probability, so the frames with the smallest draws are uploaded.

    Args:
        num_uploads: Number of uploads, at most num_frames.
        num_frames: Length of the stream in frames.
        seed: Seed of the draws.
    """
    draws = sorted(float(frame_draws(seed, index)[0]) for index in range(num_frames))
    edges = [0.0, *draws, 1.0]
    return (edges[num_uploads] + edges[num_uploads + 1]) / 2
