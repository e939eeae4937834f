"""Build the threshold policy that a config describes."""

from __future__ import annotations

from edgeai.collab.config.policy import (
    CostThreshold,
    DualThreshold,
    FixedThreshold,
    H2t2Threshold,
    QuantileThreshold,
    ThresholdConfig,
)
from edgeai.collab.policy.protocol import ThresholdPolicy
from edgeai.collab.policy.thresholds import CostPolicy, DualPolicy, FixedPolicy, H2t2Policy, QuantilePolicy


def build_policy(config: ThresholdConfig) -> ThresholdPolicy:
    """Return a new threshold policy."""
    match config:
        case FixedThreshold():
            return FixedPolicy(config.delta)
        case QuantileThreshold():
            return QuantilePolicy(config)
        case DualThreshold():
            return DualPolicy(config)
        case CostThreshold():
            return CostPolicy(config)
        case H2t2Threshold():
            return H2t2Policy(config)
