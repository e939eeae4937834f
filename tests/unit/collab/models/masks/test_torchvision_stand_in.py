"""Stand-ins for torchvision: equal to definitions and to the real functions if installed, and removed afterwards."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from edgeai.collab.models.masks.torchvision_stand_in import (
    _imports,
    batched_nms,
    box_area,
    resize,
    to_pil_image,
    torchvision_stand_in,
)


def random_boxes(num, seed=0):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (num, 2)), rng.uniform(1, 30, (num, 2))
    boxes = torch.from_numpy(np.concatenate([corner, corner + size], 1)).float()
    return boxes, torch.from_numpy(rng.permutation(num) / num).float(), torch.from_numpy(rng.integers(0, 3, num))


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / area


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_nms_is_its_definition(threshold):
    boxes, scores, idxs = random_boxes(60)
    kept = []
    for i in sorted(range(60), key=lambda n: -scores[n]):
        if all(idxs[i] != idxs[j] or iou(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(i)
    assert batched_nms(boxes, scores, idxs, threshold).tolist() == kept


def test_nms_of_nothing():
    assert batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5).tolist() == []


def test_area():
    assert box_area(torch.tensor([[1.0, 2.0, 4.0, 7.0]])).tolist() == [15.0]


def test_resize_takes_height_then_width():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    small = resize(to_pil_image(image), (10, 12))
    assert small.size == (12, 10)
    assert np.array_equal(np.array(small), np.array(Image.fromarray(image).resize((12, 10), Image.BILINEAR)))


def test_the_stand_in_is_visible_only_inside_the_block():
    if _imports():
        pytest.skip("torchvision itself imports here")
    with torchvision_stand_in():
        from torchvision.ops.boxes import batched_nms as found

        assert found is batched_nms
    assert not [name for name in sys.modules if name.startswith("torchvision")]
    assert importlib.util.find_spec("torchvision") is None or not _imports()


def test_equal_to_the_real_ones():
    boxes_module = pytest.importorskip("torchvision.ops.boxes")
    functional = pytest.importorskip("torchvision.transforms.functional")
    boxes, scores, idxs = random_boxes(200, seed=1)
    assert torch.equal(box_area(boxes), boxes_module.box_area(boxes))
    assert torch.equal(batched_nms(boxes, scores, idxs, 0.4), boxes_module.batched_nms(boxes, scores, idxs, 0.4))
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    real = functional.resize(functional.to_pil_image(image), (33, 48))
    assert np.array_equal(np.array(real), np.array(resize(to_pil_image(image), (33, 48))))
