"""Any training method: the union of the method configs, distinguished by `kind`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgeai.fedsplit.config.federated import (
    FedAdamConfig,
    FedAsyncConfig,
    FedAvgConfig,
    FedAvgMConfig,
    FedProxConfig,
    FedSGDConfig,
    ScaffoldConfig,
)
from edgeai.fedsplit.config.hybrid import (
    AdaSplitConfig,
    CPSLConfig,
    CSEFSLConfig,
    FedGKTConfig,
    FSLSageConfig,
    HierarchicalConfig,
    HSFLConfig,
    LocalLossConfig,
    LocFedMixConfig,
    MergeSFLConfig,
    SFLGAConfig,
    SFLGConfig,
    SplitFedV1Config,
    SplitFedV2Config,
    SplitFedV3Config,
)
from edgeai.fedsplit.config.split import (
    AsyncSLConfig,
    CycleSLConfig,
    EPSLConfig,
    MultiHopConfig,
    PSLConfig,
    RelayConfig,
    SGLRConfig,
    UShapeConfig,
)
from edgeai.fedsplit.config.vertical import FedSLConfig, VerticalConfig

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
