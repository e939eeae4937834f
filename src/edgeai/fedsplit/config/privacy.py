"""Configs of privacy protection and leakage measurements. Everything is off by default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class NopeekConfig(Config):
    """NoPeek: add lam * dCor(x, z) to the client's loss. It lowers a correlation and gives no formal guarantee."""

    lam: float = Field(default=0.1, gt=0.0)
    """Weight of the distance correlation between inputs and smashed data."""
    distances: Literal["euclidean", "squared"] = "euclidean"
    """squared is the variant in widely used public code, for comparison with its published tables only."""


class NoiseConfig(Config):
    """Noise on the smashed data before it is sent."""

    kind: Literal["laplace", "gaussian"] = "laplace"
    scale: float = Field(default=0.1, gt=0.0)
    """The scale b of Laplace noise (standard deviation 1.41 b), or the standard deviation of Gaussian noise."""
    bound: Literal["tanh", "none"] = "tanh"
    """tanh bounds every value to -1..1 before the noise. Without a bound the noise gives no guarantee."""
    when: Literal["always", "training", "inference"] = "always"
    """Phase in which noise is added; the bound always applies."""


class DpSgdConfig(Config):
    """DP-SGD on the client part: gradients clipped per sample, Gaussian noise on their sum."""

    clip: float = Field(default=1.0, gt=0.0)
    """Largest L2 norm of one sample's gradient of the loss with respect to the client part."""
    noise_multiplier: float = Field(default=1.0, ge=0.0)
    """Standard deviation of the noise, in units of clip. 0 only clips, which gives no guarantee."""
    delta: float = Field(default=1e-5, gt=0.0, lt=1.0)
    """Probability with which epsilon may fail; well below one over the number of samples."""


class LabelConfig(Config):
    """Randomized response: every label is kept or replaced by a random other one, once for the whole run."""

    kind: Literal["randomised-response"] = "randomised-response"
    epsilon: float = Field(default=2.0, gt=0.0)
    """A label is kept with probability e^epsilon / (e^epsilon + classes - 1)."""


class PrivacyConfig(Config):
    """Privacy protection of each client."""

    nopeek: NopeekConfig | None = None
    noise: NoiseConfig | None = None
    dp_sgd: DpSgdConfig | None = None
    labels: LabelConfig | None = None

    @property
    def is_off(self) -> bool:
        """Whether no protection is on."""
        return self == PrivacyConfig()

    @model_validator(mode="after")
    def _no_sum_over_pairs_under_clipping(self) -> PrivacyConfig:
        if self.nopeek is not None and self.dp_sgd is not None:
            raise ValueError(
                "nopeek and dp_sgd cannot be combined: the distance correlation couples the samples of a batch, "
                "so there is no per-sample gradient to clip"
            )
        return self


class DecoderConfig(Config):
    """Inversion attack: a decoder fitted to public samples and their smashed data."""

    kind: Literal["ridge", "mlp", "conv"] = "ridge"
    """ridge: best affine map in closed form, in milliseconds. mlp and conv are trained (conv: images only)."""
    width: int = Field(default=256, ge=1)
    """Hidden width of mlp; conv uses an eighth of it as channels."""
    num_steps: int = Field(default=300, ge=1)
    """Training steps of mlp and conv."""
    batch: int = Field(default=64, ge=1)
    """Samples per training step."""
    lr: float = Field(default=1e-3, gt=0.0)
    """Adam's learning rate."""
    judge: bool = False
    """Also train a classifier on public data and report its accuracy on the reconstructions."""


class UnsplitConfig(Config):
    """UnSplit attack: optimize inputs and a copy of the client part until their smashed data match."""

    knows_weights: bool = False
    """The attacker has the client part's weights, as a federated server does; only inputs are optimized."""
    num_samples: int = Field(default=16, ge=1)
    """Private samples to reconstruct."""
    num_rounds: int = Field(default=30, ge=1)
    """Rounds of alternating steps on inputs and weights."""
    num_input_steps: int = Field(default=20, ge=1)
    """Steps on the inputs in each round."""
    num_weight_steps: int = Field(default=20, ge=0)
    """Steps on the copy's weights in each round."""
    lr: float = Field(default=1e-2, gt=0.0)
    """Learning rate."""
    smoothness: float = Field(default=0.01, ge=0.0)
    """Weight of the total variation of images."""


class FshaConfig(Config):
    """Feature-space hijacking attack: a malicious server trains the client part towards an encoder it can decode."""

    num_steps: int = Field(default=300, ge=1)
    """Training steps."""
    batch: int = Field(default=64, ge=1)
    """Samples per training step."""
    lr: float = Field(default=1e-3, gt=0.0)
    """Learning rate."""
    width: int = Field(default=128, ge=1)
    """Hidden width of the server's encoder, decoder and discriminator."""


class LabelLeakageConfig(Config):
    """Label inference from the gradients at the cut, by norm and by direction."""

    num_clues: int = Field(default=1, ge=1)
    """Samples per class whose label the attacker knows; their directions are the reference."""


class LeakageConfig(Config):
    """Leakage measurements on a trained client part. By default nothing is measured."""

    dcor: bool = False
    """Measure the distance correlation between inputs and sent data, with its value for unrelated pairs."""
    dcor_batch: int = Field(default=128, ge=2)
    """Samples per distance matrix; the estimate depends on it and is averaged over such batches."""
    decoder: DecoderConfig | None = None
    unsplit: UnsplitConfig | None = None
    fsha: FshaConfig | None = None
    labels: LabelLeakageConfig | None = None
    num_private: int = Field(default=512, ge=2)
    """Maximum number of private samples to attack."""
    num_public: int = Field(default=1000, ge=10)
    """Maximum number of public samples of the attacker."""
    phase: Literal["training", "inference"] = "training"
    """Traffic that the attacker sees; relevant if noise is added in one phase only."""
    seed: int = 0
    """Seed of the attacks."""

    @property
    def is_off(self) -> bool:
        """Whether nothing is measured."""
        return not (self.dcor or self.decoder or self.unsplit or self.fsha or self.labels)
