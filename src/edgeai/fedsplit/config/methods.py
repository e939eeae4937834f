"""Configs of the training methods: one class each, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeai.core.config import Config

Cut = str | int


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


class TurnsConfig(Config):
    """How clients take turns."""

    turn: Literal["client", "batch"] = "client"
    """A turn is all of a client's batches, or one batch (alternate mini-batch)."""
    hand_off: Literal["server", "peer"] = "server"
    """The client part travels through the server, charged twice, or straight to the next client, charged once."""


class RelayConfig(TurnsConfig):
    """Vanilla split learning: clients take turns, and hand the client part on (Gupta & Raskar 2018)."""

    kind: Literal["relay"] = "relay"


class UShapeConfig(TurnsConfig):
    """Split learning in three parts: labels and loss stay on the client (Vepakomma et al. 2018)."""

    kind: Literal["ushape"] = "ushape"
    tail: Cut = -1
    """The last layer of the server's part, by name or number; behind it the client takes over again. Negative numbers
    count from the end: -1 leaves the last layer to the client."""


class MultiHopConfig(TurnsConfig):
    """Split learning over a chain of relays (Vepakomma et al. 2018)."""

    kind: Literal["multihop"] = "multihop"
    hops: tuple[Cut, ...] = Field((-1,), min_length=1)
    """Further cuts behind the client's, in order, by name or number; -1 leaves the last layer to the last server."""


class VerticalConfig(Config):
    """Clients hold different features of the same samples; the server joins what they send (Ceballos et al. 2020)."""

    kind: Literal["vertical"] = "vertical"
    merge: Literal["concat", "sum", "mean", "max"] = "concat"


class SplitFedV1Config(Config):
    """Parallel split learning, one replica of the server part per client, all averaged (Thapa et al. 2022)."""

    kind: Literal["splitfed-v1"] = "splitfed-v1"


class SplitFedV2Config(Config):
    """Parallel split learning with one server part, stepped batch by batch (Thapa et al. 2022)."""

    kind: Literal["splitfed-v2"] = "splitfed-v2"
    server_order: Literal["client", "interleave", "arrival"] = "interleave"
    """One client after the other, batch i of every client in turn, or as batches arrive in virtual time."""
    sync: bool = True
    """Average the client parts after a round; false is MHSL (Joshi et al. 2021)."""


class SplitFedV3Config(Config):
    """Server replicas are averaged, client parts stay private (Gawali et al. 2021)."""

    kind: Literal["splitfed-v3"] = "splitfed-v3"


class SFLGConfig(Config):
    """Groups of clients share a server part, groups are averaged (Gao et al. 2021)."""

    kind: Literal["sflg"] = "sflg"
    groups: int = Field(2, ge=1)


class LockStepConfig(Config):
    """How clients with different numbers of batches go in step."""

    uneven: Literal["stop", "shrink"] = "stop"
    """When a client runs out of batches: all stop, or the others go on without it."""


class PSLConfig(LockStepConfig):
    """Lock-step parallel split learning on the merged batch (Jeon & Kim 2020)."""

    kind: Literal["psl"] = "psl"
    sync: bool = True
    """Average the client parts after a round."""
    rescale: bool = True
    """Give each client the gradient of its own mean loss, not of the merged one."""


class MergeSFLConfig(Config):
    """Merged batches, with batch sizes by speed and clients chosen by label balance (Liao et al. 2024)."""

    kind: Literal["mergesfl"] = "mergesfl"
    select_frac: float = Field(0.6, gt=0, le=1)
    max_batch_factor: float = Field(4.0, ge=1)
    """No batch is larger than so many times the configured one, or smaller than that part of it."""


class LocalLossConfig(Config):
    """Clients train on a loss of their own behind a small head; no gradient comes back (Han et al. 2021)."""

    kind: Literal["local-loss"] = "local-loss"
    server: Literal["single", "replicas"] = "single"
    server_order: Literal["arrival", "interleave"] = "arrival"
    """The server learns as smashed data arrive in virtual time, or from batch i of every client in turn."""


class CSEFSLConfig(Config):
    """Local loss, smashed data of every h-th batch only (Mu & Shen 2023)."""

    kind: Literal["cse-fsl"] = "cse-fsl"
    h: int = Field(5, ge=1)
    server_order: Literal["arrival", "interleave"] = "arrival"
    """The server learns as smashed data arrive in virtual time, or from batch i of every client in turn."""


class FSLSageConfig(Config):
    """Client heads that learn to give the server's gradient (Nair et al. 2025)."""

    kind: Literal["fsl-sage"] = "fsl-sage"
    h: int = Field(5, ge=1)
    """Smashed data of every h-th batch goes up."""
    server_order: Literal["arrival", "interleave"] = "arrival"
    """The server learns as smashed data arrive in virtual time, or from batch i of every client in turn."""
    align_every: int = Field(10, ge=1)
    """Rounds from one fit of the heads to the next (l); the first round ends with one."""
    remember: int = Field(1000, ge=1)
    """Samples of each client, the newest, that its head is fitted on."""
    align_steps: int = Field(10, ge=1)
    """Steps of Adam in a fit, each over all that is remembered."""
    align_lr: float = Field(1e-3, gt=0)


class SGLRConfig(LockStepConfig):
    """Split learning rate and averaged gradients without client sync (Pal et al. 2021)."""

    kind: Literal["sglr"] = "sglr"
    lr_power: float = Field(0.5, ge=0, le=1)
    """alpha: the server's learning rate is the client's times K^alpha."""
    average_frac: float = Field(0.5, ge=0, le=1)
    """phi: share of clients that get one averaged gradient vector."""


class EPSLConfig(LockStepConfig):
    """Last-layer gradients of a share of each batch are averaged over clients (Lin et al. 2023)."""

    kind: Literal["epsl"] = "epsl"
    aggregate_frac: float = Field(0.5, ge=0, le=1)
    """phi: 0 is PSL, 1 aggregates all."""


class SFLGAConfig(LockStepConfig):
    """One averaged gradient is broadcast to all clients (Liang et al. 2025)."""

    kind: Literal["sfl-ga"] = "sfl-ga"


class CycleSLConfig(Config):
    """The server learns from all smashed data first, then gives frozen gradients back (CycleSL 2025)."""

    kind: Literal["cyclesl"] = "cyclesl"
    server_epochs: int = Field(1, ge=1)
    """Passes of the server over all smashed data of a round."""
    server_batch: int | None = Field(None, ge=1)
    """Samples in a step of the server; null is the run's batch."""
    sync: bool = True
    """Average the client parts after a round."""


class CPSLConfig(LockStepConfig):
    """Clusters of clients: parallel inside, one after the other across (Wu et al. 2023)."""

    kind: Literal["cpsl"] = "cpsl"
    clusters: int = Field(2, ge=1)


class HierarchicalConfig(Config):
    """SplitFed with edge aggregators: client parts are averaged there first, in the cloud less often."""

    kind: Literal["hierarchical"] = "hierarchical"
    edges: int = Field(2, ge=1)
    cloud_every: int = Field(2, ge=1)
    """Rounds between two averages in the cloud."""


class HSFLConfig(Config):
    """Some clients train the whole model, others split it (Liu et al. 2022)."""

    kind: Literal["hsfl"] = "hsfl"
    split_frac: float = Field(0.5, ge=0, le=1)
    """Share of the clients that split: the slowest ones."""


class LocFedMixConfig(LockStepConfig):
    """Mixup of smashed data at the server and a local reconstruction loss (Oh et al. 2022)."""

    kind: Literal["locfedmix-sl"] = "locfedmix-sl"
    alpha: float = Field(0.4, gt=0)
    """Of the Beta distribution that draws the mixing weight."""
    reconstruct: float = Field(0.1, ge=0)
    """Weight of the client's reconstruction loss, a mean squared error."""


class FedGKTConfig(Config):
    """Knowledge goes both ways as logits (He et al. 2020)."""

    kind: Literal["fedgkt"] = "fedgkt"
    server_epochs: int = Field(1, ge=1)
    """Passes of the server over all features of a round."""
    temperature: float = Field(3.0, gt=0)
    """Logits are divided by it before they are compared."""
    alpha: float = Field(1.0, ge=0)
    """Weight of the distillation loss, on both sides."""


class AdaSplitConfig(Config):
    """A local phase without exchange, then chosen clients and sparse masks (Chopra et al. 2023)."""

    kind: Literal["adasplit"] = "adasplit"
    local_rounds: int = Field(1, ge=0)
    """Rounds of the local phase, in which nothing crosses."""
    select_frac: float = Field(0.6, gt=0, le=1)
    """eta: share of clients in each iteration of the global phase."""
    temperature: float = Field(0.1, gt=0)
    """Of the contrastive loss."""
    discount: float = Field(0.9, gt=0, lt=1)
    """gamma: of the losses that the orchestrator remembers, for each iteration."""
    sparsity: float = Field(1e-4, ge=0)
    """Weight of the masks' L1 norm."""


class FedSLConfig(Config):
    """A recurrent net cut in time: each client of a chain holds a segment of the sequence (Abedi & Khan 2020)."""

    kind: Literal["fedsl"] = "fedsl"
    segments: int = Field(2, ge=2)
    """Clients of a chain; num_clients must be a multiple."""


class AsyncSLConfig(Config):
    """Clients are left alone while the loss stands still (Chen et al. 2021)."""

    kind: Literal["async-sl"] = "async-sl"
    threshold: float = Field(0.05, ge=0)
    """delta: clients are updated again when a round's loss differs by more than this from that of their last update."""
    max_reuse: int = Field(5, ge=0)
    """Rounds in a row in which the server may train on cached smashed data; then clients are updated all the same."""


MethodConfig = Annotated[
    FedAvgConfig
    | FedProxConfig
    | FedSGDConfig
    | ScaffoldConfig
    | FedAvgMConfig
    | FedAdamConfig
    | FedAsyncConfig
    | RelayConfig
    | UShapeConfig
    | MultiHopConfig
    | VerticalConfig
    | SplitFedV1Config
    | SplitFedV2Config
    | SplitFedV3Config
    | SFLGConfig
    | PSLConfig
    | MergeSFLConfig
    | LocalLossConfig
    | CSEFSLConfig
    | FSLSageConfig
    | SGLRConfig
    | EPSLConfig
    | SFLGAConfig
    | CycleSLConfig
    | CPSLConfig
    | HierarchicalConfig
    | HSFLConfig
    | LocFedMixConfig
    | FedGKTConfig
    | AdaSplitConfig
    | FedSLConfig
    | AsyncSLConfig,
    Field(discriminator="kind"),
]
