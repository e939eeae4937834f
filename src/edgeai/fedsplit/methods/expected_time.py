"""Expected training time per sample of a client, from its device and link."""

from __future__ import annotations

import math

from edgeai.fedsplit.methods.setup import Setup

_FLOAT_BYTES, _LABEL_BYTES, _BITS = 4, 8, 8


def seconds_per_sample(setup: Setup, client: int) -> float:
    """Return the expected time of one split-learning step per sample: compute, uplink and downlink.

    Latency, server time, codecs, jitter, loss and outages are not included.
    """
    cost = setup.model.cost(0, setup.positions[client])
    link = setup.world.link_config(client)
    z_bytes = _FLOAT_BYTES * math.prod(cost.output_shape)
    compute_s = cost.train_flops / setup.world.device(client).flops_per_s
    return compute_s + _BITS * ((z_bytes + _LABEL_BYTES) / link.up_bps + z_bytes / link.down_bps)
