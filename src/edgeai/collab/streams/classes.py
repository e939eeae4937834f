"""Class names of the data sets, how they fold into the eight classes of the generated street, and their colours."""

from __future__ import annotations

from collections.abc import Mapping

STREET = ("sky", "building", "pole", "road", "pavement", "tree", "car", "pedestrian")
CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""By label value; 11 is void. Source: the 11-class CamVid of SegNet, arXiv 1511.00561."""
CITYSCAPES: Mapping[int, str] = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""The 19 evaluated classes by label id; every other id is void. Source: Cityscapes, arXiv 1604.01685."""
CITYSCAPES_MAX_ID = 33
VOC = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""By label value; 255 is void."""

TO_STREET: Mapping[str, str] = {
    **{name: name for name in STREET},
    "sign": "pole",
    "fence": "building",
    "bicyclist": "pedestrian",
    "sidewalk": "pavement",
    "wall": "building",
    "traffic light": "pole",
    "traffic sign": "pole",
    "vegetation": "tree",
    "terrain": "tree",
    "person": "pedestrian",
    "rider": "pedestrian",
    "truck": "car",
    "bus": "car",
    "train": "car",
    "motorcycle": "pedestrian",
    "bicycle": "pedestrian",
}
"""Folds CamVid and Cityscapes into the street's classes; two-wheelers go with those who ride them."""

_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "sky": (134, 186, 232),
    "building": (140, 72, 68),
    "pole": (250, 218, 66),
    "road": (122, 92, 142),
    "pavement": (222, 130, 184),
    "tree": (78, 136, 62),
    "car": (42, 64, 204),
    "pedestrian": (230, 62, 58),
    "sign": (244, 150, 60),
    "fence": (110, 104, 150),
    "bicyclist": (20, 170, 180),
}
_SAME = {
    "sidewalk": "pavement",
    "vegetation": "tree",
    "person": "pedestrian",
    "traffic sign": "sign",
    "rider": "bicyclist",
}


def palette_of(classes: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """A colour for every class: the usual one where there is one, else the bits of its number spread as VOC does."""
    return [_COLOURS.get(_SAME.get(name, name)) or _by_bits(index + 1) for index, name in enumerate(classes)]


def _by_bits(number: int) -> tuple[int, int, int]:
    """The VOC colour map: three bits at a time, one for each colour, highest weight first."""
    colour = [0, 0, 0]
    for weight in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (number >> channel & 1) << weight
        number >>= 3
    return colour[0], colour[1], colour[2]
