"""FedLite (Wang et al. 2022): product quantization of smashed data, with codebooks fitted to each batch.

Legend: b samples, S sub-vectors per sample, d values per sub-vector, R groups, L centroids per group,
n = b * S / R vectors per group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeai.fedsplit.protocol.codec.bits import pack_bits, unpack_bits
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.sizes import index_bits


class FedLite:
    """Sends the index of each sub-vector's nearest centroid, and the centroids.

    Differs from the paper: an empty cluster keeps its centroid; a batch with fewer vectors than centroids sends as
    many centroids as it has vectors.

    Args:
        num_subvectors: S.
        groups: R; group r holds the sub-vectors r * S/R … (r + 1) * S/R - 1 of every sample.
        centroids: L.
        iterations: Iterations of k-means (Lloyd).
    """

    def __init__(self, *, num_subvectors: int, groups: int, centroids: int, iterations: int) -> None:
        self._num_subvectors, self._groups = num_subvectors, groups
        self._centroids, self._iterations = centroids, iterations

    def pack(self, x: Tensor, generator: torch.Generator) -> Packed:
        """Return bit-packed codes [R, n], with side information `codebook` float32 [R, L, d]."""
        num_samples, groups = x.shape[0], self._groups
        pieces = x.reshape(num_samples, groups, self._num_subvectors // groups, -1)
        vectors = pieces.transpose(0, 1).reshape(groups, -1, pieces.shape[-1])  # [R, n, d]
        num_vectors = vectors.shape[1]
        chosen = torch.randperm(num_vectors, generator=generator)[: self._centroids].to(x.device)
        codebook = lloyd(vectors, vectors[:, chosen], self._iterations)
        codes = nearest(vectors, codebook)
        return Packed(pack_bits(codes, index_bits(codebook.shape[1])), tuple(x.shape), {"codebook": codebook})

    def unpack(self, packed: Packed) -> Tensor:
        """Return float32 [b, ...]."""
        codebook, num_samples, groups = packed.side["codebook"], packed.shape[0], self._groups
        num_codes = num_samples * self._num_subvectors
        codes = unpack_bits(packed.payload, index_bits(codebook.shape[1]), num_codes).view(groups, -1).long()
        vectors = codebook.gather(1, codes[..., None].expand(-1, -1, codebook.shape[2]))  # [R, n, d]
        pieces = vectors.view(groups, num_samples, -1, codebook.shape[2]).transpose(0, 1)
        return pieces.reshape(packed.shape)


def lloyd(vectors: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Run k-means for all groups at once.

    Args:
        vectors: [R, n, d].
        centroids: Initial centroids, [R, L, d].
        iterations: Iterations of assignment and averaging.

    Returns:
        Centroids, [R, L, d].
    """
    counts_of = vectors.new_ones(vectors.shape[:2])
    for _ in range(iterations):
        codes = nearest(vectors, centroids)
        sums = torch.zeros_like(centroids)
        sums.scatter_add_(1, codes[..., None].expand_as(vectors), vectors)
        counts = vectors.new_zeros(centroids.shape[:2]).scatter_add_(1, codes, counts_of)[..., None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1.0), centroids)
    return centroids


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Return the index of the nearest centroid of the group by Euclidean distance, int64 [R, n]."""
    norms = centroids.square().sum(dim=2)[:, None, :]  # [R, 1, L]; |x|^2 is the same for all centroids
    return torch.baddbmm(norms, vectors, centroids.transpose(1, 2), alpha=-2.0).argmin(dim=2)
