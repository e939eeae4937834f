"""DCSB: semantic cues of the small model's output tell difficult frames, whose easy regions go up coarsely."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgeai.collab.config.policy import ThresholdConfig
from edgeai.collab.models.regions import connected_regions
from edgeai.collab.strategies.scored import NO_EXPLORING, Scored
from edgeai.collab.strategies.strategy import EdgeView, Verdict

MANY_REGIONS = 40
"""Regions from which a frame counts as fully crowded."""
SMALL_FRAC = 0.002
"""Share of the frame below which a region counts as a small object."""
SURE = 0.9
"""Mean probability from which a region is easy."""
COARSE = 4
"""Easy regions are sent at a quarter of their resolution."""


class Dcsb(Scored):
    """dcsb: crowded frames with many small things go up, their easy regions down-sampled.

    Paper: difficult-case based small-big model collaboration for detection (DCSB). Rule: a discriminator on the small
    model's own output (number of objects, size of the smallest) finds difficult cases; easy regions of a difficult
    image are down-sampled before the upload. Constants: theirs are fitted to detectors on their data; ours are 40
    regions, 0.2 % of the frame, 0.9. Differs: connected regions stand for objects; difficulty is the mean of the two
    cues and the run's threshold policy holds the rate, in place of a zoo of discriminators for each bandwidth.
    """

    def __init__(self, threshold: ThresholdConfig, seed: int) -> None:
        super().__init__(easiness, threshold, NO_EXPLORING, seed)

    def decide(self, view: EdgeView) -> Verdict:
        """Decides by difficulty, and coarsens what is easy."""
        verdict = super().decide(view)
        if not verdict.upload:
            return verdict
        return Verdict(
            upload=True, score=verdict.score, prob_upload=verdict.prob_upload, image=coarsened(view.image, view)
        )


def easiness(view: EdgeView) -> float:
    """1 - the mean of: how many regions there are, and what share of them is small."""
    labels = view.edge.labels
    sizes = np.bincount(connected_regions(labels).ravel())
    crowded = min(1.0, sizes.size / MANY_REGIONS)
    small = float((sizes < SMALL_FRAC * labels.size).mean())
    return 1.0 - (crowded + small) / 2.0


def coarsened(image: np.ndarray, view: EdgeView) -> np.ndarray:
    """The frame [H,W,3] with its easy regions at a quarter of their resolution, which a JPEG file makes small."""
    regions = connected_regions(view.edge.labels)
    best = view.edge.probs.amax(0).cpu().numpy()
    sure = np.bincount(regions.ravel(), weights=best.ravel()) / np.bincount(regions.ravel()) > SURE
    easy = sure[regions]  # [H,W]
    height, width = easy.shape
    picture = Image.fromarray(image)
    small = picture.resize((max(1, width // COARSE), max(1, height // COARSE)), Image.Resampling.BOX)
    coarse = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    return np.where(easy[..., None], coarse, image)
