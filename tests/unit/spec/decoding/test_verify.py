import itertools
import math
import random
from collections import Counter

import pytest
import torch

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.tree import DraftTree, build_tree, root_only
from edgeai.spec.target.sampling import Sampler, distribution

VOCAB, LENGTH = 4, 3
GREEDY = SamplingConfig()


def one_hot(tokens: list[int], vocab_size: int = 10) -> torch.Tensor:
    return torch.eye(vocab_size)[tokens]


def test_greedy_walks_along_the_argmax():
    #      0:root -> 1:'3' -> 3:'5'      the target says 3, 5, then 8
    #             -> 2:'4'
    tree = build_tree([9, 3, 4, 5], [-1, 0, 0, 1], [0.0, -1.0, -2.0, -3.0])
    got = accept(tree, one_hot([3, 5, 0, 8]), Sampler(GREEDY))
    assert got.path == (0, 1, 3)
    assert got.tokens == (3, 5, 8)
    assert got.num_accepted == 2


def test_nothing_fits():
    tree = build_tree([9, 3, 4], [-1, 0, 0], [0.0, -1.0, -2.0])
    got = accept(tree, one_hot([7, 0, 0]), Sampler(GREEDY))
    assert (got.path, got.tokens) == ((0,), (7,))


def test_end_of_text_inside_a_path_ends_it_without_bonus():
    tree = build_tree([9, 3, 5], [-1, 0, 1], [0.0, -1.0, -2.0])
    got = accept(tree, one_hot([3, 5, 8]), Sampler(GREEDY), eos_ids={3})
    assert got.tokens == (3,)
    got = accept(tree, one_hot([3, 5, 8]), Sampler(GREEDY), eos_ids={5})
    assert got.tokens == (3, 5)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_limit_inside_a_path(limit):
    tree = build_tree([9, 3, 5], [-1, 0, 1], [0.0, -1.0, -2.0])
    got = accept(tree, one_hot([3, 5, 8]), Sampler(GREEDY), limit=limit)
    assert got.tokens == (3, 5, 8)[:limit]


def random_tree(rng: random.Random, root: int) -> DraftTree:
    """Up to six distinct draft nodes; the root's own token does not matter to acceptance."""
    tokens, parents = [root], [-1]
    for _ in range(6):
        parent, token = rng.randrange(len(tokens)), rng.randrange(VOCAB)
        if (parent, token) not in zip(parents, tokens, strict=True):
            tokens.append(token)
            parents.append(parent)
    return build_tree(tokens, parents, [0.0] * len(tokens))


def decode(table: torch.Tensor, config: SamplingConfig, rng: random.Random, *, biased: bool) -> tuple[int, ...]:
    """LENGTH tokens of a Markov chain whose next-token logits are table[token], by cycles over random trees."""
    sampler, text = Sampler(config), [0]
    while len(text) <= LENGTH:
        tree = random_tree(rng, text[-1])
        if biased and tree.size > 1 and rng.random() < 0.1:  # a rule that favours the draft
            text.append(int(tree.tokens[1]))
        else:
            text += accept(tree, table[tree.tokens], sampler, limit=LENGTH + 1 - len(text)).tokens
    return tuple(text[1:])


def chi_square(counts: Counter, expected: dict[tuple[int, ...], float]) -> tuple[float, float]:
    """Statistic and its critical value for a false alarm once in a million, cells below 5 expected merged.

    Critical value by Wilson and Hilferty 1931: df (1 - 2 / (9 df) + z sqrt(2 / (9 df)))^3 with z(1e-6) = 4.753.
    """
    cells = {cell: count for cell, count in expected.items() if count >= 5}
    rest = sum(expected.values()) - sum(cells.values())
    statistic = sum((counts[cell] - count) ** 2 / count for cell, count in cells.items())
    df = len(cells) - 1
    if rest >= 5:
        seen = sum(counts.values()) - sum(counts[cell] for cell in cells)
        statistic += (seen - rest) ** 2 / rest
        df += 1
    return statistic, df * (1 - 2 / (9 * df) + 4.753 * math.sqrt(2 / (9 * df))) ** 3


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=1.0),
        SamplingConfig(temperature=0.7, top_k=3),
        SamplingConfig(temperature=1.5, top_p=0.8),
    ],
    ids=["plain", "top-k", "top-p"],
)
@pytest.mark.parametrize("biased", [False, True], ids=["sample-once", "biased"])
def test_distribution_is_the_targets(config, biased):
    """Seeds are fixed; over all seeds a right rule would fail once in a million. A ten per cent bias is caught."""
    runs = 6000
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(5)) * 1.2
    rng = random.Random(1)
    counts = Counter(decode(table, config.model_copy(update={"seed": run}), rng, biased=biased) for run in range(runs))
    expected = {}
    for text in itertools.product(range(VOCAB), repeat=LENGTH):
        prob = 1.0
        for before, token in zip((0, *text), text, strict=False):
            prob *= float(distribution(table[before], config)[token])
        expected[text] = runs * prob
    assert all(expected[text] > 0 for text in counts) or biased
    statistic, critical = chi_square(counts, expected)
    assert (statistic > critical) == biased


def test_plain_and_speculative_draw_the_same_numbers():
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(2))
    rng = random.Random(3)
    for seed in range(50):
        config = SamplingConfig(temperature=1.0, seed=seed)
        sampler, text = Sampler(config), [0]
        while len(text) <= LENGTH:
            text += accept(root_only(text[-1]), table[text[-1]][None], sampler).tokens
        assert decode(table, config, rng, biased=False) == tuple(text[1 : LENGTH + 1])
