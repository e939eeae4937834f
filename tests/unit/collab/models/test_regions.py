from collections import deque

import numpy as np
import pytest

from edgeai.collab.models.regions import connected_regions


def flood_fill(labels):
    """The same by breadth-first search, pixel by pixel."""
    regions = np.full(labels.shape, -1)
    count = 0
    for start in np.ndindex(labels.shape):
        if regions[start] >= 0:
            continue
        regions[start] = count
        queue = deque([start])
        while queue:
            y, x = queue.popleft()
            for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= place[0] < labels.shape[0] and 0 <= place[1] < labels.shape[1]
                if inside and regions[place] < 0 and labels[place] == labels[start]:
                    regions[place] = count
                    queue.append(place)
        count += 1
    return regions


@pytest.mark.parametrize("num_classes", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (24, 31)])
def test_equals_flood_fill(num_classes, shape):
    labels = np.random.default_rng(num_classes).integers(0, num_classes, shape, dtype=np.uint8)
    assert np.array_equal(connected_regions(labels), flood_fill(labels))


def test_a_spiral_is_one_region():
    """Its runs meet only at its ends, so pointers have to be followed a long way."""
    labels = np.zeros((21, 21), dtype=np.uint8)
    y, x, step, turn = 0, 0, (0, 1), 0
    labels[0, 0] = 1
    while turn < 2:
        ahead = (y + 2 * step[0], x + 2 * step[1])
        if 0 <= ahead[0] < 21 and 0 <= ahead[1] < 21 and labels[ahead] == 0:
            for _ in range(2):
                y, x = y + step[0], x + step[1]
                labels[y, x] = 1
            turn = 0
        else:
            step, turn = (step[1], -step[0]), turn + 1
    got = connected_regions(labels)
    assert np.array_equal(got, flood_fill(labels))
    assert len(np.unique(got[labels == 1])) == 1
