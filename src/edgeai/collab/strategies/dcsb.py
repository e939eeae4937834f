"""DCSB: cues in the small model's output identify difficult frames, whose easy regions are sent at low resolution."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgeai.collab.config.policy import ThresholdConfig
from edgeai.collab.models.regions import connected_regions
from edgeai.collab.strategies.score_threshold import NO_EXPLORING, Scored
from edgeai.collab.strategies.strategy import Decision, EdgeView

MANY_REGIONS = 40
"""Number of regions from which a frame counts as fully crowded."""
SMALL_FRAC = 0.002
"""Share of the frame below which a region counts as a small object."""
SURE_PROB = 0.9
"""Mean probability above which a region is easy."""
COARSE_FACTOR = 4
"""Factor by which the resolution of easy regions is reduced."""


class Dcsb(Scored):
    """dcsb: crowded frames with many small objects are uploaded, with their easy regions downsampled.

    Paper: difficult-case based small-big model collaboration for detection (DCSB). Rule: a discriminator on the small
    model's own output (number of objects, size of the smallest) finds difficult cases; easy regions of a difficult
    image are downsampled before the upload. Constants: theirs are fitted to detectors on their data; ours are 40
    regions, 0.2 % of the frame, 0.9. Differs: connected regions replace objects; difficulty is the mean of the two
    cues, and the run's threshold policy holds the rate instead of one discriminator per bandwidth.
    """

    def __init__(self, threshold: ThresholdConfig, seed: int) -> None:
        super().__init__(easiness, threshold, NO_EXPLORING, seed)

    def decide(self, view: EdgeView) -> Decision:
        """Decide by difficulty, and downsample easy regions."""
        decision = super().decide(view)
        if not decision.upload:
            return decision
        return Decision(
            upload=True, score=decision.score, prob_upload=decision.prob_upload, image=coarsened(view.image, view)
        )


def easiness(view: EdgeView) -> float:
    """Return 1 minus the mean of two cues: the number of regions, and the share of small ones."""
    labels = view.edge.labels
    sizes = np.bincount(connected_regions(labels).ravel())
    crowded = min(1.0, sizes.size / MANY_REGIONS)
    small = float((sizes < SMALL_FRAC * labels.size).mean())
    return 1.0 - (crowded + small) / 2.0


def coarsened(image: np.ndarray, view: EdgeView) -> np.ndarray:
    """Return the frame [H,W,3] with easy regions at a quarter of their resolution, which take few bytes in JPEG."""
    regions = connected_regions(view.edge.labels)
    best = view.edge.probs.amax(0).cpu().numpy()
    sure = np.bincount(regions.ravel(), weights=best.ravel()) / np.bincount(regions.ravel()) > SURE_PROB
    easy = sure[regions]  # [H,W]
    height, width = easy.shape
    picture = Image.fromarray(image)
    small = picture.resize((max(1, width // COARSE_FACTOR), max(1, height // COARSE_FACTOR)), Image.Resampling.BOX)
    coarse = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    return np.where(easy[..., None], coarse, image)
