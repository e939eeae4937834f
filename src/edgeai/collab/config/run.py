"""Configs of `edgeai collab run` and `compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeai.collab.config.models import CloudConfig, EdgeConfig
from edgeai.collab.config.policy import ExploreConfig, MinerConfig, QuantileThreshold, ThresholdConfig, UpdateConfig
from edgeai.collab.config.streams import StreamConfig
from edgeai.core.config import Config
from edgeai.core.link import LinkChoice


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
