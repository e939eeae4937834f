"""Connected regions of a label map, in NumPy alone.

Shapes: H x W pixels. Two pixels are of one region if a path of equal labels over edges (not corners) joins them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def connected_regions(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers the regions 0, 1, 2, ... in reading order of their first pixel.

    Rows are cut into runs of one label, and runs that touch a run of the row above are joined: every run points at the
    lowest number known to be of its region, and following the pointers doubles the reach each time.

    Args:
        labels: Class of each pixel [H,W].

    Returns:
        Region of each pixel [H,W].
    """
    starts = np.ones(labels.shape, dtype=bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = starts.ravel().cumsum().reshape(labels.shape) - 1  # [H,W]
    touch = labels[1:] == labels[:-1]
    pairs = np.unique(runs[:-1][touch] * (runs[-1, -1] + 1) + runs[1:][touch])
    above, below = np.divmod(pairs, runs[-1, -1] + 1)
    lowest = np.arange(runs[-1, -1] + 1)
    while True:
        ends = lowest[above], lowest[below]
        least = np.minimum(*ends)
        before = lowest.copy()
        for end in ends:
            np.minimum.at(lowest, end, least)
        lowest = lowest[lowest]
        if np.array_equal(before, lowest):
            break
    first = lowest == np.arange(lowest.size)
    return (first.cumsum() - 1)[lowest][runs]
