"""Configs of the federated methods: every client trains the whole model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config


class FedAvgConfig(Config):
    """Federated averaging: every client trains the whole model (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"


class FedProxConfig(Config):
    """FedAvg with a proximal term (Li et al. 2020)."""

    kind: Literal["fedprox"] = "fedprox"
    mu: float = Field(default=0.01, ge=0)
    """Weight of mu/2 ||w - w_global||^2 in the local loss."""


class FedSGDConfig(Config):
    """One gradient per client over all its samples, one server step per round (McMahan et al. 2017)."""

    kind: Literal["fedsgd"] = "fedsgd"


class ScaffoldConfig(Config):
    """FedAvg with control variates against client drift (Karimireddy et al. 2020)."""

    kind: Literal["scaffold"] = "scaffold"
    server_lr: float = Field(default=1.0, gt=0)
    """Server's learning rate."""


class FedAvgMConfig(Config):
    """FedAvg with momentum at the server (Hsu et al. 2019)."""

    kind: Literal["fedavgm"] = "fedavgm"
    server_lr: float = Field(default=1.0, gt=0)
    """Server's learning rate."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Server's momentum."""


class FedAdamConfig(Config):
    """FedAvg with Adam at the server (Reddi et al. 2021)."""

    kind: Literal["fedadam"] = "fedadam"
    server_lr: float = Field(default=0.01, gt=0)
    """Server's learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the mean of the updates."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the mean square of the updates."""
    tau: float = Field(default=1e-3, gt=0)
    """Constant added to the denominator, which limits the step size."""


class FedAsyncConfig(Config):
    """Asynchronous averaging: updates are mixed in on arrival, weighted by staleness (Xie et al. 2019)."""

    kind: Literal["fedasync"] = "fedasync"
    mixing: float = Field(default=0.6, gt=0, le=1)
    """Weight of an update without staleness."""
    staleness_power: float = Field(default=0.5, ge=0)
    """Exponent a in the weight (1 + staleness)^-a."""
