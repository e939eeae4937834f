"""Configs of `edgeai fedsplit sim` and `edgeai fedsplit compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config
from edgeai.fedsplit.config.backend import BackendConfig, InprocConfig
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.cuts import AdaptiveCut, Cut
from edgeai.fedsplit.config.data import DataConfig, DigitsConfig, IidConfig, PartitionConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.hybrid import SplitFedV2Config
from edgeai.fedsplit.config.methods import MethodConfig
from edgeai.fedsplit.config.models import CnnConfig, ModelConfig
from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.config.privacy import LeakageConfig, PrivacyConfig
from edgeai.fedsplit.config.world import WorldConfig


class SimConfig(Config):
    """One simulated training run."""

    verb: Literal["fedsplit sim"] = "fedsplit sim"
    seed: int = Field(default=0, ge=0)
    """Seed of partition, initial weights, batches, participation and link."""
    data: DataConfig = DigitsConfig()
    """Data set."""
    partition: PartitionConfig = IidConfig()
    """Distribution of the training samples among the clients."""
    num_clients: int = Field(default=5, ge=1)
    """Number of clients."""
    model: ModelConfig = CnnConfig()
    """Model, a chain of named layers."""
    cut: Cut | tuple[Cut, ...] | AdaptiveCut = 1
    """Layer that the cut follows, by name or number from 1; a list assigns cuts to the clients in turn."""
    method: MethodConfig = SplitFedV2Config()
    """Federated or split method."""
    rounds: int = Field(default=3, ge=1)
    """Number of rounds."""
    local_epochs: int = Field(default=1, ge=1)
    """Passes over each participant's data per round."""
    batch: int = Field(default=64, ge=1)
    """Samples per batch of a client."""
    optim: OptimConfig = OptimConfig()
    codec: CodecConfig = CodecConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    leakage: LeakageConfig = LeakageConfig()
    world: WorldConfig = WorldConfig()
    backend: BackendConfig = InprocConfig()
    """Execution in one process, on Ray, or on Flower."""
    eval_every: int = Field(default=1, ge=1)
    """Rounds between two evaluations."""
    target_accuracy: float | None = Field(default=None, gt=0, le=1)
    """Test accuracy whose cost is reported: rounds, bytes, seconds and joules to reach it."""

    @model_validator(mode="after")
    def _check(self) -> SimConfig:
        if self.method.kind == "vertical" and self.partition.kind != "vertical":
            raise ValueError("method vertical needs partition.kind vertical: every client holds a part of every sample")
        if self.partition.kind == "vertical" and self.method.kind != "vertical":
            raise ValueError(f"partition vertical fits only method vertical, not {self.method.kind}")
        return self


class CompareConfig(Config):
    """Comparison of runs: every method with every cut, partition and seed."""

    verb: Literal["fedsplit compare"] = "fedsplit compare"
    sim: SimConfig = SimConfig()
    """Common config of all runs; its method, cut, partition and seed are replaced by the lists below."""
    methods: tuple[MethodConfig, ...] = Field(default=(FedAvgConfig(), SplitFedV2Config()), min_length=1)
    """Methods to compare."""
    cuts: tuple[Cut, ...] = ()
    """Cuts to compare; empty uses the cut of `sim`. Methods without a cut run once."""
    partitions: tuple[PartitionConfig, ...] = ()
    """Partitions to compare; empty uses the partition of `sim`."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of every combination."""
    processes: int = Field(default=0, ge=0)
    """Number of parallel processes; 0 uses one per core."""

    @model_validator(mode="after")
    def _check(self) -> CompareConfig:
        for name in ("methods", "cuts", "partitions", "seeds"):
            items = [str(item) for item in getattr(self, name)]
            if twice := next((item for item in items if items.count(item) > 1), None):
                raise ValueError(f"{name}: {twice} is given twice")
        if self.sim.backend.kind != "inproc":
            raise ValueError("sim.backend: comparisons run in separate processes and support only inproc")
        return self
