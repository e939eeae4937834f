"""Product quantisation: k-means against scikit-learn's, groups kept apart, exact where it can be."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from edgeai.fedsplit.protocol.codec.fedlite import FedLite, lloyd


def _chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("iterations", [1, 3, 50])
def test_lloyd_is_scikit_learns(iterations: int) -> None:
    vectors = torch.randn(2, 200, 3, generator=_chance(1))
    centroids = lloyd(vectors, vectors[:, :6], iterations)
    for group in range(2):
        points = vectors[group].numpy().astype(np.float64)
        init = points[:6].copy()
        for _ in range(iterations):  # scikit-learn's last step assigns, ours averages: one step each, and compare
            distances = ((points[:, None] - init[None]) ** 2).sum(axis=2)
            init = np.stack([points[distances.argmin(axis=1) == c].mean(axis=0) for c in range(6)])
        assert np.allclose(centroids[group].numpy(), init, atol=1e-5)  # float32 against float64
    if iterations == 50:
        fitted = KMeans(6, init=vectors[0, :6].numpy(), n_init=1, max_iter=50, tol=0.0).fit(vectors[0].numpy())
        assert np.allclose(centroids[0].numpy(), fitted.cluster_centers_, atol=1e-5)


def test_exact_when_there_are_no_more_vectors_than_centroids() -> None:
    x = torch.randn(3, 8, generator=_chance(2))
    codec = FedLite(num_subvectors=4, groups=1, centroids=12, iterations=2)
    assert torch.equal(codec.unpack(codec.pack(x, _chance())), x)


def test_groups_do_not_share_centroids() -> None:
    """Two pieces a sample, one constant, one varying: with two groups the constant half costs the other nothing."""
    x = torch.cat([torch.zeros(4, 2), torch.arange(8.0).view(4, 2)], dim=1)
    codec = FedLite(num_subvectors=2, groups=2, centroids=4, iterations=1)
    packed = codec.pack(x, _chance())
    assert packed.side["codebook"].shape == (2, 4, 2)
    assert packed.side["codebook"][0].tolist() == [[0.0, 0.0]] * 4
    assert torch.equal(codec.unpack(packed), x)


def test_a_piece_is_replaced_by_the_mean_of_its_cluster() -> None:
    """Two far clusters of pairs: (0,0) (0,2) | (10,10) (10,12), k-means from any start in different clusters."""
    x = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 2.0, 10.0, 12.0]])
    codec = FedLite(num_subvectors=2, groups=2, centroids=1, iterations=1)
    packed = codec.pack(x, _chance())
    assert packed.payload.numel() == 0
    assert codec.unpack(packed).tolist() == [[0.0, 1.0, 10.0, 11.0], [0.0, 1.0, 10.0, 11.0]]


def test_pieces_of_an_image_come_back_in_place() -> None:
    x = torch.randn(2, 3, 4, 4, generator=_chance(3))
    codec = FedLite(num_subvectors=12, groups=3, centroids=8, iterations=1)  # 8 vectors a group: exact
    assert torch.equal(codec.unpack(codec.pack(x, _chance())), x)
