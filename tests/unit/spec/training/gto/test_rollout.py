"""Trees, rewards and advantages of a batch against the decoding drafter, one-by-one scoring and plain arithmetic."""

import copy

import numpy as np
import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import GtoConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.features import OnlineFeatures
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.tree import build_tree
from edgeai.spec.training.gto.groups import check_room_for_groups
from edgeai.spec.training.gto.paths import longest_accepted, path_log_probs
from edgeai.spec.training.gto.rewards import path_probs, tree_reward
from edgeai.spec.training.gto.rollout import Rollout, Rollouts
from edgeai.spec.training.gto.rollout_sums import RolloutSums
from edgeai.spec.training.gto.scored_trees import same_paths
from edgeai.spec.training.unroll import Unroll

TREE = TreeConfig(nodes=9, depth=3, top_k=3)
TALKS = [
    Conversation("a", tuple((7 * n + 2) % 12 for n in range(30)), ((4, 14), (18, 30)), 0.0),
    Conversation("short", tuple((5 * n) % 12 for n in range(8)), ((3, 6),), 0.0),
    Conversation("b", tuple((n * n) % 12 for n in range(20)), ((2, 20),), 0.0),
]


def config(**changes):
    return GtoConfig(**{"groups": 3, "group_size": 4, "tree": TREE, **changes})


@pytest.fixture
def target(small_vocab_target):
    return small_vocab_target


@pytest.fixture
def heads(target, make_head):
    """A reference head and one that has moved a little."""
    reference = make_head(target, draft_vocab=10)
    head = copy.deepcopy(reference)
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter += 0.03 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    return head, reference


def rollouts(target, reference, **changes):
    return Rollouts(config(**changes), target, TALKS, reference=reference, seed=0)


@pytest.mark.parametrize("reward", ["lse", "exact"])
@torch.inference_mode()
def test_equals_one_place_after_the_other(target, heads, reward):
    """As the paper's algorithm reads: draft, verify, reward, standardise."""
    temperature, eta, delta = 0.8, 2.0, 0.05
    head, reference = heads
    play = rollouts(target, reference, reward=reward, temperature=temperature, eta=eta, delta=delta, flat_std=1e-9)
    rollout = play.play(head, [2, 1, 0], epoch=1)
    paths, sums = rollout.paths, rollout.sums

    def judge(model, ids, root):
        drafter, cache = Eagle3(model, target, name="x"), target.new_cache(60)
        drafter.start(ids[:root], target.prefill(ids[:root], cache).features)
        tree = drafter.propose(ids[root], TREE)
        logits = target.verify(tree.tokens, tree.depths, tree.ancestors, cache).logits
        log_probs = (logits[tree.parents] / temperature).log_softmax(-1).gather(-1, tree.tokens[:, None])[:, 0]
        reward_ = tree_reward(tree, path_probs(tree, log_probs), reward, eta=eta)
        return reward_, float(path_probs(tree, log_probs)[1:].sum()), longest_accepted(tree, logits.argmax(-1))

    expected, exact, num_groups = {}, 0.0, 0
    for row, number in enumerate([2, 1, 0]):
        for start in play.starts(number, 1):
            roots = range(start, start + 4)
            ours, theirs = ([judge(m, TALKS[number].ids, r) for r in roots] for m in (head, reference))
            debiased = np.array([a[0] - b[0] for a, b in zip(ours, theirs, strict=True)])
            standard = (debiased - debiased.mean()) / (debiased.std() + delta)
            exact += sum(a[1] for a in ours)
            num_groups += 1
            expected |= {(row, r): (a[2], w) for r, a, w in zip(roots, ours, standard, strict=True)}
    assert num_groups == sums.groups == sums.active == 6
    assert sums.places == 24
    assert sums.exact == pytest.approx(exact, rel=1e-4)
    found = {}
    for row in range(3):
        for q in range(paths.queries.shape[1]):
            length = int(paths.lengths[row, q])
            if float(paths.advantages[row, q]):
                key = (row, int(paths.queries[row, q]) + 1)
                found[key] = paths.tokens[row, q, :length].tolist(), float(paths.advantages[row, q])
    assert found.keys() == expected.keys()
    for key, (path, weight) in expected.items():
        assert tuple(found[key][0]) == path
        # rewards differ by float32 rounding, 1e-5; standardised by at least delta = 0.05
        assert found[key][1] == pytest.approx(weight, abs=1e-3)
    assert {len(path) for path, _ in expected.values()} >= {0, 1}


def test_equal_heads_have_no_advantage(target, heads):
    """Every reward is equal to the bit, no group is active, and nothing but the reference trees is scored."""
    _, reference = heads
    rollout = rollouts(target, reference, flat_std=0.0).play(copy.deepcopy(reference), [0, 1, 2], epoch=0)
    sums = rollout.sums
    assert rollout.paths is None
    assert (sums.active, sums.spread) == (0.0, 0.0)
    assert (sums.reward, sums.exact, sums.greedy) == (sums.reward_ref, sums.exact_ref, sums.greedy_ref)
    assert sums.exact > 0
    assert sums.new_nodes == 0


def test_flat_groups_are_skipped(target, heads):
    head, reference = heads
    rollout = rollouts(target, reference, flat_std=1e9).play(head, [0, 2], epoch=0)
    sums = rollout.sums
    assert rollout.paths is None
    assert (sums.active, sums.groups) == (0.0, 6.0)
    assert sums.spread > 0


def _equal(a, b):
    assert a.sums == b.sums
    assert all(torch.equal(getattr(a.paths, name), getattr(b.paths, name)) for name in vars(a.paths))


def test_same_seed_same_rollout(target, heads):
    """Other epochs and other seeds have other groups; a text does not depend on its companions."""
    head, reference = heads
    play = rollouts(target, reference)
    _equal(play.play(head, [0, 2], 0), rollouts(target, reference).play(head, [0, 2], 0))
    assert play.starts(0, 0) != play.starts(0, 1)
    other = Rollouts(config(), target, TALKS, reference=reference, seed=1)
    assert [play.starts(n, 0) for n in (0, 2)] != [other.starts(n, 0) for n in (0, 2)]
    alone, first, both = (play.play(head, numbers, 0).sums for numbers in ([2], [0], [0, 2]))
    assert first + alone == both


def test_a_share_of_the_texts_has_groups(target, heads):
    """About that share, other texts in each epoch; a text that is not among them costs no pass of the target."""
    head, reference = heads
    play = rollouts(target, reference, text_frac=0.3)
    chosen = [bool(play.starts(0, epoch)) for epoch in range(400)]
    assert 0.3 * 400 - 4 * 9.2 < sum(chosen) < 0.3 * 400 + 4 * 9.2  # four standard deviations
    assert play.play(head, [0], chosen.index(False)) == Rollout(None, RolloutSums())


def test_fixed_starts_keep_the_reference_trees(target, heads, monkeypatch):
    """The same to the bit whether kept or computed anew; the second time only differing nodes are scored."""
    head, reference = heads
    play = rollouts(target, reference, starts="fixed")
    assert play.starts(0, 0) == play.starts(0, 5)
    sizes, score = [], type(target).score_trees
    monkeypatch.setattr(
        type(target),
        "score_trees",
        lambda self, trees, *args, **kw: sizes.append(sum(t.size for t in trees)) or score(self, trees, *args, **kw),
    )
    first = play.play(head, [0, 2], 0)
    num_scored, sizes[:] = sum(sizes), []
    second = play.play(head, [0, 2], 3)
    _equal(first, second)
    assert sum(sizes) == first.sums.new_nodes == num_scored - first.sums.places * (TREE.nodes + 1) > 0
    assert rollouts(target, reference, starts="fixed").play(head, [0, 2], 3).sums == second.sums


def test_rewards_turn_into_gradient_only_through_the_head(target, heads):
    """The batch's paths train: nothing in them was made in inference mode that autograd could not save."""
    head, reference = heads
    paths = rollouts(target, reference, flat_std=0.0).play(head, [0, 2], 0).paths
    cos, sin = target.rotary
    unroll = Unroll(head, embedding=target.embedding, cos=cos, sin=sin, dtype=torch.float32)
    path_log_probs(unroll, head, OnlineFeatures(target, TALKS).batch([0, 2]), paths).sum().backward()
    assert head.lm_head.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in reference.parameters())


def test_same_paths_by_hand():
    """Root -> 3 -> 5 and root -> 4 against root -> 4 -> 3 and root -> 3: c is new, the order another."""
    tree = build_tree([9, 3, 4, 5], [-1, 0, 0, 1], [0.0] * 4)
    other = build_tree([9, 4, 3, 3], [-1, 0, 0, 1], [0.0] * 4)
    assert same_paths(tree, other).tolist() == [0, 2, 1, -1]
    assert same_paths(other, tree).tolist() == [0, 2, 1, -1]
    assert same_paths(tree, tree).tolist() == [0, 1, 2, 3]


def test_no_room_for_a_group(target):
    """The answer of "b" has 18 tokens, the last of which is no root."""
    check_room_for_groups(config(group_size=17), target, TALKS)
    with pytest.raises(UsageError) as caught:
        check_room_for_groups(config(group_size=18), target, TALKS)
    assert caught.value.message == "no answer has room for a group of 18 adjacent positions: the longest has 17"
    assert caught.value.hint == "lower gto.group_size or give longer answers"


def test_a_head_of_another_shape_is_named(target, make_target, make_hf, make_head):
    other = make_target(make_hf())
    with pytest.raises(EdgeAIError, match="the draft head does not fit tiny: its vocabulary is 128, the target's 12"):
        rollouts(target, make_head(other))
