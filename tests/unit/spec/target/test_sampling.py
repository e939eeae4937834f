import pytest
import torch

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.target.sampling import Sampler, distribution, warp


def brute_force(logits: torch.Tensor, config: SamplingConfig) -> torch.Tensor:
    """Warp token by token in Python floats."""
    order = sorted(range(len(logits)), key=lambda token: -float(logits[token]))
    if config.top_k:
        order = order[: config.top_k]
    top = float(logits.max())
    weights = {token: 2.718281828459045 ** ((float(logits[token]) - top) / config.temperature) for token in order}
    total = sum(weights.values())
    probs = {token: weight / total for token, weight in weights.items()}
    if config.top_p < 1:
        mass, kept = 0.0, {}
        for token in order:
            if mass >= config.top_p:
                break
            kept[token] = probs[token]
            mass += probs[token]
        probs = kept
    if config.min_p:
        floor = config.min_p * max(probs.values())
        probs = {token: prob for token, prob in probs.items() if prob >= floor}
    total = sum(probs.values())
    out = torch.zeros(len(logits))
    for token, prob in probs.items():
        out[token] = prob / total
    return out


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=1e-50),  # 0 in float32
        SamplingConfig(temperature=5e-324),
        SamplingConfig(temperature=1.0, top_p=1e-50),
        SamplingConfig(temperature=1.0, top_p=5e-324, top_k=3),
    ],
)
def test_numbers_that_float32_rounds_to_zero_are_greedy(config):
    logits = torch.tensor([0.1, 3.0, 2.9999998, -1.0])
    assert torch.equal(distribution(logits, config), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert Sampler(config).pick(logits) == 1


CONFIGS = [
    SamplingConfig(temperature=1.0),
    SamplingConfig(temperature=0.3),
    SamplingConfig(temperature=1.7, top_k=5),
    SamplingConfig(temperature=1.0, top_p=0.6),
    SamplingConfig(temperature=1.0, min_p=0.2),
    SamplingConfig(temperature=0.8, top_k=9, top_p=0.7, min_p=0.1),
    SamplingConfig(temperature=2.0, top_k=1000),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("vocab_size", [12, 2000])  # longer than top-p's short list
def test_warp_against_brute_force(config, vocab_size):
    for seed in range(5):
        logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * 2
        got = distribution(logits, config)
        assert torch.allclose(got, brute_force(logits, config), atol=1e-6)
        assert got.sum() == pytest.approx(1.0, abs=1e-6)


def test_no_temperature_overflows():
    probs, _ = warp(torch.tensor([3.0, -3.0, 100.0]), SamplingConfig(temperature=1e-30))
    assert probs.tolist() == [0.0, 0.0, 1.0]


def test_temperature_zero_is_greedy_and_takes_the_first_of_a_tie():
    logits = torch.tensor([0.0, 2.0, 2.0, 1.0])
    assert Sampler(SamplingConfig()).pick(logits) == 1
    assert distribution(logits, SamplingConfig()).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_excluded_tokens_are_never_drawn():
    sampler = Sampler(SamplingConfig(temperature=1.0, top_k=2))
    logits = torch.tensor([0.0, 5.0, 4.9, 4.8])
    assert {sampler.pick(logits) for _ in range(200)} == {1, 2}


def test_a_seed_fixes_the_draws_and_each_pick_takes_one_number():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    other = torch.randn(50, generator=torch.Generator().manual_seed(1))
    narrow = SamplingConfig(temperature=1.0, top_k=3, seed=7)
    a, b = Sampler(narrow), Sampler(narrow)
    first = [a.pick(logits) for _ in range(20)]
    # what was drawn from before does not shift later draws
    assert [b.pick(logits if index % 2 else other) for index in range(20)][1::2] == first[1::2]
    assert [Sampler(SamplingConfig(temperature=1.0, seed=8)).pick(logits) for _ in range(3)] != first[:3]
