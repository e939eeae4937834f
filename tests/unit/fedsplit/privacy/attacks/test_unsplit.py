import copy

import torch
import torch.nn.functional as F
from torch import nn

from edgeai.fedsplit.config.privacy import UnsplitConfig
from edgeai.fedsplit.privacy.attacks.unsplit import forget_weights, unsplit


def part():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8))


def private():
    return torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))


def test_known_weights_of_an_invertible_part_give_the_inputs():
    client, x = part(), private()
    with torch.no_grad():
        client[1].weight.copy_(torch.linalg.qr(torch.randn(8, 6))[0])  # well conditioned
    cfg = UnsplitConfig(knows_weights=True, num_rounds=40, num_input_steps=20, lr=0.03)
    found = unsplit(client(x), x.shape[1:], copy.deepcopy(client), cfg, seed=0)
    torch.testing.assert_close(found, x, rtol=0, atol=0.05)


def test_the_bound_is_taken_into_account():
    client, x = part(), 0.3 * private()
    with torch.no_grad():
        client[1].weight.copy_(torch.linalg.qr(torch.randn(8, 6))[0])
    cfg = UnsplitConfig(knows_weights=True, num_rounds=40, num_input_steps=20, lr=0.01)
    found = unsplit(torch.tanh(client(x)), x.shape[1:], copy.deepcopy(client), cfg, seed=0, bound=torch.tanh)
    torch.testing.assert_close(found, x, rtol=0, atol=0.05)


def test_known_weights_stay_and_unknown_ones_move():
    client, x = part(), private()
    for knows in (True, False):
        clone = copy.deepcopy(client)
        cfg = UnsplitConfig(knows_weights=knows, num_rounds=1, num_input_steps=1, num_weight_steps=1)
        unsplit(client(x), x.shape[1:], clone, cfg, seed=0)
        assert torch.equal(clone[1].weight, client[1].weight) is knows


def test_without_the_weights_the_smashed_data_still_get_matched():
    client, x = part(), private()
    clone = forget_weights(copy.deepcopy(client), seed=3)
    start = F.mse_loss(clone(torch.zeros_like(x)), client(x)).item()
    cfg = UnsplitConfig(num_rounds=20, num_input_steps=10, num_weight_steps=10)
    found = unsplit(client(x), x.shape[1:], clone, cfg, seed=0)
    assert F.mse_loss(clone(found), client(x)).item() < 0.05 * start


def test_forgetting_draws_new_weights_and_keeps_the_global_state():
    client = part()
    before = torch.get_rng_state()
    other = forget_weights(copy.deepcopy(client), seed=3)
    assert not torch.equal(other[1].weight, client[1].weight)
    assert torch.equal(before, torch.get_rng_state())


def test_the_search_starts_where_a_normalised_part_has_a_gradient():
    torch.manual_seed(0)
    client = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.GroupNorm(2, 8), nn.ReLU())
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    cfg = UnsplitConfig(knows_weights=True, num_rounds=10, num_input_steps=20, lr=0.05)
    found = unsplit(client(x), x.shape[1:], copy.deepcopy(client), cfg, seed=0)
    similar = F.cosine_similarity(found.flatten(1), x.flatten(1))  # normalization removes the scale
    assert float(similar.min()) > 0.9
