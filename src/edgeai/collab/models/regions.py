"""Connected regions of a label map.

Shapes: H x W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


def connected_regions(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the region number of each pixel [H,W]: 0, 1, 2, ... in reading order of the regions' first pixels.

    Pixels of equal label that share an edge (not only a corner) belong to the same region.

    Args:
        labels: Class of each pixel [H,W].
    """
    numbers = label(labels.astype(np.int16), background=-1, connectivity=1)  # no label is background
    return np.asarray(numbers, dtype=np.int64) - 1
