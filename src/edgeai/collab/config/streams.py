"""Frame sources and drift in configs of `edgeai collab`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.collab.streams.classes import STREET
from edgeai.core.config import Config


class StreetConfig(Config):
    """The generated street; needs no download."""

    kind: Literal["street"] = "street"
    height: int = Field(default=128, ge=32, le=1024)
    """Frame height in pixels."""
    width: int = Field(default=192, ge=32, le=2048)
    """Frame width in pixels."""
    rate_hz: float = Field(default=5.0, gt=0.0)
    """Frames per second of stream time."""
    num_frames: int | None = Field(default=900, ge=1)
    """Length of the drive in frames; null: endless."""
    speed_mps: float = Field(default=8.0, gt=0.0, le=40.0)
    """Speed of the camera."""
    looks: Literal["base", "new"] = "base"
    """Set of houses, cars and clothes; the shipped edge net was not trained on new ones."""
    light: Literal["auto", "sun", "overcast", "evening", "milky"] = "auto"
    """Weather and time of day; auto: chosen by the seed."""


class CamvidConfig(Config):
    """CamVid in video order: <path>/<split>/images/*.jpg and <path>/<split>/labels/*.png with class indices."""

    kind: Literal["camvid"] = "camvid"
    path: str = "camvid"
    """Folder, absolute or relative to EDGEAI_DATA."""
    splits: tuple[str, ...] = ("train", "val")
    """Folders below path that are searched for the sequences."""
    sequences: tuple[str, ...] = ("0006R0", "0016E5", "0001TP")
    """Parts of the video by the prefix of their file names, in playback order; 0001TP is dusk. val/0016E5 takes a
    sequence from one split only."""
    as_street: bool = False
    """Map the labels to the eight classes of the generated street."""
    height: int | None = Field(default=None, ge=32)
    """Frame height, set together with width; null takes the size of the first image."""
    width: int | None = Field(default=None, ge=32)
    """Frame width, set together with height."""
    rate_hz: float = Field(default=1.0, gt=0.0)
    """Frames per second of stream time."""


class CityscapesConfig(Config):
    """Cityscapes layout: leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/.../*_gtFine_labelIds.png."""

    kind: Literal["cityscapes"] = "cityscapes"
    path: str
    """Folder, absolute or relative to EDGEAI_DATA."""
    splits: tuple[str, ...] = ("val",)
    """Names of the splits."""
    as_street: bool = False
    """Map the labels to the eight classes of the generated street."""
    height: int | None = Field(default=None, ge=32)
    """Frame height, set together with width; null takes the size of the first image."""
    width: int | None = Field(default=None, ge=32)
    """Frame width, set together with height."""
    rate_hz: float = Field(default=1.0, gt=0.0)
    """Frames per second of stream time."""


class VocConfig(Config):
    """Pascal VOC segmentation: JPEGImages, SegmentationClass and ImageSets/Segmentation/<split>.txt."""

    kind: Literal["voc"] = "voc"
    path: str
    """Folder VOC2012, absolute or relative to EDGEAI_DATA."""
    splits: tuple[str, ...] = ("val",)
    """Names of the splits."""
    height: int = Field(default=256, ge=32)
    """VOC images differ in size; all are resized to height and width."""
    width: int = Field(default=256, ge=32)
    """See height."""
    rate_hz: float = Field(default=1.0, gt=0.0)
    """Frames per second of stream time."""


class MaskFolderConfig(Config):
    """A folder of images and a folder of label PNGs with the same names."""

    kind: Literal["masks"] = "masks"
    path: str
    """Folder that contains both, absolute or relative to EDGEAI_DATA."""
    images: str = "images"
    """Folder of the images, below path."""
    masks: str = "masks"
    """Folder of the label PNGs, below path."""
    classes: tuple[str, ...] = STREET
    """Names of the classes."""
    label_map: dict[int, str | None] = Field(default_factory=dict)
    """Label value to class; null ignores a value. Empty: value n is class n, and 255 is ignored."""
    height: int | None = Field(default=None, ge=32)
    """Frame height, set together with width; null takes the size of the first image."""
    width: int | None = Field(default=None, ge=32)
    """Frame width, set together with height."""
    rate_hz: float = Field(default=1.0, gt=0.0)
    """Frames per second of stream time."""


class ImageFolderConfig(Config):
    """A folder of images without labels; only agreement with the cloud can be measured, not accuracy."""

    kind: Literal["images"] = "images"
    path: str
    """Folder, absolute or relative to EDGEAI_DATA."""
    classes: tuple[str, ...] = STREET
    """Names of the classes that the models predict."""
    height: int | None = Field(default=None, ge=32)
    """Frame height, set together with width; null takes the size of the first image."""
    width: int | None = Field(default=None, ge=32)
    """Frame width, set together with height."""
    rate_hz: float = Field(default=1.0, gt=0.0)
    """Frames per second of stream time."""


class VideoConfig(Config):
    """A video file, without labels. Needs the extra `vision` (OpenCV)."""

    kind: Literal["video"] = "video"
    path: str
    """File, absolute or relative to EDGEAI_DATA."""
    classes: tuple[str, ...] = STREET
    """Names of the classes that the models predict."""
    stride: int = Field(default=1, ge=1)
    """Use every stride-th frame of the file."""
    height: int | None = Field(default=None, ge=32)
    """Frame height, set together with width; null takes the size of the first image."""
    width: int | None = Field(default=None, ge=32)
    """Frame width, set together with height."""


FolderSource = CamvidConfig | CityscapesConfig | VocConfig | MaskFolderConfig | ImageFolderConfig
StreamSource = Annotated[StreetConfig | FolderSource | VideoConfig, Field(discriminator="kind")]
DriftKind = Literal["clear", "night", "fog", "rain", "blur", "noise", "looks"]


class DriftSegment(Config):
    """One part of a drift schedule, which ends after num_frames or at until_s; the last may have no end."""

    kind: DriftKind = "clear"
    """Kind of drift; looks: houses, cars and people of the generated street that the edge net was not trained on."""
    level: float = Field(default=2.0, ge=0.0, le=3.0)
    """Strength; for looks, the share of new objects in thirds."""
    num_frames: int | None = Field(default=None, ge=1)
    """Length of the segment in frames."""
    until_s: float | None = Field(default=None, gt=0.0)
    """Stream time at which the segment ends."""
    ramp_frames: int = Field(default=0, ge=0)
    """Number of frames of the transition from the previous segment."""
    name: str = ""
    """Name in the report; empty: kind and level."""

    @model_validator(mode="after")
    def _one_end(self) -> DriftSegment:
        if self.num_frames is not None and self.until_s is not None:
            raise ValueError("give num_frames or until_s, not both")
        return self


class StreamConfig(Config):
    """Frame source and drift."""

    source: StreamSource = StreetConfig()
    """Source of the frames."""
    drift: tuple[DriftSegment, ...] = ()
    """Drift segments in order; empty: no drift."""
