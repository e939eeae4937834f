"""From where on split learning moves more bytes than federated learning.

Singh et al., "Detailed comparison of communication efficiency of split learning and federated learning", 2019. With K
clients, p samples in all, n = p / K of them on each, N parameters, a share beta of them on the client and q floats a
sample at the cut, a round of one epoch moves 2 N K floats with federated learning. Split learning moves 2 p q at the
cut and, for each client, beta N (handed from client to client) or 2 beta N (by way of the server, as in SplitFed).
Labels are left out there; `samples_by_ledger` counts them, and what a codec saves.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeai.fedsplit.advise_load import FLOAT_BYTES, Parts, Schooling, label_bytes
from edgeai.fedsplit.codec.sizes import cut_bytes


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
        samples_by_ledger: n* two-way, with labels, buffers and codec.
    """

    cut: str
    client_params: int
    client_frac: float
    cut_values: int
    samples_two_way: float
    samples_one_way: float
    clients_two_way: float
    clients_one_way: float
    samples_by_ledger: float


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
    return Crossover(
        cut=parts.cut,
        client_params=parts.client.num_params,
        client_frac=beta,
        cut_values=values,
        samples_two_way=num_params * (1 - beta) / values / how.local_epochs,
        samples_one_way=num_params * (1 - beta / 2) / values / how.local_epochs,
        clients_two_way=total * values / (num_params * (1 - beta)),
        clients_one_way=total * values / (num_params * (1 - beta / 2)),
        samples_by_ledger=2
        * (weight_bytes - parts.client.weight_bytes)
        / _bytes_a_sample(parts, how)
        / how.local_epochs,
    )


def split_bytes(parts: Parts, how: Schooling, num_samples: float) -> float:
    """Returns what a client moves in a round with its part going both ways, if it had so many samples."""
    return how.local_epochs * num_samples * _bytes_a_sample(parts, how) + 2 * parts.client.weight_bytes


def _bytes_a_sample(parts: Parts, how: Schooling) -> float:
    """Both ways, labels included, in a full batch."""
    up_bytes, down_bytes = cut_bytes(how.codec, (how.batch, *parts.client.output_shape))
    return (up_bytes + down_bytes) / how.batch + label_bytes(parts)


def formula_bytes(crossover: Crossover, num_params: int, num_samples: float, *, one_way: bool) -> float:
    """Returns the formula's bytes of a client and round of one epoch."""
    hand_off = (1 if one_way else 2) * crossover.client_params
    return FLOAT_BYTES * (2 * num_samples * crossover.cut_values + hand_off)
