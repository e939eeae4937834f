"""Streams from image files: CamVid, Cityscapes, VOC, images with masks, and images without labels.

Before the first frame, the stream checks that there are images, that each has labels, and that the label values of some
of them are in the map. A file that cannot be read later is skipped and counted.

Shapes: H rows and W columns of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgeai.collab.config.streams import (
    CamvidConfig,
    CityscapesConfig,
    FolderSource,
    ImageFolderConfig,
    MaskFolderConfig,
    VocConfig,
)
from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.streams.classes import CAMVID, CITYSCAPES, CITYSCAPES_MAX_ID, STREET, TO_STREET, VOC
from edgeai.collab.streams.images import class_colors, resized
from edgeai.collab.streams.stream import Frame
from edgeai.core.assets import data_path
from edgeai.core.errors import EdgeAIError, UsageError

Array = np.ndarray

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_NUM_CHECKED = 16  # label files checked at the start
_CAMVID_DUSK = "0001TP"
_UNMAPPED = 254


@dataclass(frozen=True)
class Item:
    """Files of one frame."""

    id: str
    image: Path
    labels: Path | None
    segment: str = "clear"


class FolderStream:
    """A stream of frames from image files.

    Args:
        items: Files of the frames in stream order, at least one.
        classes: Names of the classes.
        label_map: Label value to class number or IGNORE; all other values are errors.
        size: Height and width to which frames are resized; None takes the size of the first image.
        rate_hz: Frames per second.

    Raises:
        UsageError: The first image or its labels cannot be read, or a label value is not in the map.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        classes: tuple[str, ...],
        label_map: Mapping[int, int],
        size: tuple[int, int] | None,
        rate_hz: float,
    ) -> None:
        self.classes, self.rate_hz = classes, rate_hz
        self.palette = class_colors(classes)
        self.problems: list[str] = []
        self.num_frames: int | None = len(items)
        self._items = list(items)
        self._table = np.full(256, _UNMAPPED, dtype=np.uint8)
        for value, label in label_map.items():
            self._table[value] = label
        try:
            self.height, self.width = size or _read_image(items[0].image).shape[:2]
            for index in sorted({k * (len(items) - 1) // (_NUM_CHECKED - 1) for k in range(_NUM_CHECKED)}):
                self._read_labels(items[index])
        except _BrokenFileError as error:
            raise UsageError(str(error), hint=error.hint) from None

    def frames(self) -> Iterator[Frame]:
        """Yield all readable frames."""
        self.problems.clear()
        for index, item in enumerate(self._items):
            try:
                image = _read_image(item.image)
                labels = self._read_labels(item)
                if labels is not None and labels.shape != image.shape[:2]:
                    raise _BrokenFileError(f"{item.labels}: {_size(labels)}, but its image is {_size(image)}")
            except _BrokenFileError as error:
                self.problems.append(str(error))
                continue
            yield Frame(
                item.id,
                index / self.rate_hz,
                resized(image, self.height, self.width, smooth=True),
                None if labels is None else resized(labels, self.height, self.width, smooth=False),
                item.segment,
            )

    def _read_labels(self, item: Item) -> Array | None:
        """Return the class of every pixel [H, W] uint8, or None for a stream without labels."""
        if item.labels is None:
            return None
        values = _read_values(item.labels)
        labels = self._table[values]
        if (labels == _UNMAPPED).any():
            strange = sorted(set(np.unique(values[labels == _UNMAPPED]).tolist()))
            raise _BrokenFileError(
                f"{item.labels}: label values {', '.join(map(str, strange[:6]))} are not in the label map",
                hint="map them to a class or to null in source.label_map (source.kind: masks)",
            )
        return np.asarray(labels)


class _BrokenFileError(EdgeAIError):
    """An unusable file: an error at the start, a counted problem later."""


def _read_image(path: Path) -> Array:
    """Return an RGB image [H, W, 3] uint8."""
    return np.asarray(_opened(path).convert("RGB"))


def _read_values(path: Path) -> Array:
    """Return label values [H, W] uint8; of a palette image its indices, not its colors."""
    image = _opened(path)
    if image.mode not in ("L", "P"):
        raise _BrokenFileError(
            f"{path}: labels must be 8-bit class indices, this is {image.mode}",
            hint="save them as PNG with one channel or a palette",
        )
    return np.asarray(image)


def _opened(path: Path) -> Image.Image:
    """Return a completely decoded image, so that truncated files fail here."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # raised by PIL's decoders
        raise _BrokenFileError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or 'the file is truncated or not an image'}"
        ) from error


def _size(image: Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def build_folder(config: FolderSource) -> FolderStream:
    """Open the image files that a config describes.

    Raises:
        UsageError: The folder is missing or empty, labels are missing, or their values are not in the map.
    """
    root = data_path(config.path)
    if (config.height is None) != (config.width is None):
        raise UsageError("source.height and source.width must be given together")
    if isinstance(config, CamvidConfig):
        items, classes, label_map = _camvid(root, config)
    elif isinstance(config, CityscapesConfig):
        items, classes, label_map = _cityscapes(root, config)
    elif isinstance(config, VocConfig):
        items, classes, label_map = _voc(root, config)
    elif isinstance(config, MaskFolderConfig):
        items, classes, label_map = _masks(root, config)
    else:
        items, classes, label_map = _images(root, config)
    missing = next((item.labels for item in items if item.labels and not item.labels.is_file()), None)
    if missing:
        raise UsageError(
            f"no labels at {missing}", hint="every image needs labels; without labels use source.kind: images"
        )
    size = None if config.height is None or config.width is None else (config.height, config.width)
    return FolderStream(items, classes=classes, label_map=label_map, size=size, rate_hz=config.rate_hz)


Found = tuple[list[Item], tuple[str, ...], dict[int, int]]


def _camvid(root: Path, config: CamvidConfig) -> Found:
    items = []
    for sequence in config.sequences:
        for image in sorted(
            (path for split in config.splits for path in _pictures(root / split / "images")), key=lambda path: path.name
        ):
            split = image.parent.parent.name
            if f"{split}/{image.name}".startswith(sequence) or image.name.startswith(sequence):
                labels = image.parent.parent / "labels" / f"{image.stem}.png"
                segment = "dusk" if image.name.startswith(_CAMVID_DUSK) else "day"
                items.append(Item(image.relative_to(root).as_posix(), image, labels, segment))
    if not items:
        raise UsageError(
            f"no images of the sequences {', '.join(config.sequences)} in {root}", hint="check source.sequences"
        )
    return items, *_named(dict(enumerate(CAMVID)), len(CAMVID), CAMVID, as_street=config.as_street)


def _cityscapes(root: Path, config: CityscapesConfig) -> Found:
    items = []
    for split in config.splits:
        for image in _pictures(root / "leftImg8bit" / split, deep=True):
            city, stem = image.parent.name, image.stem.removesuffix("_leftImg8bit")
            labels = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
            items.append(Item(image.relative_to(root).as_posix(), image, labels, city))
    names = dict(CITYSCAPES)
    return items, *_named(names, CITYSCAPES_MAX_ID, tuple(names.values()), as_street=config.as_street)


def _voc(root: Path, config: VocConfig) -> Found:
    items = []
    for split in config.splits:
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if not listed.is_file():
            raise UsageError(f"no image list at {listed}", hint="check source.path and source.splits")
        for stem in listed.read_text(encoding="utf-8").split():
            image, labels = root / "JPEGImages" / f"{stem}.jpg", root / "SegmentationClass" / f"{stem}.png"
            items.append(Item(stem, image, labels))
    if not items:
        raise UsageError(f"no images listed in {root / 'ImageSets' / 'Segmentation'}")
    return items, VOC, {**{value: value for value in range(len(VOC))}, IGNORE: IGNORE}


def _masks(root: Path, config: MaskFolderConfig) -> Found:
    folder = root / config.images
    items = [
        Item(
            image.relative_to(folder).as_posix(),
            image,
            root / config.masks / image.relative_to(folder).with_suffix(".png"),
        )
        for image in _pictures(folder, deep=True)
    ]
    if not config.label_map:
        return items, config.classes, {**{value: value for value in range(len(config.classes))}, IGNORE: IGNORE}
    label_map = {}
    for value, name in config.label_map.items():
        if not 0 <= value <= 255:
            raise UsageError(f"source.label_map: {value} is not an 8-bit label value")
        if name is not None and name not in config.classes:
            raise UsageError(f'source.label_map: unknown class "{name}"', hint=f"classes: {', '.join(config.classes)}")
        label_map[value] = IGNORE if name is None else config.classes.index(name)
    return items, config.classes, label_map


def _images(root: Path, config: ImageFolderConfig) -> Found:
    items = [Item(image.relative_to(root).as_posix(), image, None) for image in _pictures(root, deep=True)]
    return items, config.classes, {}


def _named(
    names: Mapping[int, str], max_value: int, classes: tuple[str, ...], *, as_street: bool
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Return classes and label map of a data set; 255 and unnamed values up to the largest are ignored."""
    if as_street:
        names, classes = {value: TO_STREET[name] for value, name in names.items()}, STREET
    label_map = {value: classes.index(names[value]) if value in names else IGNORE for value in range(max_value + 1)}
    return classes, {**label_map, IGNORE: IGNORE}


def _pictures(folder: Path, *, deep: bool = False) -> list[Path]:
    """Return image files sorted by name."""
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", hint="check source.path")
    found = folder.rglob("*") if deep else folder.glob("*")
    files = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UsageError(f"no images in {folder}", hint=f"supported: {', '.join(sorted(SUFFIXES))}")
    return files
