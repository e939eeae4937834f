"""Upload policy and training settings in configs of `edgeai collab`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

ScoreKind = Literal["max_prob", "margin", "entropy", "frac_above", "sedna_cross_entropy", "ibt"]


class MinerConfig(Config):
    """The trained hard-input miner: a small head that predicts whether the edge's answer suffices."""

    target: Literal["agreement", "above_tau", "appealnet"] = "agreement"
    """Training target: the agreement q with the cloud's labels; whether q reaches tau; or AppealNet's soft gate."""
    measure: Literal["pixels", "miou"] = "pixels"
    """Measure of q: the share of equal pixels, or the mIoU against the cloud's labels."""
    tau: float = Field(default=0.9, gt=0.0, le=1.0)
    """Agreement that counts as sufficient, for above_tau."""
    beta: float = Field(default=0.05, gt=0.0)
    """Weight of -log h, for appealnet: the edge loss up to which h stays at 1 (without it h collapses to 0)."""
    hidden: int = Field(default=32, ge=1)
    """Width of the hidden layer."""
    steps: int = Field(default=60, ge=0)
    """Adam steps of one fit; 0 disables fitting (an untrained miner equals max_prob)."""
    num_frames: int = Field(default=64, ge=1)
    """Maximum number of labeled frames per fit."""
    min_frames: int = Field(default=24, ge=1)
    """Minimum number of labeled frames for a fit; with fewer the miner would overfit to the first scene."""
    lr: float = Field(default=5e-3, gt=0.0)
    """AdamW's learning rate."""
    weight_decay: float = Field(default=1e-3, ge=0.0)
    """AdamW's weight decay."""

    @model_validator(mode="after")
    def _can_be_fitted(self) -> MinerConfig:
        if self.min_frames > self.num_frames:
            raise ValueError(f"min_frames {self.min_frames} is never reached with num_frames {self.num_frames}")
        return self


class ExploreConfig(Config):
    """Exploration: uploads of easy frames, because only uploaded frames are labeled."""

    explore_frac: float = Field(default=0.02, ge=0.0, le=1.0)
    """Probability of uploading a frame that the threshold policy did not select."""
    max_importance: float = Field(default=50.0, ge=1.0)
    """Maximum importance weight 1/p; values below 1/explore_frac add bias and reduce variance."""


class FixedThreshold(Config):
    """A constant threshold."""

    kind: Literal["fixed"] = "fixed"
    delta: float = Field(default=0.95, ge=0.0, le=1.0)
    """Frames with a lower score are uploaded."""


class QuantileThreshold(Config):
    """Holds an upload rate."""

    kind: Literal["quantile"] = "quantile"
    rate: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of frames to upload, exploration included."""
    window: int = Field(default=200, ge=2)
    """Number of latest scores from which the quantile is computed."""
    gain: float = Field(default=0.02, ge=0.0)
    """Change of the quantile's level for each upload below the configured rate."""


class DualThreshold(Config):
    """Holds a mean latency or a byte rate: the price of an upload rises while the budget is exceeded."""

    kind: Literal["dual"] = "dual"
    latency_s: float | None = Field(default=None, gt=0.0)
    """Budget of the mean latency."""
    bytes_per_s: float | None = Field(default=None, gt=0.0)
    """Budget of the mean uplink rate."""
    latency_step: float = Field(default=0.02, gt=0.0)
    """Increase of the price for one answer with twice the latency budget."""
    bytes_step: float = Field(default=0.02, gt=0.0)
    """Increase of the price for an excess of one second's byte budget."""

    @model_validator(mode="after")
    def _has_a_budget(self) -> DualThreshold:
        if self.latency_s is None and self.bytes_per_s is None:
            raise ValueError("a dual threshold needs a budget: set latency_s, bytes_per_s or both")
        return self


class CostThreshold(Config):
    """Takes the threshold with the least cost on the latest labeled frames."""

    kind: Literal["cost"] = "cost"
    upload_cost: float = Field(default=0.1, ge=0.0, le=1.0)
    """Cost of an upload, in units of the edge's loss."""
    window: int = Field(default=200, ge=1)
    """Number of latest labeled frames."""
    start: float = Field(default=0.95, ge=0.0, le=1.0)
    """Threshold before the first label."""


class H2t2Threshold(Config):
    """Learns two thresholds online; frames with a score between them are uploaded."""

    kind: Literal["h2t2"] = "h2t2"
    upload_cost: float = Field(default=0.1, ge=0.0, le=1.0)
    """Cost of an upload, in units of the edge's loss."""
    num_levels: int = Field(default=16, ge=1, le=64)
    """Number n of threshold levels 0, 1/n, ..., 1."""
    learning_rate: float = Field(default=0.05, gt=0.0)
    """Step of the exponential weights."""


ThresholdConfig = Annotated[
    FixedThreshold | QuantileThreshold | DualThreshold | CostThreshold | H2t2Threshold, Field(discriminator="kind")
]


class ReplayConfig(Config):
    """Replay buffer of labeled frames."""

    capacity: int = Field(default=256, ge=2)
    """Maximum number of frames."""
    newest: int = Field(default=16, ge=1)
    """Number of newest frames, which fill half of every batch; the others are a uniform sample of all older frames."""
    holdout_every: int = Field(default=5, ge=2)
    """Interval of held-out frames, which are not used in training and evaluate the updates."""

    @model_validator(mode="after")
    def _room_for_older(self) -> ReplayConfig:
        if self.newest >= self.capacity:
            raise ValueError(f"newest {self.newest} leaves no room for older frames in a capacity of {self.capacity}")
        return self


class UpdateConfig(Config):
    """Updates of the edge model and the miner."""

    every_frames: int = Field(default=16, ge=1)
    """Number of new labeled frames that starts an update."""
    every_s: float = Field(default=30.0, gt=0.0)
    """Time since the last update that starts one earlier, if there are new labels."""
    refresh_batchnorm: bool = True
    """Recompute BatchNorm statistics before training; with the gate, keep them only if agreement does not fall."""
    refresh_frames: int = Field(default=32, ge=1)
    """Number of newest frames for the new statistics."""
    refresh_prior: int = Field(default=32, ge=0)
    """Weight of the training statistics as a number of frames; 0 ignores them."""
    parameters: Literal["all", "batchnorm"] = "all"
    """Parameters to train."""
    steps: int = Field(default=20, ge=0)
    """Adam steps of one update; 0 disables training."""
    batch: int = Field(default=4, ge=1)
    """Frames per training step."""
    lr: float = Field(default=5e-4, gt=0.0)
    """Adam's learning rate."""
    gate: bool = True
    """Reject a trained model if its mIoU on held-out frames falls by more than max_drop."""
    max_drop: float = Field(default=0.01, ge=0.0)
    """Maximum accepted decrease of the held-out mIoU."""
    gate_frames: int = Field(default=24, ge=1)
    """Maximum number of held-out frames evaluated, evenly spread over their age."""
    push: Literal["full", "delta", "bn"] = "full"
    """Content of a push to the edge: all weights, those that changed most, or BatchNorm only."""
    push_frac: float = Field(default=0.05, gt=0.0, le=1.0)
    """Share of weights in a delta push; training then changes only these (coordinate descent of AMS)."""
    compute_s: float | None = Field(default=2.0, ge=0.0)
    """Duration of one update in virtual seconds; null measures it on this machine."""
    replay: ReplayConfig = ReplayConfig()
