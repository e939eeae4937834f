"""All training methods, by the `kind` of their config."""

from collections.abc import Mapping

from edgeai.fedsplit.methods.federated.fedasync import FedAsync
from edgeai.fedsplit.methods.federated.fedavg import FedAvg
from edgeai.fedsplit.methods.federated.fedopt import FedAdam, FedAvgM
from edgeai.fedsplit.methods.federated.fedprox import FedProx
from edgeai.fedsplit.methods.federated.fedsgd import FedSGD
from edgeai.fedsplit.methods.federated.scaffold import Scaffold
from edgeai.fedsplit.methods.hybrid.adasplit import AdaSplit
from edgeai.fedsplit.methods.hybrid.cpsl import CPSL
from edgeai.fedsplit.methods.hybrid.fedgkt import FedGKT
from edgeai.fedsplit.methods.hybrid.fsl_sage import FSLSage
from edgeai.fedsplit.methods.hybrid.hierarchical import Hierarchical
from edgeai.fedsplit.methods.hybrid.hsfl import HSFL
from edgeai.fedsplit.methods.hybrid.local_loss import CSEFSL, LocalLoss
from edgeai.fedsplit.methods.hybrid.locfedmix import LocFedMix
from edgeai.fedsplit.methods.hybrid.mergesfl import MergeSFL
from edgeai.fedsplit.methods.hybrid.sfl_ga import SFLGA
from edgeai.fedsplit.methods.hybrid.splitfed import SFLG, SplitFedV1, SplitFedV2, SplitFedV3
from edgeai.fedsplit.methods.method import Method
from edgeai.fedsplit.methods.setup import Setup
from edgeai.fedsplit.methods.split.async_sl import AsyncSL
from edgeai.fedsplit.methods.split.cyclesl import CycleSL
from edgeai.fedsplit.methods.split.epsl import EPSL
from edgeai.fedsplit.methods.split.multihop import MultiHop
from edgeai.fedsplit.methods.split.psl import PSL
from edgeai.fedsplit.methods.split.relay import Relay
from edgeai.fedsplit.methods.split.sglr import SGLR
from edgeai.fedsplit.methods.split.ushape import UShape
from edgeai.fedsplit.methods.vertical.fedsl import FedSL
from edgeai.fedsplit.methods.vertical.vertical import Vertical

METHODS: Mapping[str, type[Method]] = {
    "fedavg": FedAvg,
    "hsfl": HSFL,
    "cse-fsl": CSEFSL,
    "cyclesl": CycleSL,
    "adasplit": AdaSplit,
    "fedgkt": FedGKT,
    "fsl-sage": FSLSage,
    "local-loss": LocalLoss,
    "locfedmix-sl": LocFedMix,
    "relay": Relay,
    "ushape": UShape,
    "multihop": MultiHop,
    "splitfed-v1": SplitFedV1,
    "splitfed-v2": SplitFedV2,
    "splitfed-v3": SplitFedV3,
    "sflg": SFLG,
    "psl": PSL,
    "sglr": SGLR,
    "sfl-ga": SFLGA,
    "epsl": EPSL,
    "fedprox": FedProx,
    "fedsgd": FedSGD,
    "cpsl": CPSL,
    "scaffold": Scaffold,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "vertical": Vertical,
    "hierarchical": Hierarchical,
    "fedasync": FedAsync,
    "mergesfl": MergeSFL,
    "async-sl": AsyncSL,
    "fedsl": FedSL,
}


def build_method(setup: Setup) -> Method:
    """Build the method that `setup.cfg.method` describes."""
    return METHODS[setup.cfg.method.kind](setup)
