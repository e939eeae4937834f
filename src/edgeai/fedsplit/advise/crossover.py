"""From where on split learning moves more bytes than federated learning.

Singh et al., "Detailed comparison of communication efficiency of split learning and federated learning", 2019. With K
clients, p samples in all, n = p / K of them on each, N parameters, a share beta of them on the client and q floats a
sample at the cut, a round of one epoch moves 2 N K floats with federated learning. Split learning moves 2 p q at the
cut and, for each client, beta N (handed from client to client) or 2 beta N (by way of the server, as in SplitFed).
Labels are left out there; `samples_by_ledger` counts them, and what a codec saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeai.fedsplit.advise.load import FLOAT_BYTES, Parts, Schooling, label_bytes
from edgeai.fedsplit.protocol.codec.sizes import cut_bytes


@dataclass(frozen=True)
class Crossover:
    """Of one cut. Above so many samples a client and round, or below so many clients, splitting moves more bytes.

    Args:
        cut: The layer that it follows.
        client_params: beta N.
        client_frac: beta.
        cut_values: q.
        samples_two_way: n* = N (1 - beta) / q.
        samples_one_way: n* = N (1 - beta / 2) / q.
        clients_two_way: K* = p q / (N (1 - beta)), for the samples there are.
        clients_one_way: K* = p q / (N (1 - beta / 2)).
        client_bytes: Of the client's part, buffers included.
        sample_bytes: That one sample more on a client costs a round: at the cut, both ways, with labels and codec.
        samples_by_ledger: n* two-way from these two.
    """

    cut: str
    client_params: int
    client_frac: float
    cut_values: int
    samples_two_way: float
    samples_one_way: float
    clients_two_way: float
    clients_one_way: float
    client_bytes: int
    sample_bytes: float
    samples_by_ledger: float

    def ledger_bytes(self, num_samples: float) -> float:
        """What a client with so many samples moves in a round, its part both ways."""
        return 2 * self.client_bytes + num_samples * self.sample_bytes

    def formula_bytes(self, num_samples: float, *, one_way: bool) -> float:
        """The formula's bytes of a client with so many samples in a round of one epoch."""
        hand_off = (1 if one_way else 2) * self.client_params
        return FLOAT_BYTES * (2 * num_samples * self.cut_values + hand_off)


@dataclass(frozen=True)
class Counted:
    """What the ledger counted in a round of one client.

    Args:
        cut: The layer that the cut follows; "" for FedAvg.
        num_samples: Of the client.
        num_bytes: Both ways.
    """

    cut: str
    num_samples: int
    num_bytes: int


def spread(crossovers: Sequence[Crossover], number: int = 5) -> list[Crossover]:
    """Returns a few of them, evenly from the first to the last."""
    if len(crossovers) <= number:
        return list(crossovers)
    return [crossovers[round(step * (len(crossovers) - 1) / (number - 1))] for step in range(number)]


def find_crossover(parts: Parts, num_params: int, weight_bytes: int, how: Schooling, num_clients: int) -> Crossover:
    """Returns the crossover of one cut.

    Args:
        parts: The cut model.
        num_params: N.
        weight_bytes: Of the whole model, buffers included.
        how: Samples, epochs, batch and codec; the formulas' n counts a sample once an epoch.
        num_clients: K.
    """
    beta = parts.client.num_params / num_params
    values = parts.cut_values
    total = num_clients * how.num_seen
    up_bytes, down_bytes = cut_bytes(how.codec, (how.batch, *parts.client.output_shape))
    sample_bytes = how.local_epochs * ((up_bytes + down_bytes) / how.batch + label_bytes(parts))
    return Crossover(
        cut=parts.cut,
        client_params=parts.client.num_params,
        client_frac=beta,
        cut_values=values,
        samples_two_way=num_params * (1 - beta) / values / how.local_epochs,
        samples_one_way=num_params * (1 - beta / 2) / values / how.local_epochs,
        clients_two_way=total * values / (num_params * (1 - beta)),
        clients_one_way=total * values / (num_params * (1 - beta / 2)),
        client_bytes=parts.client.weight_bytes,
        sample_bytes=sample_bytes,
        samples_by_ledger=2 * (weight_bytes - parts.client.weight_bytes) / sample_bytes,
    )
