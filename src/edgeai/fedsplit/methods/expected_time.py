"""How long a client is expected to need for a sample: what a server can know of its devices and links beforehand."""

from __future__ import annotations

import math

from edgeai.fedsplit.methods.setup import Setup

_FLOAT_BYTES, _LABEL_BYTES, _BITS = 4, 8, 8


def seconds_per_sample(setup: Setup, client: int) -> float:
    """Of one training step of full-gradient split learning, without latency and the server: compute, up, down.

    Codecs, jitter, loss and outages are left out.
    """
    cost = setup.model.cost(0, setup.positions[client])
    link = setup.world.link_config(client)
    z_bytes = _FLOAT_BYTES * math.prod(cost.output_shape)
    compute_s = cost.train_flops / setup.world.device(client).flops_per_s
    return compute_s + _BITS * ((z_bytes + _LABEL_BYTES) / link.up_bps + z_bytes / link.down_bps)
