"""Which frames are uploaded, and what becomes of the answers, in configs of `edgeai collab`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

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
    """Labeled frames that one fit looks at, at most."""
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
    """The threshold that would have cost least on the frames labeled last."""

    kind: Literal["cost"] = "cost"
    upload_cost: float = Field(0.1, ge=0.0, le=1.0)
    """Price of an upload, in units of the edge's loss."""
    window: int = Field(200, ge=1)
    """Labeled frames that are looked at."""
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
    """What the cloud keeps of the labeled frames."""

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
    """Newly labeled frames that start an update."""
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
