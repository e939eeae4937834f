"""Configs of `edgeai collab run` and `compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeai.collab.config.models import CloudConfig, EdgeConfig
from edgeai.collab.config.playback import ComputeConfig, EvaluateConfig, UploadConfig
from edgeai.collab.config.policy import ExploreConfig, MinerConfig, QuantileThreshold, ThresholdConfig, UpdateConfig
from edgeai.collab.config.streams import StreamConfig
from edgeai.core.config import Config
from edgeai.core.link import LinkChoice

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
