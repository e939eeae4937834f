"""The fast drafter against a slow forward through the training module, one path at a time.

Tolerance: float32 sums of up to 192 products in another order; log probabilities reach about -30.
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from edgeai.core.errors import EdgeAIError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.eagle3 import Eagle3

TOLERANCE = 5e-4
TEXT = [5, 17, 3, 99, 42, 7, 7, 120, 64, 31, 2, 88, 13, 9, 54, 21]
SWITCHES = [
    dict(zip(("fc_norm", "norm_output", "norm_before_residual"), flags, strict=True))
    for flags in itertools.product([False, True], repeat=3)
]


def rope(x, position, base=10000.0):
    """Textbook rotation of x [heads, hd], pairs (i, i + hd / 2)."""
    half = x.shape[-1] // 2
    angle = position / base ** (torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


class SlowHead:
    """One pair at a time, keys in a list, straight through DraftHead's methods."""

    def __init__(self, head, target):
        self.head, self.embedding = head, target.embedding

    def step(self, token, hidden, position, keys, values):
        """Appends to keys and values; returns the next hidden input and log probabilities [D]."""
        head, attn, shape = self.head, self.head.midlayer.self_attn, self.head.shape
        joined, residual = head.attention_input(self.embedding[token], hidden)
        q = rope(attn.q_proj(joined).view(shape.num_heads, -1), position)
        keys.append(rope(attn.k_proj(joined).view(shape.num_kv_heads, -1), position))
        values.append(attn.v_proj(joined).view(shape.num_kv_heads, -1))
        group = shape.num_heads // shape.num_kv_heads
        k = torch.stack(keys, 1).repeat_interleave(group, 0)  # [nh, L, hd]
        v = torch.stack(values, 1).repeat_interleave(group, 0)
        weights = torch.softmax((k @ q[:, :, None])[..., 0] / shape.head_dim**0.5, -1)
        attended = (weights[:, None] @ v).flatten()
        output, normed = head.finish(attended, residual)
        return output, F.log_softmax(head.lm_head(normed), -1)

    def stable(self, text, features):
        """All pairs (token t + 1, feature t); the last one's output."""
        keys, values = [], []
        for position, token in enumerate(text[1:]):
            out = self.step(token, self.head.project(features[position]), position, keys, values)
        return keys, values, out

    def path_scores(self, text, features, path):
        """Log probability of each token of a path below the last token of `text`."""
        keys, values, (hidden, log_probs) = self.stable(text, features)
        index = {int(token): i for i, token in enumerate(self.head.draft_to_target)}
        scores = []
        for level, token in enumerate(path, start=1):
            scores.append(float(log_probs[index[token]]))
            hidden, log_probs = self.step(token, hidden, len(text) - 2 + level, keys, values)
        return scores


def features_of(target, text):
    return target.prefill(text, target.new_cache(len(text))).features


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(name for name, on in s.items() if on) or "none")
@torch.inference_mode()
def test_scores_equal_a_slow_forward(target, make_head, switches):
    head = make_head(target, **switches)
    drafter, slow = Eagle3(head, target, name="x"), SlowHead(head, target)
    features = features_of(target, TEXT)
    prompt, root = TEXT[:9], TEXT[9]
    drafter.start(prompt, features[:9])
    tree = drafter.propose(root, TreeConfig(nodes=14, depth=4, top_k=3))
    assert tree.size == 15
    assert tree.depths.max() >= 2
    for node in range(1, tree.size):
        path = tree.tokens[tree.ancestors[node]].tolist()[1:]
        expected = sum(slow.path_scores([*prompt, root], features, path))
        assert float(tree.scores[node]) == pytest.approx(expected, abs=TOLERANCE)


@torch.inference_mode()
def test_tree_is_the_level_wise_beam_of_the_head(target, make_head):
    """Expansion and re-ranking against a plain Python beam over the slow head."""
    head = make_head(target, draft_vocab=20)
    drafter, slow = Eagle3(head, target, name="x"), SlowHead(head, target)
    features = features_of(target, TEXT)
    config = TreeConfig(nodes=9, depth=3, top_k=3)
    drafter.start(TEXT[:5], features[:5])
    tree = drafter.propose(TEXT[5], config)
    ids = head.draft_to_target.tolist()
    frontier, pool = [((), 0.0)], {}
    for _ in range(config.depth):
        children = []
        for path, score in frontier:
            keys, values, (hidden, log_probs) = slow.stable(TEXT[:6], features)
            for level, token in enumerate(path, start=1):
                hidden, log_probs = slow.step(token, hidden, 4 + level, keys, values)
            best = log_probs.topk(config.top_k)
            children += [
                ((*path, ids[i]), score + float(step)) for step, i in zip(*map(torch.Tensor.tolist, best), strict=True)
            ]
        pool.update(children)
        frontier = sorted(children, key=lambda child: -child[1])[: config.top_k]
    expected = sorted(pool, key=pool.__getitem__, reverse=True)[: config.nodes]
    got = [tuple(tree.tokens[row].tolist()[1:]) for row in tree.ancestors[1:]]
    assert sorted(got) == sorted(expected)


@torch.inference_mode()
def test_stable_cache_equals_recomputation_and_drafts_leave_no_trace(target, make_head):
    head = make_head(target)
    features = features_of(target, TEXT)
    config = TreeConfig(nodes=8, depth=4, top_k=4)
    drafter = Eagle3(head, target, name="x")
    drafter.start(TEXT[:4], features[:4])
    position = 4
    for step in (1, 3, 2, 4):  # tokens accepted per cycle, the root among them
        drafter.propose(TEXT[position], config)
        drafter.accept(TEXT[position : position + step], features[position : position + step])
        position += step
    got = drafter.propose(TEXT[position], config)
    fresh = Eagle3(head, target, name="x")
    fresh.start(TEXT[:position], features[:position])
    expected = fresh.propose(TEXT[position], config)
    assert drafter._num_stable == fresh._num_stable == position
    for rows, others in ((drafter._k, fresh._k), (drafter._v, fresh._v)):
        assert torch.allclose(rows[:, :, :position], others[:, :, :position], atol=1e-5)
    assert torch.equal(got.tokens, expected.tokens)
    assert torch.allclose(got.scores, expected.scores, atol=TOLERANCE)


@torch.inference_mode()
def test_cycles_without_a_proposal_are_caught_up(target, make_head):
    features = features_of(target, TEXT)
    config = TreeConfig(nodes=4, depth=2, top_k=2)
    drafter, fresh = (Eagle3(make_head(target), target, name="x") for _ in range(2))
    drafter.start(TEXT[:4], features[:4])
    drafter.accept(TEXT[4:6], features[4:6])
    drafter.accept(TEXT[6:7], features[6:7])
    fresh.start(TEXT[:7], features[:7])
    a, b = drafter.propose(TEXT[7], config), fresh.propose(TEXT[7], config)
    assert torch.equal(a.tokens, b.tokens)
    assert torch.allclose(a.scores, b.scores, atol=TOLERANCE)


@torch.inference_mode()
def test_one_token_prompt_and_growth_beyond_the_first_reservation(target, make_head):
    drafter = Eagle3(make_head(target), target, name="x")
    features = torch.randn(1200, 3 * target.shape.hidden_size, generator=torch.Generator().manual_seed(0))
    drafter.start([3], features[:1])
    assert drafter.propose(4, TreeConfig(nodes=2, depth=2, top_k=1)).size == 3
    drafter._reserve(700)
    before = drafter._k[:, :, :1].clone()
    drafter._reserve(3000)
    assert drafter._k.shape[2] >= 3000
    assert torch.equal(drafter._k[:, :, :1], before)


@torch.inference_mode()
def test_chain_and_more_children_than_the_draft_vocabulary(target, make_head):
    features = features_of(target, TEXT)
    drafter = Eagle3(make_head(target, draft_vocab=3), target, name="x")
    drafter.start(TEXT[:4], features[:4])
    tree = drafter.propose(TEXT[4], TreeConfig(nodes=100, depth=2, top_k=8))
    assert tree.size == 1 + 3 + 9  # everything there is
    drafter.accept(TEXT[4:5], features[4:5])
    chain = drafter.propose(TEXT[5], TreeConfig(nodes=5, depth=5, top_k=1))
    assert chain.parents.tolist() == [-1, 0, 1, 2, 3, 4]


def test_a_head_of_another_shape_is_named(target, small_vocab_target, make_head):
    with pytest.raises(EdgeAIError, match="the draft head does not fit tiny: its vocabulary is 12, the target's 128"):
        Eagle3(make_head(small_vocab_target, draft_vocab=8), target, name="x")
