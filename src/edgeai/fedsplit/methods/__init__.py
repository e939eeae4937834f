"""Every training method by the `kind` of its config."""

from collections.abc import Mapping

from edgeai.fedsplit.method import Method
from edgeai.fedsplit.methods.adasplit import AdaSplit
from edgeai.fedsplit.methods.async_sl import AsyncSL
from edgeai.fedsplit.methods.cpsl import CPSL
from edgeai.fedsplit.methods.cyclesl import CycleSL
from edgeai.fedsplit.methods.epsl import EPSL
from edgeai.fedsplit.methods.fedasync import FedAsync
from edgeai.fedsplit.methods.fedavg import FedAvg
from edgeai.fedsplit.methods.fedgkt import FedGKT
from edgeai.fedsplit.methods.fedopt import FedAdam, FedAvgM
from edgeai.fedsplit.methods.fedprox import FedProx
from edgeai.fedsplit.methods.fedsgd import FedSGD
from edgeai.fedsplit.methods.fedsl import FedSL
from edgeai.fedsplit.methods.fsl_sage import FSLSage
from edgeai.fedsplit.methods.hierarchical import Hierarchical
from edgeai.fedsplit.methods.hsfl import HSFL
from edgeai.fedsplit.methods.local_loss import CSEFSL, LocalLoss
from edgeai.fedsplit.methods.locfedmix import LocFedMix
from edgeai.fedsplit.methods.mergesfl import MergeSFL
from edgeai.fedsplit.methods.multihop import MultiHop
from edgeai.fedsplit.methods.psl import PSL
from edgeai.fedsplit.methods.relay import Relay
from edgeai.fedsplit.methods.scaffold import Scaffold
from edgeai.fedsplit.methods.sfl_ga import SFLGA
from edgeai.fedsplit.methods.sglr import SGLR
from edgeai.fedsplit.methods.splitfed import SFLG, SplitFedV1, SplitFedV2, SplitFedV3
from edgeai.fedsplit.methods.ushape import UShape
from edgeai.fedsplit.methods.vertical import Vertical

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
