"""Configs of the federated methods: every client trains the whole model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config


class FedAvgConfig(Config):
    """Every client trains the whole model; the server averages (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"


class FedProxConfig(Config):
    """FedAvg with a proximal term (Li et al. 2020)."""

    kind: Literal["fedprox"] = "fedprox"
    mu: float = Field(0.01, ge=0)
    """Weight of mu/2 ||w - w_global||^2 in the local loss."""


class FedSGDConfig(Config):
    """Clients send one gradient over all their samples; the server steps (McMahan et al. 2017)."""

    kind: Literal["fedsgd"] = "fedsgd"


class ScaffoldConfig(Config):
    """FedAvg with control variates against client drift (Karimireddy et al. 2020)."""

    kind: Literal["scaffold"] = "scaffold"
    server_lr: float = Field(1.0, gt=0)


class FedAvgMConfig(Config):
    """FedAvg with momentum at the server (Hsu et al. 2019)."""

    kind: Literal["fedavgm"] = "fedavgm"
    server_lr: float = Field(1.0, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)


class FedAdamConfig(Config):
    """FedAvg with Adam at the server (Reddi et al. 2021)."""

    kind: Literal["fedadam"] = "fedadam"
    server_lr: float = Field(0.01, gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


class FedAsyncConfig(Config):
    """Updates are mixed in as they arrive, weighed by their staleness (Xie et al. 2019)."""

    kind: Literal["fedasync"] = "fedasync"
    mixing: float = Field(0.6, gt=0, le=1)
    staleness_power: float = Field(0.5, ge=0)
    """a in the weight (1 + staleness)^-a."""
