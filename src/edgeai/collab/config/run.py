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
    """Upload and training strategy."""
    stream: StreamConfig = StreamConfig()
    edge: EdgeConfig = EdgeConfig()
    cloud: CloudConfig = CloudConfig()
    link: LinkChoice = "4g"
    """Preset name, or rates, delay, loss, outages and trace."""
    threshold: ThresholdConfig = QuantileThreshold()
    """Threshold policy of all strategies that score frames."""
    upload_rate: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of frames uploaded by random, and maximum share for ams, shoggoth and cema."""
    miner: MinerConfig = MinerConfig()
    explore: ExploreConfig = ExploreConfig()
    update: UpdateConfig = UpdateConfig()
    """Training settings, the same for all strategies."""
    upload: UploadConfig = UploadConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    edge_queue_frames: int = Field(default=2, ge=1)
    """Maximum number of frames waiting for the edge; the newest is processed first, the oldest is dropped."""
    shadow_cloud: bool = True
    """For the report, also compute the cloud's answer to frames that were not uploaded, outside virtual time."""
    probe_frames: int = Field(default=8, ge=0)
    """Number of frames of each drift segment on which forgetting is measured after the run; 0 disables it."""
    overlays: tuple[int, ...] = ()
    """Numbers of the frames whose images are saved for the report."""
    pace: Literal["virtual", "wall"] = "virtual"
    """virtual: as fast as possible; wall: no faster than the camera. The result is the same."""
    seed: int = 0
    """Seed of stream, link and learning."""


class CollabCompareConfig(Config):
    """`edgeai collab compare`: run many strategies on the same recorded streams."""

    verb: Literal["collab compare"] = "collab compare"
    run: CollabRunConfig = CollabRunConfig()
    """Config of all runs; strategy and seed are replaced."""
    strategies: tuple[StrategyName, ...] = Field(
        default=("edge-only", "bn-adapt", "random", "ams", "shoggoth", "laecips", "cloud-only"), min_length=1
    )
    """Strategies to compare, in the order of the table."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of stream, link and learning; each generates another street."""
    against: tuple[StrategyName, ...] = ("laecips", "cloud-only")
    """Reference strategies for paired differences per seed; strategies that are not run are ignored."""
    equal_rate: StrategyName | None = "laecips"
    """random uploads exactly as many frames as this strategy on the same stream; if null or not run, the share
    upload_rate."""

    @model_validator(mode="after")
    def _each_once(self) -> CollabCompareConfig:
        for name, values in (("strategies", self.strategies), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} contains duplicates")
        if self.equal_rate == "random":
            raise ValueError("random cannot take its upload rate from itself")
        return self
