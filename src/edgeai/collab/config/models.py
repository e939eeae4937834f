"""Models of the edge and the cloud in configs of `edgeai collab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class InputConfig(Config):
    """Conversion of frames to a user model's input: x = (pixel / 255 - mean) / std."""

    order: Literal["rgb", "bgr"] = "rgb"
    """Channel order of the model's input, also of mean and std."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean per channel, subtracted from pixels in 0..1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation per channel, by which the result is divided."""
    size_px: tuple[int, int] | None = None
    """Height and width of the model's input; null takes the fixed size of the file, or the frame size."""


class StreetNetModel(Config):
    """The street net of this package."""

    kind: Literal["street_net"] = "street_net"
    weights: Literal["edge", "cloud", "fresh"] | Path = "edge"
    """edge, cloud: weights shipped with the package; fresh: a very small untrained net, for tests; otherwise a
    checkpoint folder or a run of `collab pretrain`."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the net to class of the stream where the names differ; null ignores a class."""


class TorchFileModel(Config):
    """A TorchScript file or torch.export program (.pt2) of the user."""

    kind: Literal["torch_file"] = "torch_file"
    path: Path
    """Path of the file."""
    classes: tuple[str, ...] = ()
    """Names of the model's outputs in order; empty: the stream's classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where the names differ; null ignores a class."""
    input: InputConfig = InputConfig()


class OnnxFileModel(Config):
    """An ONNX file of the user, run by onnxruntime; it cannot be adapted."""

    kind: Literal["onnx_file"] = "onnx_file"
    path: Path
    """Path of the file."""
    classes: tuple[str, ...] = ()
    """Names of the model's outputs in order; empty: the stream's classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where the names differ; null ignores a class."""
    input: InputConfig = InputConfig()


class HfModel(Config):
    """A semantic-segmentation model of the transformers library."""

    kind: Literal["hf"] = "hf"
    model: str
    """Local folder or Hugging Face id; the model's config names its classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where the names differ; null ignores a class."""
    input: InputConfig = InputConfig()


class EdgeCopy(Config):
    """A copy of the initial edge model. It cannot correct the edge's confusions."""

    kind: Literal["edge_copy"] = "edge_copy"


EdgeModelConfig = Annotated[StreetNetModel | TorchFileModel | OnnxFileModel | HfModel, Field(discriminator="kind")]
SemanticsConfig = Annotated[
    EdgeCopy | StreetNetModel | TorchFileModel | OnnxFileModel | HfModel, Field(discriminator="kind")
]


class EdgeConfig(Config):
    """The edge device."""

    model: EdgeModelConfig = StreetNetModel()
    """Segmentation model of the edge."""


class NoMasks(Config):
    """No masks; the cloud answers with its semantics."""

    kind: Literal["none"] = "none"


class SamMasksConfig(Config):
    """Masks of a Segment Anything model."""

    kind: Literal["sam"] = "sam"
    model: Literal["sam-tiny", "vit_b", "vit_l", "vit_h"] = "sam-tiny"
    """Model size: sam-tiny is shipped, the others need their official file."""
    checkpoint: Path | None = None
    """vit_*: path of the official file; sam-tiny: checkpoint folder or run of `collab pretrain`, null for the shipped
    weights."""
    sha256: str | None = None
    """Required checksum of an official file."""
    prompts: Literal["grid", "guided", "both"] = "guided"
    """grid: a regular grid of points over the image; guided: one prompt for each uncertain region of the semantics
    (ours); both."""
    points_per_side: int = Field(default=8, ge=1)
    """Grid points in each direction; the original code uses 32."""
    guide: Literal["point", "box"] = "box"
    """Form of a guided prompt: a point inside its region, or the box around it."""
    max_guided: int = Field(default=16, ge=1)
    """Maximum number of guided prompts per frame; the most uncertain regions come first."""
    uncertain_below: float = Field(default=0.95, ge=0.0, le=1.0)
    """Mean class probability below which a region is prompted."""
    min_region_px: int = Field(default=16, ge=1)
    """Minimum area of a prompted region."""
    points_per_batch: int = Field(default=64, ge=1)
    """Number of prompts decoded together; fewer need less memory."""
    iou_min: float = Field(default=0.7, ge=0.0, le=1.0)
    """Minimum IoU that SAM predicts for a mask; its everything mode uses 0.88."""
    stability_min: float = Field(default=0.8, ge=0.0, le=1.0)
    """Minimum IoU of a mask's binarizations at logits +1 and -1; the everything mode uses 0.95."""
    nms_iou_max: float = Field(default=0.7, gt=0.0, le=1.0)
    """Maximum IoU of two mask boxes; above it only the mask with the higher predicted IoU is kept."""

    @model_validator(mode="after")
    def _official_has_a_file(self) -> SamMasksConfig:
        if self.model != "sam-tiny" and self.checkpoint is None:
            raise ValueError(f"{self.model} needs checkpoint: the path of its official file, which is not shipped")
        return self


class PythonMasks(Config):
    """A mask source of the user: a function `propose(image [H,W,3] uint8, probs [C,H,W] float32) -> [N,H,W] bool`, or a
    pair of masks and N predicted IoUs.
    """

    kind: Literal["python"] = "python"
    path: Path
    """Path of a Python file, which is executed."""
    name: str = "propose"
    """Name of the function in the file."""


MasksConfig = Annotated[NoMasks | SamMasksConfig | PythonMasks, Field(discriminator="kind")]


class FusionConfig(Config):
    """Fusion of masks with the semantics."""

    vote: Literal["logits", "majority"] = "logits"
    """Class of a mask: the class with the largest sum of logits, or the most frequent class."""
    purity_min: float = Field(default=0.5, ge=0.0, le=1.0)
    """Minimum share of a mask's pixels that already have its class."""
    iou_min: float = Field(default=0.7, ge=0.0, le=1.0)
    """Minimum predicted IoU of a painted mask."""


class CloudConfig(Config):
    """The cloud server."""

    semantics: SemanticsConfig = StreetNetModel(weights="cloud")
    """Model that names classes in the cloud."""
    masks: MasksConfig = SamMasksConfig()
    """Source of class-agnostic masks."""
    fusion: FusionConfig = FusionConfig()
