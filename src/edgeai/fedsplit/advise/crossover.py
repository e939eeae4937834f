"""The number of samples above which split learning transfers more bytes than federated learning.

Singh et al., "Detailed comparison of communication efficiency of split learning and federated learning", 2019. With K
clients, p samples in total, n = p / K per client, N parameters, a share beta of them on the client and q floats per
sample at the cut, a round of one epoch transfers 2 N K floats with federated learning. Split learning transfers 2 p q
at the cut and, per client, beta N (passed from client to client) or 2 beta N (through the server, as in SplitFed).
These formulas leave out labels; `samples_by_ledger` includes them, and the codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgeai.core.report.fields import about
from edgeai.fedsplit.advise.cut_parts import FLOAT_BYTES, CutParts, LocalTraining, label_bytes
from edgeai.fedsplit.protocol.codec.sizes import cut_bytes


@dataclass(frozen=True)
class Crossover:
    """The crossover of one cut: above n* samples per client, or below K* clients, splitting transfers more bytes."""

    cut: str = field(metadata=about("cut after"))
    client_params: int = field(metadata=about("client parameters", hidden=True))
    """beta N."""
    client_frac: float = field(metadata=about("share of parameters"))
    """beta."""
    cut_values: int = field(metadata=about("q", meaning="values of one sample at the cut"))
    samples_two_way: float = field(metadata=about("n* two-way"))
    """N (1 - beta) / q."""
    samples_one_way: float = field(metadata=about("n* one-way"))
    """N (1 - beta / 2) / q."""
    clients_two_way: float = field(metadata=about("K* two-way"))
    """p q / (N (1 - beta)), for the samples of the config."""
    clients_one_way: float = field(metadata=about("K* one-way", hidden=True))
    """p q / (N (1 - beta / 2))."""
    client_bytes: int = field(metadata=about("client part", hidden=True))
    """Buffers included."""
    sample_bytes: float = field(metadata=about("per sample", hidden=True))
    """Bytes that one more sample on a client adds to a round: at the cut, both ways, with labels and codec."""
    samples_by_ledger: float = field(metadata=about("n* by ledger"))
    """Two-way n* from `client_bytes` and `sample_bytes`."""

    def ledger_bytes(self, num_samples: float) -> float:
        """Return the bytes of a client with `num_samples` samples in a round, its part both ways."""
        return 2 * self.client_bytes + num_samples * self.sample_bytes

    def formula_bytes(self, num_samples: float, *, one_way: bool) -> float:
        """Return the formula's bytes of a client with `num_samples` samples in a round of one epoch."""
        hand_off = (1 if one_way else 2) * self.client_params
        return FLOAT_BYTES * (2 * num_samples * self.cut_values + hand_off)


@dataclass(frozen=True)
class Counted:
    """The bytes that the ledger counted in a round of one client."""

    cut: str = field(metadata=about("cut after"))
    """Layer name; empty for FedAvg."""
    num_samples: int = field(metadata=about("samples"))
    num_bytes: int = field(metadata=about("traffic", meaning="both ways"))


def spread(crossovers: Sequence[Crossover], number: int = 5) -> list[Crossover]:
    """Return at most `number` crossovers, evenly spaced from the first to the last."""
    if len(crossovers) <= number:
        return list(crossovers)
    return [crossovers[round(step * (len(crossovers) - 1) / (number - 1))] for step in range(number)]


def find_crossover(
    parts: CutParts, num_params: int, weight_bytes: int, training: LocalTraining, num_clients: int
) -> Crossover:
    """Return the crossover of one cut.

    Args:
        parts: The cut model.
        num_params: Parameters of the whole model: N.
        weight_bytes: Bytes of the whole model, buffers included.
        training: The clients' training; the formulas' n counts a sample once per epoch.
        num_clients: Number of clients: K.
    """
    beta = parts.client.num_params / num_params
    values = parts.cut_values
    total = num_clients * training.num_seen
    up_bytes, down_bytes = cut_bytes(training.codec, (training.batch, *parts.client.output_shape))
    sample_bytes = training.local_epochs * ((up_bytes + down_bytes) / training.batch + label_bytes(parts))
    return Crossover(
        cut=parts.cut,
        client_params=parts.client.num_params,
        client_frac=beta,
        cut_values=values,
        samples_two_way=num_params * (1 - beta) / values / training.local_epochs,
        samples_one_way=num_params * (1 - beta / 2) / values / training.local_epochs,
        clients_two_way=total * values / (num_params * (1 - beta)),
        clients_one_way=total * values / (num_params * (1 - beta / 2)),
        client_bytes=parts.client.weight_bytes,
        sample_bytes=sample_bytes,
        samples_by_ledger=2 * (weight_bytes - parts.client.weight_bytes) / sample_bytes,
    )
