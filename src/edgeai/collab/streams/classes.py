"""Class names of the supported data sets, their mapping to the eight street classes, and their colors."""

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
"""The 19 evaluated classes by label id; all other ids are void. Source: Cityscapes, arXiv 1604.01685."""
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
"""Maps CamVid and Cityscapes classes to street classes; two-wheelers count as their riders."""

COLORS: Mapping[str, tuple[int, int, int]] = {
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
COLOR_ALIASES: Mapping[str, str] = {
    "sidewalk": "pavement",
    "vegetation": "tree",
    "person": "pedestrian",
    "traffic sign": "sign",
    "rider": "bicyclist",
}
