"""Folder layouts of data sets: CamVid, Cityscapes, VOC, images with masks, and images without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from edgeai.collab.streams.folders import FolderStream, Item
from edgeai.core.assets import data_path
from edgeai.core.errors import UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_CAMVID_DUSK = "0001TP"


@dataclass(frozen=True)
class _Classes:
    """Class names and label map of a data set."""

    names: tuple[str, ...]
    label_map: dict[int, int]
    """Label value to class number or IGNORE."""


@dataclass(frozen=True)
class _Found:
    """Files and classes of a data set."""

    items: list[Item]
    classes: _Classes


def build_folder(config: FolderSource) -> FolderStream:
    """Open the image files that a config describes.

    Raises:
        UsageError: The folder is missing or empty, labels are missing, or their values are not in the map.
    """
    root = data_path(config.path)
    if (config.height is None) != (config.width is None):
        raise UsageError("source.height and source.width must be given together")
    if isinstance(config, CamvidConfig):
        found = _camvid(root, config)
    elif isinstance(config, CityscapesConfig):
        found = _cityscapes(root, config)
    elif isinstance(config, VocConfig):
        found = _voc(root, config)
    elif isinstance(config, MaskFolderConfig):
        found = _masks(root, config)
    else:
        found = _images(root, config)
    missing = next((item.labels for item in found.items if item.labels and not item.labels.is_file()), None)
    if missing:
        raise UsageError(
            f"no labels at {missing}", hint="every image needs labels; without labels use source.kind: images"
        )
    size = None if config.height is None or config.width is None else (config.height, config.width)
    return FolderStream(
        found.items,
        classes=found.classes.names,
        label_map=found.classes.label_map,
        size=size,
        rate_hz=config.rate_hz,
    )


def _camvid(root: Path, config: CamvidConfig) -> _Found:
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
    return _Found(items, _named(dict(enumerate(CAMVID)), len(CAMVID), CAMVID, as_street=config.as_street))


def _cityscapes(root: Path, config: CityscapesConfig) -> _Found:
    items = []
    for split in config.splits:
        for image in _pictures(root / "leftImg8bit" / split, deep=True):
            city, stem = image.parent.name, image.stem.removesuffix("_leftImg8bit")
            labels = root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png"
            items.append(Item(image.relative_to(root).as_posix(), image, labels, city))
    names = dict(CITYSCAPES)
    return _Found(items, _named(names, CITYSCAPES_MAX_ID, tuple(names.values()), as_street=config.as_street))


def _voc(root: Path, config: VocConfig) -> _Found:
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
    return _Found(items, _numbered(VOC))


def _masks(root: Path, config: MaskFolderConfig) -> _Found:
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
        return _Found(items, _numbered(config.classes))
    label_map = {}
    for value, name in config.label_map.items():
        if not 0 <= value <= 255:
            raise UsageError(f"source.label_map: {value} is not an 8-bit label value")
        if name is not None and name not in config.classes:
            raise UsageError(f'source.label_map: unknown class "{name}"', hint=f"classes: {', '.join(config.classes)}")
        label_map[value] = IGNORE if name is None else config.classes.index(name)
    return _Found(items, _Classes(config.classes, label_map))


def _images(root: Path, config: ImageFolderConfig) -> _Found:
    items = [Item(image.relative_to(root).as_posix(), image, None) for image in _pictures(root, deep=True)]
    return _Found(items, _Classes(config.classes, {}))


def _numbered(classes: tuple[str, ...]) -> _Classes:
    """Return classes whose label values are their numbers; 255 is ignored."""
    return _Classes(classes, {**{value: value for value in range(len(classes))}, IGNORE: IGNORE})


def _named(names: Mapping[int, str], max_value: int, classes: tuple[str, ...], *, as_street: bool) -> _Classes:
    """Return classes and label map of a data set; 255 and unnamed values up to the largest are ignored."""
    if as_street:
        names, classes = {value: TO_STREET[name] for value, name in names.items()}, STREET
    label_map = {value: classes.index(names[value]) if value in names else IGNORE for value in range(max_value + 1)}
    return _Classes(classes, {**label_map, IGNORE: IGNORE})


def _pictures(folder: Path, *, deep: bool = False) -> list[Path]:
    """Return image files sorted by name."""
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}", hint="check source.path")
    found = folder.rglob("*") if deep else folder.glob("*")
    files = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UsageError(f"no images in {folder}", hint=f"supported: {', '.join(sorted(SUFFIXES))}")
    return files
