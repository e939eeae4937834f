"""Where frames come from, and how the scene drifts, in configs of `edgeai collab`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.collab.streams.classes import STREET
from edgeai.core.config import Config


class StreetConfig(Config):
    """The embedded generated street; nothing to download."""

    kind: Literal["street"] = "street"
    height: int = Field(128, ge=32, le=1024)
    width: int = Field(192, ge=32, le=2048)
    rate_hz: float = Field(5.0, gt=0.0)
    num_frames: int | None = Field(900, ge=1)
    """Length of the drive; null never ends."""
    speed_mps: float = Field(8.0, gt=0.0, le=40.0)
    looks: Literal["base", "new"] = "base"
    """Which houses, cars and clothes there are; new ones were never trained on."""
    light: Literal["auto", "sun", "overcast", "evening", "milky"] = "auto"
    """Weather and time of day; auto lets the seed choose."""


class CamvidConfig(Config):
    """CamVid in video order: <path>/<split>/images/*.jpg and <path>/<split>/labels/*.png with class indices."""

    kind: Literal["camvid"] = "camvid"
    path: str = "camvid"
    """Folder, as given or below EDGEAI_DATA."""
    splits: tuple[str, ...] = ("train", "val")
    sequences: tuple[str, ...] = ("0006R0", "0016E5", "0001TP")
    """Parts of the video by the start of their file names, in the order in which they are played; 0001TP is dusk.
    val/0016E5 takes a sequence from one split alone."""
    as_street: bool = False
    """Fold the labels into the eight classes of the generated street."""
    height: int | None = Field(None, ge=32)
    """Frames are resized to height and width; empty takes the size of the first."""
    width: int | None = Field(None, ge=32)
    rate_hz: float = Field(1.0, gt=0.0)


class CityscapesConfig(Config):
    """Cityscapes layout: leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/.../*_gtFine_labelIds.png."""

    kind: Literal["cityscapes"] = "cityscapes"
    path: str
    """Folder, as given or below EDGEAI_DATA."""
    splits: tuple[str, ...] = ("val",)
    as_street: bool = False
    """Fold the labels into the eight classes of the generated street."""
    height: int | None = Field(None, ge=32)
    """Frames are resized to height and width; empty takes the size of the first."""
    width: int | None = Field(None, ge=32)
    rate_hz: float = Field(1.0, gt=0.0)


class VocConfig(Config):
    """Pascal VOC segmentation: JPEGImages, SegmentationClass and ImageSets/Segmentation/<split>.txt."""

    kind: Literal["voc"] = "voc"
    path: str
    """The folder VOC2012, as given or below EDGEAI_DATA."""
    splits: tuple[str, ...] = ("val",)
    height: int = Field(256, ge=32)
    """VOC's pictures differ in size; all are resized to this."""
    width: int = Field(256, ge=32)
    rate_hz: float = Field(1.0, gt=0.0)


class MaskFolderConfig(Config):
    """A folder of pictures and one of label PNGs with the same names."""

    kind: Literal["masks"] = "masks"
    path: str
    """Folder that holds both, as given or below EDGEAI_DATA."""
    images: str = "images"
    masks: str = "masks"
    classes: tuple[str, ...] = STREET
    """Names of the classes."""
    label_map: dict[int, str | None] = Field(default_factory=dict)
    """Label value to class; null is ignored. Empty: value n is class n, and 255 is ignored."""
    height: int | None = Field(None, ge=32)
    """Frames are resized to height and width; empty takes the size of the first."""
    width: int | None = Field(None, ge=32)
    rate_hz: float = Field(1.0, gt=0.0)


class ImageFolderConfig(Config):
    """A folder of pictures without labels; accuracy cannot be measured, only agreement with the cloud."""

    kind: Literal["images"] = "images"
    path: str
    """Folder, as given or below EDGEAI_DATA."""
    classes: tuple[str, ...] = STREET
    """Names of the classes that the models tell apart."""
    height: int | None = Field(None, ge=32)
    """Frames are resized to height and width; empty takes the size of the first."""
    width: int | None = Field(None, ge=32)
    rate_hz: float = Field(1.0, gt=0.0)


class VideoConfig(Config):
    """A video file, without labels. Needs the extra `vision` (OpenCV)."""

    kind: Literal["video"] = "video"
    path: str
    """File, as given or below EDGEAI_DATA."""
    classes: tuple[str, ...] = STREET
    """Names of the classes that the models tell apart."""
    stride: int = Field(1, ge=1)
    """Play every so many frames of the file."""
    height: int | None = Field(None, ge=32)
    """Frames are resized to height and width; empty takes the size of the first."""
    width: int | None = Field(None, ge=32)


FolderSource = CamvidConfig | CityscapesConfig | VocConfig | MaskFolderConfig | ImageFolderConfig
StreamSource = Annotated[StreetConfig | FolderSource | VideoConfig, Field(discriminator="kind")]
DriftKind = Literal["clear", "night", "fog", "rain", "blur", "noise", "looks"]


class DriftSegment(Config):
    """One part of a drift schedule; it lasts num_frames or until until_s, and the last one may go on to the end."""

    kind: DriftKind = "clear"
    """looks: houses, cars and people of the generated street that were never trained on."""
    level: float = Field(2.0, ge=0.0, le=3.0)
    """Strength; for looks the share of new things in thirds."""
    num_frames: int | None = Field(None, ge=1)
    until_s: float | None = Field(None, gt=0.0)
    """Time of the stream at which the segment ends."""
    ramp_frames: int = Field(0, ge=0)
    """Frames over which this segment takes over from the one before."""
    name: str = ""
    """For the report; empty makes one of kind and level."""

    @model_validator(mode="after")
    def _one_end(self) -> DriftSegment:
        if self.num_frames is not None and self.until_s is not None:
            raise ValueError("give num_frames or until_s, not both")
        return self


class StreamConfig(Config):
    """Where frames come from and what drift is laid over them."""

    source: StreamSource = StreetConfig()
    drift: tuple[DriftSegment, ...] = ()
    """What happens to the frames, one segment after the other; empty leaves them as they are."""
