"""Configs of the `edgeai collab` verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.collab.classes import STREET
from edgeai.core.config import Config
from edgeai.core.link import LinkChoice


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


FolderSource = CamvidConfig | CityscapesConfig | VocConfig | MaskFolderConfig | ImageFolderConfig | VideoConfig
StreamSource = Annotated[StreetConfig | FolderSource, Field(discriminator="kind")]
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


class StreetNetConfig(Config):
    """Size of a street net."""

    width: int = Field(128, ge=8, multiple_of=4)
    """Channels at stride 8; a half at stride 4, a quarter at stride 2."""
    depth: int = Field(8, ge=1)
    """Residual blocks at stride 8."""
    separable: bool = True
    """Depthwise-separable convolutions, or full ones."""


class EdgePart(Config):
    """The edge net: small, and trained on clear days and base looks only, as nets on devices are."""

    kind: Literal["edge"] = "edge"
    net: StreetNetConfig = StreetNetConfig()


class WideScenes(Config):
    """What a large model has seen that the edge net has not."""

    drift_frac: float = Field(0.5, ge=0.0, le=1.0)
    """Share of scenes under a random drift."""
    max_level: float = Field(3.0, ge=0.0, le=3.0)
    """Strongest of them."""
    new_looks_frac: float = Field(0.5, ge=0.0, le=1.0)
    """Share of generated scenes with the new houses, cars and clothes."""


class CloudPart(WideScenes):
    """The cloud's semantic net: larger, and it has seen bad weather and new looks."""

    kind: Literal["cloud"] = "cloud"
    net: StreetNetConfig = StreetNetConfig(separable=False)


class SamShapeConfig(Config):
    """Size of sam-tiny, in the terms of the segment_anything package."""

    image_px: int = Field(192, ge=32)
    """Longer side of its input, to which frames are scaled; the shorter one is padded."""
    patch_px: int = Field(8, ge=4)
    encoder_width: int = Field(160, ge=8)
    encoder_depth: int = Field(8, ge=1)
    encoder_heads: int = Field(5, ge=1)
    window: int = Field(8, ge=1)
    """Side of the attention windows, in patches; every fourth block sees the whole image."""
    decoder_width: int = Field(96, ge=8, multiple_of=8)
    decoder_heads: int = Field(8, ge=1)


class SamPart(WideScenes):
    """sam-tiny, with the recipe of Segment Anything (arXiv 2304.02643, appendix A) on regions of street scenes."""

    kind: Literal["sam"] = "sam"
    net: SamShapeConfig = SamShapeConfig()
    prompts: int = Field(8, ge=1)
    """Regions prompted in each image; half by a point, half by a box."""
    min_region_px: int = Field(16, ge=1)
    """Smaller regions are not asked for."""
    box_noise_frac: float = Field(0.1, ge=0.0)
    """Standard deviation of a box corner, as a share of the box side (the paper's), at most 20 px."""
    focal_weight: float = Field(20.0, ge=0.0)
    """Weight of the focal loss beside the dice loss (the paper's 20:1)."""
    naming_weight: float = Field(1.0, ge=0.0)
    """Weight of the encoder's loss in naming classes (ours; 0 leaves it out)."""


class PretrainOptimConfig(Config):
    """AdamW with linear warm-up, then cosine decay to zero."""

    lr: float = Field(1e-3, gt=0.0)
    warmup_frac: float = Field(0.05, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    clip_norm: float = Field(1.0, gt=0.0)
    batch: int = Field(8, ge=1)
    """Scenes of one step."""


class PretrainConfig(Config):
    """`edgeai collab pretrain`: train the edge net, the cloud net or sam-tiny on random scenes."""

    verb: Literal["collab pretrain"] = "collab pretrain"
    part: Annotated[EdgePart | CloudPart | SamPart, Field(discriminator="kind")] = EdgePart()
    source: StreamSource = StreetConfig()
    """Scenes to learn from: the generated street, or any source with labels."""
    optim: PretrainOptimConfig = PretrainOptimConfig()
    steps: int = Field(3000, ge=1)
    val_scenes: int = Field(64, ge=1)
    """Scenes held back for validation; the seeds of training scenes never meet theirs."""
    val_every: int = Field(250, ge=1)
    """Steps between validations (and checkpoints)."""
    init_from: Literal["shipped"] | Path | None = None
    """Folder of weights, or a run, that training starts from; shipped: the weights that come with edgeai."""
    seed: int = 0


ScoreKind = Literal["max_prob", "margin", "entropy", "frac_above", "sedna_cross_entropy", "ibt"]


class MinerConfig(Config):
    """The trained hard-input miner: a small head that says from the edge's own output whether the edge suffices."""

    target: Literal["agreement", "above_tau", "appealnet"] = "agreement"
    """What it learns: the agreement q with the cloud's labels; whether q reaches tau; or AppealNet's soft gate."""
    measure: Literal["pixels", "miou"] = "pixels"
    """q is the share of equal pixels, or the mIoU against the cloud's labels."""
    tau: float = Field(0.9, gt=0.0, le=1.0)
    """Agreement that counts as sufficient, for above_tau."""
    beta: float = Field(0.05, gt=0.0)
    """Weight of -log h, for appealnet: the edge loss up to which h stays at 1 (without it h collapses to 0)."""
    hidden: int = Field(32, ge=1)
    """Width of its one hidden layer."""
    steps: int = Field(60, ge=0)
    """Adam steps of one fit; 0 leaves the miner as it is (untrained, it equals max_prob)."""
    num_frames: int = Field(64, ge=1)
    """Labelled frames that one fit looks at, at most."""
    min_frames: int = Field(24, ge=1)
    """With fewer it is not fitted, and stays max_prob: it would learn the first scene by heart."""
    lr: float = Field(5e-3, gt=0.0)
    weight_decay: float = Field(1e-3, ge=0.0)

    @model_validator(mode="after")
    def _can_be_fitted(self) -> MinerConfig:
        if self.min_frames > self.num_frames:
            raise ValueError(f"min_frames {self.min_frames} is never reached with num_frames {self.num_frames}")
        return self


class ExploreConfig(Config):
    """Uploads of easy frames, because only uploaded frames are ever labelled."""

    explore_frac: float = Field(0.02, ge=0.0, le=1.0)
    """Probability that a frame which would stay is uploaded all the same."""
    max_importance: float = Field(50.0, ge=1.0)
    """Importance weights 1/p are clipped here; below 1/explore_frac that costs a bias and saves variance."""


class FixedThreshold(Config):
    """A constant threshold."""

    kind: Literal["fixed"] = "fixed"
    delta: float = Field(0.95, ge=0.0, le=1.0)
    """Frames whose score is lower are uploaded."""


class QuantileThreshold(Config):
    """Holds an upload rate."""

    kind: Literal["quantile"] = "quantile"
    rate: float = Field(0.3, gt=0.0, lt=1.0)
    """Share of frames that is uploaded, exploration included."""
    window: int = Field(200, ge=2)
    """Scores whose quantile the threshold is."""
    gain: float = Field(0.02, ge=0.0)
    """Shift of the quantile's level for each upload that is owed."""


class DualThreshold(Config):
    """Holds a mean latency or a byte rate: the price of an upload rises while the budget is overrun."""

    kind: Literal["dual"] = "dual"
    latency_s: float | None = Field(None, gt=0.0)
    """Mean latency of an answer."""
    bytes_per_s: float | None = Field(None, gt=0.0)
    """Mean uplink rate."""
    latency_step: float = Field(0.02, gt=0.0)
    """Rise of the price for one answer that takes twice the budget."""
    bytes_step: float = Field(0.02, gt=0.0)
    """Rise of the price for one second's budget of bytes in excess."""

    @model_validator(mode="after")
    def _has_a_budget(self) -> DualThreshold:
        if self.latency_s is None and self.bytes_per_s is None:
            raise ValueError("a dual threshold needs a budget: set latency_s, bytes_per_s or both")
        return self


class CostThreshold(Config):
    """The threshold that would have cost least on the frames labelled last."""

    kind: Literal["cost"] = "cost"
    upload_cost: float = Field(0.1, ge=0.0, le=1.0)
    """Price of an upload, in units of the edge's loss."""
    window: int = Field(200, ge=1)
    """Labelled frames that are looked at."""
    start: float = Field(0.95, ge=0.0, le=1.0)
    """Threshold until the first label."""


class H2t2Threshold(Config):
    """Online learning of two thresholds: frames whose score lies between them are uploaded."""

    kind: Literal["h2t2"] = "h2t2"
    upload_cost: float = Field(0.1, ge=0.0, le=1.0)
    """Price of an upload, in units of the edge's loss."""
    num_levels: int = Field(16, ge=1, le=64)
    """Thresholds lie on 0, 1/n, ..., 1."""
    learning_rate: float = Field(0.05, gt=0.0)
    """Step of the exponential weights."""


ThresholdConfig = Annotated[
    FixedThreshold | QuantileThreshold | DualThreshold | CostThreshold | H2t2Threshold, Field(discriminator="kind")
]


class ReplayConfig(Config):
    """What the cloud keeps of the labelled frames."""

    capacity: int = Field(256, ge=2)
    """Frames in all."""
    newest: int = Field(16, ge=1)
    """Of them the newest, which fill half of every batch; the others are a uniform sample of all that came before."""
    holdout_every: int = Field(5, ge=2)
    """Every how-manieth frame is never trained on and judges the updates."""

    @model_validator(mode="after")
    def _room_for_older(self) -> ReplayConfig:
        if self.newest >= self.capacity:
            raise ValueError(f"newest {self.newest} leaves no room for older frames in a capacity of {self.capacity}")
        return self


class UpdateConfig(Config):
    """How the edge model and the miner follow the stream."""

    every_frames: int = Field(16, ge=1)
    """Newly labelled frames that start an update."""
    every_s: float = Field(30.0, gt=0.0)
    """Seconds since the last one that start it earlier, if there is anything new."""
    refresh_batchnorm: bool = True
    """Measure the BatchNorm statistics anew before training; with the gate, kept only if agreement does not fall."""
    refresh_frames: int = Field(32, ge=1)
    """Newest frames that they are measured on."""
    refresh_prior: int = Field(32, ge=0)
    """Frames as which the statistics from training count beside them; 0 forgets training."""
    parameters: Literal["all", "batchnorm"] = "all"
    """Which weights training changes."""
    steps: int = Field(20, ge=0)
    """Adam steps of one update; 0 trains nothing."""
    batch: int = Field(4, ge=1)
    lr: float = Field(5e-4, gt=0.0)
    gate: bool = True
    """Take a trained model back if the held-out frames say so."""
    max_drop: float = Field(0.01, ge=0.0)
    """Loss of held-out mIoU up to which a trained model is kept."""
    gate_frames: int = Field(24, ge=1)
    """Held-out frames that are looked at, spread over all ages."""
    push: Literal["full", "delta", "bn"] = "full"
    """What travels to the edge: all weights, those that changed most, or BatchNorm only."""
    push_frac: float = Field(0.05, gt=0.0, le=1.0)
    """Share of the weights in a delta push; training then changes only these (AMS coordinate descent)."""
    compute_s: float | None = Field(2.0, ge=0.0)
    """Virtual seconds that one update takes in the cloud; empty measures it on this machine."""
    replay: ReplayConfig = ReplayConfig()


class EvaluateConfig(Config):
    """What the report measures."""

    deadline_s: float = Field(0.5, gt=0.0)
    """An answer that refines the edge's counts if it is there this long after the frame was taken."""
    window_s: float = Field(10.0, gt=0.0)
    """Length of a point of the curves over time; doubled whenever there would be more than max_windows."""
    max_windows: int = Field(64, ge=2)


StrategyName = Literal[
    "edge-only",
    "cloud-only",
    "random",
    "oracle",
    "max-prob",
    "margin",
    "entropy",
    "frac-above",
    "cross-entropy",
    "ibt",
    "appealnet",
    "dcsb",
    "ams",
    "shoggoth",
    "cema",
    "bn-adapt",
    "neurosurgeon",
    "laecips",
    "laecips-no-update",
    "laecips-no-him",
    "laecips-no-masks",
    "laecips-no-explore",
    "laecips-no-threshold",
    "laecips-no-gate",
    "laecips-no-bn",
]


class ComputeConfig(Config):
    """How long things take, in virtual seconds. Given times make a run repeat exactly; an empty one is measured once,
    on this machine, before the first frame.
    """

    edge_s: float | None = Field(0.03, gt=0.0)
    """One pass of the edge model and the miner."""
    encode_s: float = Field(0.002, ge=0.0)
    """Compressing a frame at the edge; beside the next pass."""
    cloud_s: float | None = Field(0.12, gt=0.0)
    """Semantics, masks and fusion of one frame."""


class UploadConfig(Config):
    """How frames go up."""

    quality: int = Field(90, ge=1, le=95)
    """JPEG quality; 90 costs a segmentation net nothing."""
    adapt: bool = True
    """While the link is slow, fall to quality 75 and then to half the size."""
    max_in_flight: int = Field(4, ge=1)
    """Frames sent and not yet answered."""
    queue_frames: int = Field(2, ge=1)
    """Frames that wait for one of those places; the newest goes first, the oldest is dropped."""
    spool_frames: int = Field(64, ge=0)
    """Frames kept for training until the link is idle; the oldest is dropped."""
    breaker_failures: int = Field(5, ge=1)
    """Late or missing answers in a row after which nothing is asked any more."""
    breaker_probe_s: float = Field(2.0, gt=0.0)
    """After so long one frame tries again."""


class CollabRunConfig(Config):
    """`edgeai collab run`: play a stream through edge, link and cloud in virtual time."""

    verb: Literal["collab run"] = "collab run"
    strategy: StrategyName = "laecips"
    """What is uploaded and what is learned from it."""
    stream: StreamConfig = StreamConfig()
    edge: EdgeConfig = EdgeConfig()
    cloud: CloudConfig = CloudConfig()
    link: LinkChoice = "4g"
    """A preset, or rates, delay, loss, outages or a trace."""
    threshold: ThresholdConfig = QuantileThreshold()
    """Which scores are hard, for all strategies that score frames."""
    upload_rate: float = Field(0.3, ge=0.0, le=1.0)
    """Share of frames that strategies with a rate of their own send: random, and at most ams, shoggoth and cema."""
    miner: MinerConfig = MinerConfig()
    explore: ExploreConfig = ExploreConfig()
    update: UpdateConfig = UpdateConfig()
    """One budget for all strategies that train."""
    upload: UploadConfig = UploadConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    edge_queue_frames: int = Field(2, ge=1)
    """Frames that wait while the edge is busy; the newest goes first, the oldest is dropped."""
    shadow_cloud: bool = True
    """For the report, also ask the cloud about frames that stayed; takes no virtual time, but real time."""
    probe_frames: int = Field(8, ge=0)
    """Frames of each drift segment on which forgetting is measured after the run; 0 leaves it out."""
    overlays: tuple[int, ...] = ()
    """Numbers of the frames whose pictures are kept for the report."""
    pace: Literal["virtual", "wall"] = "virtual"
    """virtual: as fast as it goes; wall: no faster than the camera. The result is the same."""
    seed: int = 0


class CollabCompareConfig(Config):
    """`edgeai collab compare`: play the same recorded streams through many strategies."""

    verb: Literal["collab compare"] = "collab compare"
    run: CollabRunConfig = CollabRunConfig()
    """What all share; its strategy and seed are replaced."""
    strategies: tuple[StrategyName, ...] = Field(
        ("edge-only", "bn-adapt", "random", "ams", "shoggoth", "laecips", "cloud-only"), min_length=1
    )
    """Rows of the table, in this order."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Of stream, link and learning; each makes another street."""
    against: tuple[StrategyName, ...] = ("laecips", "cloud-only")
    """All others are held against these, seed by seed; those that are not played are passed over."""
    equal_rate: StrategyName | None = "laecips"
    """random draws exactly as many frames as this one uploaded of the same stream; null, or if it is not played: the
    share upload_rate."""

    @model_validator(mode="after")
    def _each_once(self) -> CollabCompareConfig:
        for name, values in (("strategies", self.strategies), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} holds something twice")
        if self.equal_rate == "random":
            raise ValueError("random cannot take its upload rate from itself")
        return self
