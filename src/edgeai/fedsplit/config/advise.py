"""Config of `edgeai fedsplit advise`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgeai.core.config import Config
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.hybrid import (
    CSEFSLConfig,
    FSLSageConfig,
    HSFLConfig,
    LocalLossConfig,
    SFLGConfig,
    SplitFedV1Config,
    SplitFedV2Config,
    SplitFedV3Config,
)
from edgeai.fedsplit.config.models import LeNet5Config, ModelConfig
from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.config.split import PSLConfig, RelayConfig, SGLRConfig, UShapeConfig
from edgeai.fedsplit.config.world import WorldConfig


class TransformerShapeConfig(Config):
    """Llama model given by its shape, without weights; the default is Llama 2 with 7B parameters."""

    kind: Literal["transformer-shape"] = "transformer-shape"
    layers: int = Field(default=32, ge=1)
    """Number of decoder layers."""
    width: int = Field(default=4096, ge=2)
    """Hidden size."""
    heads: int = Field(default=32, ge=1)
    """Query heads."""
    kv_heads: int = Field(default=32, ge=1)
    """Key/value heads; fewer than heads with grouped-query attention."""
    ffn: int = Field(default=11008, ge=1)
    """Width of the MLP."""
    vocab: int = Field(default=32000, ge=2)
    """Vocabulary size."""
    seq: int = Field(default=2048, ge=1)
    """Tokens per sample."""

    @model_validator(mode="after")
    def _check(self) -> TransformerShapeConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of twice the {self.heads} heads")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self


AdviseModel = Annotated[ModelConfig | TransformerShapeConfig, Field(discriminator="kind")]

AdviseMethod = Annotated[
    FedAvgConfig
    | RelayConfig
    | UShapeConfig
    | SplitFedV1Config
    | SplitFedV2Config
    | SplitFedV3Config
    | SFLGConfig
    | PSLConfig
    | LocalLossConfig
    | CSEFSLConfig
    | FSLSageConfig
    | SGLRConfig
    | HSFLConfig,
    Field(discriminator="kind"),
]
"""Methods with closed-form costs."""

DEFAULT_METHODS: tuple[AdviseMethod, ...] = (
    FedAvgConfig(),
    RelayConfig(),
    UShapeConfig(),
    SplitFedV1Config(),
    SplitFedV2Config(),
    SplitFedV3Config(),
    PSLConfig(),
    LocalLossConfig(),
    CSEFSLConfig(),
    FSLSageConfig(),
    SGLRConfig(),
    HSFLConfig(),
)


class AdviseConfig(Config):
    """Comparison of all cuts of a model and many methods for given devices and links, without training."""

    verb: Literal["fedsplit advise"] = "fedsplit advise"
    seed: int = Field(default=0, ge=0)
    """Seed of the spread of device speeds."""
    model: AdviseModel = LeNet5Config()
    """Model whose cuts are compared."""
    sample_shape: tuple[Annotated[int, Field(ge=1)], ...] = (1, 28, 28)
    """Shape of one input sample; not used by transformer-shape."""
    tokens: bool = False
    """Inputs are tokens. Models with a vocabulary set this themselves."""
    num_classes: int = Field(default=10, ge=2)
    """Number of outputs; not used by transformer-shape."""
    num_clients: int = Field(default=5, ge=1, le=100_000)
    """Number of clients."""
    samples_per_client: int = Field(default=600, ge=1)
    """Training samples of each client."""
    local_epochs: int = Field(default=1, ge=1)
    """Passes over the samples per round."""
    batch: int = Field(default=64, ge=1)
    """Samples per batch of a client."""
    optim: OptimConfig = OptimConfig()
    """Optimizer, for the memory of its state."""
    methods: tuple[AdviseMethod, ...] = Field(default=DEFAULT_METHODS, min_length=1)
    """Methods by name, or as configs with options."""
    count_samples: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Sample counts for a check of the crossover formulas: simulate a round of one client with so many random samples,
    with fedavg and with relay at up to five cuts, and compare the counted bytes. Empty simulates nothing."""
    codec: CodecConfig = CodecConfig()
    world: WorldConfig = WorldConfig()

    @field_validator("methods", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [{"kind": item} if isinstance(item, str) else item for item in value]
        return value
