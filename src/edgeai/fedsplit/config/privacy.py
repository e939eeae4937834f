"""What a client does to protect its data, and which leakage is measured. Everything is off by default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config


class NopeekConfig(Config):
    """NoPeek: lam * dCor(x, z) is added to the client's own loss. It promises nothing; it lowers a correlation."""

    lam: float = Field(0.1, gt=0.0)
    """Weight of the distance correlation between inputs and smashed data."""
    distances: Literal["euclidean", "squared"] = "euclidean"
    """squared is what widespread public code computes instead; only for comparing with tables made by it."""


class NoiseConfig(Config):
    """Noise on the smashed data before it is sent."""

    kind: Literal["laplace", "gaussian"] = "laplace"
    scale: float = Field(0.1, gt=0.0)
    """The scale b of Laplace noise (standard deviation 1.41 b), or the standard deviation of Gaussian noise."""
    bound: Literal["tanh", "none"] = "tanh"
    """tanh keeps every value within -1..1 before the noise. Without a bound the noise guarantees nothing."""
    when: Literal["always", "training", "inference"] = "always"
    """When noise is added; the bound is always there."""


class DpSgdConfig(Config):
    """DP-SGD on the client part: gradients clipped per sample, Gaussian noise on their sum."""

    clip: float = Field(1.0, gt=0.0)
    """Largest L2 norm of one sample's gradient of the loss with respect to the client part."""
    noise_multiplier: float = Field(1.0, ge=0.0)
    """Standard deviation of the noise, in units of clip. 0 only clips, which guarantees nothing."""
    delta: float = Field(1e-5, gt=0.0, lt=1.0)
    """Probability with which epsilon may fail; well below one over the number of samples."""


class LabelConfig(Config):
    """Randomised response: every label is replaced once, for the whole run, by a random other one or not."""

    kind: Literal["randomised-response"] = "randomised-response"
    epsilon: float = Field(2.0, gt=0.0)
    """A label is kept with probability e^epsilon / (e^epsilon + classes - 1)."""


class PrivacyConfig(Config):
    """What each client does to protect its data."""

    nopeek: NopeekConfig | None = None
    noise: NoiseConfig | None = None
    dp_sgd: DpSgdConfig | None = None
    labels: LabelConfig | None = None

    @property
    def is_off(self) -> bool:
        """Nothing is protected, so that nothing need be built."""
        return self == PrivacyConfig()

    @model_validator(mode="after")
    def _no_sum_over_pairs_under_clipping(self) -> PrivacyConfig:
        if self.nopeek is not None and self.dp_sgd is not None:
            raise ValueError(
                "nopeek and dp_sgd cannot be on together: the distance correlation ties the samples of a batch, "
                "so there is no gradient of one sample to clip"
            )
        return self


class DecoderConfig(Config):
    """Inversion by a decoder that is fitted to public samples and what the client part makes of them."""

    kind: Literal["ridge", "mlp", "conv"] = "ridge"
    """ridge: the best affine map, in closed form and in milliseconds. mlp and conv are trained (conv: pictures)."""
    width: int = Field(256, ge=1)
    """Hidden width of mlp; conv takes an eighth of it as channels."""
    num_steps: int = Field(300, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(1e-3, gt=0.0)
    judge: bool = False
    """Also train a classifier on public data and report its accuracy on the reconstructions."""


class UnsplitConfig(Config):
    """UnSplit: inputs are searched whose smashed data match, together with a copy of the client part."""

    knows_weights: bool = False
    """The attacker has the client part's weights, as a fed server does; only the inputs are searched."""
    num_samples: int = Field(16, ge=1)
    num_rounds: int = Field(30, ge=1)
    num_input_steps: int = Field(20, ge=1)
    """Steps on the inputs in each round."""
    num_weight_steps: int = Field(20, ge=0)
    """Steps on the copy's weights in each round."""
    lr: float = Field(1e-2, gt=0.0)
    smoothness: float = Field(0.01, ge=0.0)
    """Weight of the total variation of pictures."""


class FshaConfig(Config):
    """Feature-space hijacking: a malicious server trains the client part towards an encoder it can decode."""

    num_steps: int = Field(300, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(1e-3, gt=0.0)
    width: int = Field(128, ge=1)
    """Hidden width of the server's encoder, decoder and discriminator."""


class LabelLeakageConfig(Config):
    """Reading labels off the gradients at the cut, by their norm and by their direction."""

    num_clues: int = Field(1, ge=1)
    """Samples of each class whose label the attacker knows; their direction is the reference."""


class LeakageConfig(Config):
    """Which leakage is measured on a trained client part. Everything off: nothing is measured."""

    dcor: bool = False
    """Distance correlation between inputs and what is sent, beside its value for unrelated pairs."""
    dcor_batch: int = Field(128, ge=2)
    """Samples per distance matrix; the estimate depends on it and is averaged over such batches."""
    decoder: DecoderConfig | None = None
    unsplit: UnsplitConfig | None = None
    fsha: FshaConfig | None = None
    labels: LabelLeakageConfig | None = None
    num_private: int = Field(512, ge=2)
    """Private samples that are attacked, at most."""
    num_public: int = Field(1000, ge=10)
    """Public samples that the attacker has, at most."""
    phase: Literal["training", "inference"] = "training"
    """Which traffic the attacker sees; it matters where noise is added in one of the two only."""
    seed: int = 0

    @property
    def is_off(self) -> bool:
        """Nothing is measured."""
        return not (self.dcor or self.decoder or self.unsplit or self.fsha or self.labels)
