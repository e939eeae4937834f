"""The trained miner: starting point, fitting, targets and importance weights."""

import pytest
import torch

from edgeai.collab.config.policy import MinerConfig
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import SCORES


def frames(num, seed=0):
    """Inputs of four features whose first decides q; the scores say nothing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num, 4, generator=generator) * 3 + 10
    scores = torch.rand(num, 6, generator=generator) * 0.2 + 0.7
    return torch.cat([features, scores], 1), torch.sigmoid((features[:, 0] - 10) / 2)


def test_untrained_miner_is_max_prob():
    inputs, _ = frames(20)
    miner = Miner(4, MinerConfig(), seed=0)
    assert [miner.score(row) for row in inputs] == pytest.approx(inputs[:, 4].tolist(), abs=1e-6)
    scores = dict(zip(SCORES, (0.7, 0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    assert miner.score(miner_input(torch.zeros(4), scores)) == pytest.approx(0.7)


def test_miner_learns_from_features_when_scores_carry_no_information():
    inputs, q = frames(300)
    fresh, q_fresh = frames(300, seed=1)
    miner = Miner(4, MinerConfig(steps=100, lr=0.03), seed=0)
    with torch.no_grad():
        untrained = (torch.sigmoid(miner(fresh)) - q_fresh).abs().mean()
    miner.fit(inputs, q, torch.ones(300))
    with torch.no_grad():
        error = (torch.sigmoid(miner(fresh)) - q_fresh).abs().mean()
    assert error < 0.05 < untrained / 4


def test_importance_weights_correct_selection_bias():
    """300 hard frames with q = 0, all labelled, and 30 of 300 easy ones with q = 1, which look the same to the miner.

    By weight 1/p half of all frames agree; without weights it would be 30 of 330.
    """
    inputs = torch.full((330, 10), 0.5)
    q = torch.cat([torch.zeros(300), torch.ones(30)])
    weights = torch.cat([torch.ones(300), torch.full((30,), 10.0)])
    got = []
    for weight in (weights, torch.ones(330)):
        miner = Miner(4, MinerConfig(steps=150, lr=0.05, weight_decay=0.0), seed=0)
        miner.fit(inputs, q, weight)
        got.append(miner.score(inputs[0]))
    assert got == pytest.approx([0.5, 30 / 330], abs=0.01)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"target": "agreement"}, 0.6),
        ({"target": "above_tau", "tau": 0.55}, 1.0),
        ({"target": "above_tau", "tau": 0.65}, 0.0),
        ({"target": "appealnet", "beta": 0.1}, 0.25),
        ({"target": "appealnet", "beta": 0.8}, 1.0),
    ],
)
def test_minimum_of_each_target(config, expected):
    """One frame with q = 0.6: regression gives q, above_tau whether q reaches tau, appealnet min(1, beta / (1 - q))."""
    inputs = torch.full((1, 10), 0.5)
    miner = Miner(4, MinerConfig(steps=200, lr=0.1, weight_decay=0.0, **config), seed=0)
    miner.fit(inputs, torch.tensor([0.6]), torch.ones(1))
    assert miner.score(inputs[0]) == pytest.approx(expected, abs=0.02)


def test_miner_is_the_same_under_a_seed():
    inputs, q = frames(50)
    states = []
    for seed in (1, 1, 2):
        miner = Miner(4, MinerConfig(steps=5), seed=seed)
        miner.fit(inputs, q, torch.ones(50))
        states.append(torch.cat([tensor.flatten() for tensor in miner.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_miner_inputs_are_clipped_far_from_the_training_data():
    """Beyond three standard deviations an input counts as three."""
    miner = Miner(4, MinerConfig(steps=50, lr=0.1, hidden=4), seed=0)
    torch.manual_seed(0)
    rows = torch.rand(40, 10)
    miner.fit(rows, (rows[:, 0] > 0.5).float(), torch.ones(40))
    far, edge = rows[:1].clone(), rows[:1].clone()
    far[0, 0], edge[0, 0] = 1e6, miner.mean[0] + 3 * miner.std[0]
    assert torch.allclose(miner(far), miner(edge))
    assert not torch.allclose(miner(far), miner(rows[:1]))
