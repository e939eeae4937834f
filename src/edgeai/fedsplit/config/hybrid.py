"""Configs of the methods that combine split and federated learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeai.core.config import Config
from edgeai.fedsplit.config.split import LockStepConfig


class SplitFedV1Config(Config):
    """Parallel split learning, one replica of the server part per client, all averaged (Thapa et al. 2022)."""

    kind: Literal["splitfed-v1"] = "splitfed-v1"


class SplitFedV2Config(Config):
    """Parallel split learning with one server part, stepped batch by batch (Thapa et al. 2022)."""

    kind: Literal["splitfed-v2"] = "splitfed-v2"
    server_order: Literal["client", "interleave", "arrival"] = "interleave"
    """client: one client after the other; interleave: batch i of every client in turn; arrival: in virtual time."""
    sync: bool = True
    """Average the client parts after each round; false is MHSL (Joshi et al. 2021)."""


class SplitFedV3Config(Config):
    """Server replicas are averaged, client parts stay private (Gawali et al. 2021)."""

    kind: Literal["splitfed-v3"] = "splitfed-v3"


class SFLGConfig(Config):
    """Groups of clients share a server part, groups are averaged (Gao et al. 2021)."""

    kind: Literal["sflg"] = "sflg"
    groups: int = Field(default=2, ge=1)
    """Number of groups."""


class MergeSFLConfig(Config):
    """Merged batches, with batch sizes set by speed and clients selected for balanced labels (Liao et al. 2024)."""

    kind: Literal["mergesfl"] = "mergesfl"
    select_frac: float = Field(default=0.6, gt=0, le=1)
    """Share of clients selected per round."""
    max_batch_factor: float = Field(default=4.0, ge=1)
    """Largest ratio of a client's batch size to the configured one, and of the configured one to it."""


class LocalLossConfig(Config):
    """Clients train on the loss of a small local head; the server sends no gradient (Han et al. 2021)."""

    kind: Literal["local-loss"] = "local-loss"
    server: Literal["single", "replicas"] = "single"
    """single: one server part for all clients; replicas: one per client, averaged after each round."""
    server_order: Literal["arrival", "interleave"] = "arrival"
    """Order of server training: by arrival in virtual time, or batch i of every client in turn."""


class CSEFSLConfig(Config):
    """Local loss with smashed data of every h-th batch only (Mu & Shen 2023)."""

    kind: Literal["cse-fsl"] = "cse-fsl"
    h: int = Field(default=5, ge=1)
    """Interval of batches whose smashed data are sent."""
    server_order: Literal["arrival", "interleave"] = "arrival"
    """Order of server training: by arrival in virtual time, or batch i of every client in turn."""


class FSLSageConfig(Config):
    """Local heads fitted to estimate the server's gradient (Nair et al. 2025)."""

    kind: Literal["fsl-sage"] = "fsl-sage"
    h: int = Field(default=5, ge=1)
    """Interval of batches whose smashed data are sent."""
    server_order: Literal["arrival", "interleave"] = "arrival"
    """Order of server training: by arrival in virtual time, or batch i of every client in turn."""
    align_every: int = Field(default=10, ge=1)
    """Rounds between two fits of the heads (l); the first round ends with one."""
    remember: int = Field(default=1000, ge=1)
    """Number of newest samples of each client that its head is fitted on."""
    align_steps: int = Field(default=10, ge=1)
    """Adam steps per fit, each over all stored samples."""
    align_lr: float = Field(default=1e-3, gt=0)
    """Learning rate of a fit."""


class SFLGAConfig(LockStepConfig):
    """One averaged gradient is broadcast to all clients (Liang et al. 2025)."""

    kind: Literal["sfl-ga"] = "sfl-ga"


class CPSLConfig(LockStepConfig):
    """Clusters of clients: parallel within a cluster, one cluster after the other (Wu et al. 2023)."""

    kind: Literal["cpsl"] = "cpsl"
    clusters: int = Field(default=2, ge=1)
    """Number of clusters."""


class HierarchicalConfig(Config):
    """SplitFed with edge servers: averaged at each edge every round, in the cloud less often."""

    kind: Literal["hierarchical"] = "hierarchical"
    edges: int = Field(default=2, ge=1)
    """Number of edge servers."""
    cloud_every: int = Field(default=2, ge=1)
    """Rounds between two cloud averages."""


class HSFLConfig(Config):
    """Some clients train the whole model, others split it (Liu et al. 2022)."""

    kind: Literal["hsfl"] = "hsfl"
    split_frac: float = Field(default=0.5, ge=0, le=1)
    """Share of the clients that split the model: the slowest ones."""


class LocFedMixConfig(LockStepConfig):
    """Mixup of smashed data at the server, and a local reconstruction loss (Oh et al. 2022)."""

    kind: Literal["locfedmix-sl"] = "locfedmix-sl"
    alpha: float = Field(default=0.4, gt=0)
    """Parameter of the Beta distribution of mixing weights."""
    reconstruct: float = Field(default=0.1, ge=0)
    """Weight of the client's reconstruction loss, a mean squared error."""


class FedGKTConfig(Config):
    """Knowledge transfer in both directions by logits (He et al. 2020)."""

    kind: Literal["fedgkt"] = "fedgkt"
    server_epochs: int = Field(default=1, ge=1)
    """Server epochs over all features of a round."""
    temperature: float = Field(default=3.0, gt=0)
    """Temperature of the distillation loss, which divides the logits."""
    alpha: float = Field(default=1.0, ge=0)
    """Weight of the distillation loss on clients and server."""


class AdaSplitConfig(Config):
    """A local phase without traffic, then selected clients and sparse server masks (Chopra et al. 2023)."""

    kind: Literal["adasplit"] = "adasplit"
    local_rounds: int = Field(default=1, ge=0)
    """Rounds of the local phase, in which nothing is sent."""
    select_frac: float = Field(default=0.6, gt=0, le=1)
    """eta: share of clients selected in each iteration of the global phase."""
    temperature: float = Field(default=0.1, gt=0)
    """Temperature of the contrastive loss."""
    discount: float = Field(default=0.9, gt=0, lt=1)
    """gamma: discount per iteration of the losses in the selection score."""
    sparsity: float = Field(default=1e-4, ge=0)
    """Weight of the masks' L1 norm."""
