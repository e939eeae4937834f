"""Every folder layout, errors at the start, and unreadable files that are skipped later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeai.collab.config.streams import (
    CamvidConfig,
    CityscapesConfig,
    FolderSource,
    ImageFolderConfig,
    MaskFolderConfig,
    StreamConfig,
    VocConfig,
)
from edgeai.collab.streams.build import build_stream
from edgeai.collab.streams.classes import CAMVID, STREET, VOC
from edgeai.collab.streams.layouts import build_folder
from edgeai.collab.streams.stream import Frame
from edgeai.core.errors import UsageError

H, W = 32, 48


def picture(path: Path, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((H, W, 3), value, dtype=np.uint8)).save(path)


def mask(path: Path, *values: int) -> None:
    """Vertical stripes of these label values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.repeat(np.array(values, dtype=np.uint8), W // len(values))
    Image.fromarray(np.tile(row, (H, 1))).save(path)


def play(config: FolderSource) -> list[Frame]:
    return list(build_folder(config).frames())


def stripes(frame: Frame) -> list[int]:
    assert frame.labels is not None
    return list(dict.fromkeys(frame.labels[0].tolist()))


def test_camvid_in_the_order_of_its_sequences(tmp_path: Path) -> None:
    for split, name in (("train", "0001TP_1"), ("val", "0016E5_7"), ("train", "0016E5_3"), ("train", "0006R0_9")):
        picture(tmp_path / split / "images" / f"{name}.jpg")
        mask(tmp_path / split / "labels" / f"{name}.png", 0, 6, 10, 11)
    frames = play(CamvidConfig(path=str(tmp_path)))
    assert [(f.id, f.segment) for f in frames] == [
        ("train/images/0006R0_9.jpg", "day"),
        ("train/images/0016E5_3.jpg", "day"),
        ("val/images/0016E5_7.jpg", "day"),
        ("train/images/0001TP_1.jpg", "dusk"),
    ]
    assert [f.time_s for f in frames] == [0, 1, 2, 3]
    assert stripes(frames[0]) == [0, 6, 10, 255]
    folded = build_folder(CamvidConfig(path=str(tmp_path), as_street=True))
    assert folded.classes == STREET
    assert stripes(next(folded.frames())) == [0, 2, 7, 255]  # sign is pole, bicyclist is pedestrian


def test_cityscapes_layout(tmp_path: Path) -> None:
    for city in ("ulm", "bonn"):
        picture(tmp_path / "leftImg8bit" / "val" / city / f"{city}_0_1_leftImg8bit.png")
        mask(tmp_path / "gtFine" / "val" / city / f"{city}_0_1_gtFine_labelIds.png", 7, 23, 24, 4)
    stream = build_folder(CityscapesConfig(path=str(tmp_path)))
    frames = list(stream.frames())
    assert [f.segment for f in frames] == ["bonn", "ulm"]
    assert len(stream.classes) == 19
    assert [stream.classes[k] for k in stripes(frames[0])[:3]] == ["road", "sky", "person"]
    assert stripes(frames[0])[3] == 255
    assert stripes(play(CityscapesConfig(path=str(tmp_path), as_street=True))[0]) == [3, 0, 7, 255]


def test_voc_follows_its_list_and_resizes(tmp_path: Path) -> None:
    for name in ("b", "a"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask(tmp_path / "SegmentationClass" / f"{name}.png", 0, 15, 255)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("b\na\n")
    frames = play(VocConfig(path=str(tmp_path), height=64, width=64))
    assert [f.id for f in frames] == ["b", "a"]
    assert frames[0].image.shape == (64, 64, 3)
    assert stripes(frames[0]) == [0, VOC.index("person"), 255]


def test_masks_with_and_without_a_map(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "day" / "x.png", 77)
    mask(tmp_path / "masks" / "day" / "x.png", 3, 0, 255)
    frame = play(MaskFolderConfig(path=str(tmp_path)))[0]
    assert frame.id == "day/x.png"
    assert (frame.image == 77).all()
    assert stripes(frame) == [3, 0, 255]
    mapped = MaskFolderConfig(
        path=str(tmp_path), classes=("wall", "floor"), label_map={3: "floor", 0: "wall", 255: None}
    )
    assert stripes(play(mapped)[0]) == [1, 0, 255]


def test_palette_pictures_are_indices(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "x.png")
    mask(tmp_path / "masks" / "x.png", 2, 1)
    indexed = Image.open(tmp_path / "masks" / "x.png").convert("L")
    indexed.putpalette([9, 9, 9] * 256)
    indexed.save(tmp_path / "masks" / "x.png")
    with Image.open(tmp_path / "masks" / "x.png") as saved:
        assert saved.mode == "P"
    assert stripes(play(MaskFolderConfig(path=str(tmp_path)))[0]) == [2, 1]


def test_images_without_labels(tmp_path: Path) -> None:
    picture(tmp_path / "2.png", 2)
    picture(tmp_path / "1.jpg", 200)
    frames = play(ImageFolderConfig(path=str(tmp_path), height=40, width=56))
    assert [f.id for f in frames] == ["1.jpg", "2.png"]
    assert all(f.labels is None and f.image.shape == (40, 56, 3) for f in frames)


def test_broken_files_are_counted_and_skipped(tmp_path: Path) -> None:
    for index in range(40):
        picture(tmp_path / "images" / f"{index:02d}.png", index)
        mask(tmp_path / "masks" / f"{index:02d}.png", 1, 2)
    whole = (tmp_path / "images" / "07.png").read_bytes()
    (tmp_path / "images" / "07.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images" / "11.png").write_bytes(b"")
    mask(tmp_path / "masks" / "19.png", 1, 99)  # not among those that are checked before the start
    Image.fromarray(np.zeros((H, W + 1), dtype=np.uint8)).save(tmp_path / "masks" / "21.png")
    stream = build_folder(MaskFolderConfig(path=str(tmp_path)))
    for _ in range(2):  # the second pass counts anew
        frames = list(stream.frames())
        assert len(frames) == 36
        assert [f.time_s for f in frames if f.id in ("06.png", "08.png")] == [6.0, 8.0]
        assert stream.problems == [
            f"cannot read {tmp_path}/images/07.png: the file is truncated or not an image",
            f"cannot read {tmp_path}/images/11.png: the file is truncated or not an image",
            f"{tmp_path}/masks/19.png: label values 99 are not in the label map",
            f"{tmp_path}/masks/21.png: 49x32, but its image is 48x32",
        ]


def refuse(config: FolderSource) -> str:
    with pytest.raises(UsageError) as caught:
        build_folder(config)
    return caught.value.message


def test_invalid_folders_are_rejected_at_the_start(tmp_path: Path) -> None:
    assert refuse(ImageFolderConfig(path=str(tmp_path))) == f"no images in {tmp_path}"
    assert refuse(MaskFolderConfig(path=str(tmp_path))) == f"no folder {tmp_path}/images"
    picture(tmp_path / "images" / "x.png")
    assert refuse(MaskFolderConfig(path=str(tmp_path))) == f"no labels at {tmp_path}/masks/x.png"
    mask(tmp_path / "masks" / "x.png", 0, 8, 12)
    assert (
        refuse(MaskFolderConfig(path=str(tmp_path)))
        == f"{tmp_path}/masks/x.png: label values 8, 12 are not in the label map"
    )
    assert (
        refuse(MaskFolderConfig(path=str(tmp_path), label_map={0: "lava"})) == 'source.label_map: unknown class "lava"'
    )
    picture(tmp_path / "masks" / "x.png")
    assert refuse(MaskFolderConfig(path=str(tmp_path))).endswith("labels must be 8-bit class indices, this is RGB")
    assert (
        refuse(ImageFolderConfig(path=str(tmp_path), height=40))
        == "source.height and source.width must be given together"
    )
    assert refuse(CamvidConfig(path=str(tmp_path))) == f"no folder {tmp_path}/train/images"
    assert refuse(VocConfig(path=str(tmp_path))) == f"no image list at {tmp_path}/ImageSets/Segmentation/val.txt"


@pytest.mark.data
def test_real_camvid() -> None:
    stream = build_stream(StreamConfig(source=CamvidConfig(height=128, width=192)), 0)
    assert stream.classes == CAMVID
    frames = list(stream.frames())
    assert len(frames) == stream.num_frames == 468
    assert stream.problems == []
    assert [f.segment for f in frames] == ["day"] * 406 + ["dusk"] * 62
    seen = set(np.unique([np.unique(f.labels).tolist() for f in frames[:1]]).tolist())
    assert seen <= {*range(11), 255}
    brightness = [f.image.mean() for f in frames]
    assert np.mean(brightness[-62:]) < np.mean(brightness[:-62])
