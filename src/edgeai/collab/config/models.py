"""The models at the edge and in the cloud, in configs of `edgeai collab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class InputConfig(Config):
    """How frames become a foreign model's input: x = (pixel / 255 - mean) / std."""

    order: Literal["rgb", "bgr"] = "rgb"
    """Channel order of the model's input; mean and std are in the same order."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size_px: tuple[int, int] | None = None
    """Height and width that the model wants; empty gives it frames as they are, or what the file has built in."""


class StreetNetModel(Config):
    """Our own net."""

    kind: Literal["street_net"] = "street_net"
    weights: Literal["edge", "cloud", "fresh"] | Path = "edge"
    """edge, cloud: the weights that come with the package; fresh: a very small untrained net, to try the machinery;
    else a folder of weights or a run of `collab pretrain`."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the net to class of the stream where their names differ; null leaves a class out."""


class TorchFileModel(Config):
    """A user's own TorchScript file or torch.export program (.pt2)."""

    kind: Literal["torch_file"] = "torch_file"
    path: Path
    classes: tuple[str, ...] = ()
    """Names of the model's outputs in order; empty: they are the stream's classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where their names differ; null leaves a class out."""
    input: InputConfig = InputConfig()


class OnnxFileModel(Config):
    """A user's own ONNX file, run by onnxruntime; it cannot be adapted."""

    kind: Literal["onnx_file"] = "onnx_file"
    path: Path
    classes: tuple[str, ...] = ()
    """Names of the model's outputs in order; empty: they are the stream's classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where their names differ; null leaves a class out."""
    input: InputConfig = InputConfig()


class HfModel(Config):
    """A semantic-segmentation model of the transformers library."""

    kind: Literal["hf"] = "hf"
    model: str
    """Local folder or Hugging Face id; its own config names its classes."""
    class_map: dict[str, str | None] = Field(default_factory=dict)
    """Class of the model to class of the stream where their names differ; null leaves a class out."""
    input: InputConfig = InputConfig()


class EdgeCopy(Config):
    """The edge's own model, as it is at the start of the run. It cannot repair what the edge confuses."""

    kind: Literal["edge_copy"] = "edge_copy"


EdgeModelConfig = Annotated[StreetNetModel | TorchFileModel | OnnxFileModel | HfModel, Field(discriminator="kind")]
SemanticsConfig = Annotated[
    EdgeCopy | StreetNetModel | TorchFileModel | OnnxFileModel | HfModel, Field(discriminator="kind")
]


class EdgeConfig(Config):
    """The device."""

    model: EdgeModelConfig = StreetNetModel()


class NoMasks(Config):
    """The cloud answers with its semantics alone."""

    kind: Literal["none"] = "none"


class SamMasksConfig(Config):
    """Masks of a Segment Anything model."""

    kind: Literal["sam"] = "sam"
    model: Literal["sam-tiny", "vit_b", "vit_l", "vit_h"] = "sam-tiny"
    checkpoint: Path | None = None
    """vit_*: the official file; sam-tiny: weights or a run of `collab pretrain`, empty takes the shipped ones."""
    sha256: str | None = None
    """Checksum that an official file must have."""
    prompts: Literal["grid", "guided", "both"] = "guided"
    """grid: everything in the image, from a regular grid of points; guided: one prompt in each uncertain region of the
    semantics (ours); both."""
    points_per_side: int = Field(8, ge=1)
    """Grid points in each direction; the paper's authors' code takes 32."""
    guide: Literal["point", "box"] = "box"
    """What a guided prompt is: a point inside its region, or the box around it."""
    max_guided: int = Field(16, ge=1)
    """Guided prompts for one frame; the regions with most uncertain pixels go first."""
    uncertain_below: float = Field(0.95, ge=0.0, le=1.0)
    """A region is prompted if the mean probability of its class is lower."""
    min_region_px: int = Field(16, ge=1)
    """Smaller regions are not prompted."""
    points_per_batch: int = Field(64, ge=1)
    """Prompts decoded together; lower saves memory."""
    iou_min: float = Field(0.7, ge=0.0, le=1.0)
    """Masks that SAM itself expects to fit worse are dropped; its everything mode takes 0.88."""
    stability_min: float = Field(0.8, ge=0.0, le=1.0)
    """IoU of a mask cut at logits +1 and -1; its everything mode takes 0.95."""
    nms_iou_max: float = Field(0.7, gt=0.0, le=1.0)
    """Of masks whose boxes overlap more than this, the one expected to fit best stays."""

    @model_validator(mode="after")
    def _official_has_a_file(self) -> SamMasksConfig:
        if self.model != "sam-tiny" and self.checkpoint is None:
            raise ValueError(f"{self.model} needs checkpoint: the path of its official file, which is not shipped")
        return self


class PythonMasks(Config):
    """A user's own mask source: a function `propose(image [H,W,3] uint8, probs [C,H,W] float32) -> [N,H,W] bool`, or a
    pair of that and the N expected IoUs.
    """

    kind: Literal["python"] = "python"
    path: Path
    """A Python file; it is run."""
    name: str = "propose"
    """The function in it."""


MasksConfig = Annotated[NoMasks | SamMasksConfig | PythonMasks, Field(discriminator="kind")]


class FusionConfig(Config):
    """How masks correct the semantics."""

    vote: Literal["logits", "majority"] = "logits"
    """A mask's class: that of the largest sum of logits, or the most frequent one."""
    purity_min: float = Field(0.5, ge=0.0, le=1.0)
    """A mask is painted only if at least this share of its pixels have its class already."""
    iou_min: float = Field(0.7, ge=0.0, le=1.0)
    """A mask is painted only if its source expects at least this IoU."""


class CloudConfig(Config):
    """The server."""

    semantics: SemanticsConfig = StreetNetModel(weights="cloud")
    masks: MasksConfig = SamMasksConfig()
    fusion: FusionConfig = FusionConfig()
