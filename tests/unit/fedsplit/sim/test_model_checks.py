"""What is seen of a model before it is trained."""

import pytest
import torch
from torch import nn

from edgeai.fedsplit.sim.model_checks import draws_at_random

SERIES, PICTURES = (3, 4, 6), (3, 4, 6, 6)
LAYERS = [
    (nn.Dropout(0.5), SERIES),
    (nn.Dropout1d(0.5), SERIES),
    (nn.Dropout2d(0.5), PICTURES),
    (nn.AlphaDropout(0.5), SERIES),
    (nn.FeatureAlphaDropout(0.5), PICTURES),
    (nn.RReLU(), SERIES),
    (nn.GRU(6, 4, num_layers=2, dropout=0.5), SERIES),
    (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.5), SERIES),
    (nn.GRU(6, 4), SERIES),
    (nn.BatchNorm2d(4), PICTURES),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_what_draws_is_seen(layer, shape):
    """Whoever draws moves torch's generator."""
    x = torch.randn(shape)
    before = torch.get_rng_state()
    layer.train()(x)
    assert draws_at_random(nn.Sequential(layer), is_custom=False) == (not torch.equal(before, torch.get_rng_state()))


def test_a_model_of_the_users_may_draw_in_ways_that_are_not_seen():
    assert draws_at_random(nn.Sequential(nn.ReLU()), is_custom=True)
