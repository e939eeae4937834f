"""Groups, advantages and the surrogate against numbers by hand and a slow reference."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.train import LossConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.features import OnlineFeatures
from edgeai.spec.decoding.verify import accept
from edgeai.spec.draft.tree import build_tree
from edgeai.spec.target.sampling import Sampler
from edgeai.spec.training.gto.groups import advantages, root_ranges, sample_groups
from edgeai.spec.training.gto.objective import GroupTreeObjective, surrogate
from edgeai.spec.training.gto.paths import AcceptedPath, Paths, longest_accepted, path_log_probs
from edgeai.spec.training.losses import TrainingTimeTest
from edgeai.spec.training.unroll import Unroll

# float32 sums of some hundred terms in another order
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}
TALKS = [
    Conversation("two answers", tuple((7 * n) % 128 for n in range(30)), ((5, 14), (18, 30)), 0.0),
    Conversation("opens", tuple((11 * n + 3) % 128 for n in range(17)), ((0, 17),), 0.0),
]


# ----------------------------------------------------------------------------------------------------------------------
# Groups


def test_places_by_hand():
    """Roots are the answer's tokens but its last; none at 0; none so late that a tree runs past the positions."""
    assert [list(run) for run in root_ranges(TALKS[0], 1000)] == [list(range(5, 13)), list(range(18, 29))]
    assert [list(run) for run in root_ranges(TALKS[1], 1000)] == [list(range(1, 16))]
    assert [list(run) for run in root_ranges(TALKS[0], 20)] == [list(range(5, 13)), [18, 19, 20]]


@pytest.mark.parametrize(
    ("num_groups", "size", "expected"), [(16, 4, 7), (3, 4, 3), (16, 8, 2), (16, 12, 1), (5, 99, 0)]
)
def test_groups_lie_inside_runs_and_do_not_overlap(num_groups, size, expected):
    """Runs of 17, 3 and 12 places hold 4 + 0 + 3 groups of four, 2 + 0 + 1 of eight, one of twelve each."""
    runs = [range(10, 27), range(30, 33), range(40, 52)]
    capacity = sum(len(run) // size for run in runs)
    for seed in range(50):
        starts = sample_groups(runs, num_groups, size, np.random.default_rng(seed))
        assert len(starts) == min(num_groups, capacity)
        assert all(b - a >= size for a, b in itertools.pairwise(starts))
        for start in starts:
            assert any(run.start <= start and start + size <= run.stop for run in runs)
    again = [sample_groups(runs, num_groups, size, np.random.default_rng(7)) for _ in range(2)]
    assert again[0] == again[1]


def test_every_arrangement_comes_up():
    """Two groups of two in five places: starts (0, 2), (0, 3), (1, 3), a third each.

    Of 3,000 draws an arrangement gets 1,000 with a standard deviation of 26; six of these are a false alarm once in
    10^8.
    """
    rng = np.random.default_rng(0)
    found = [tuple(sample_groups([range(5)], 2, 2, rng)) for _ in range(3000)]
    for arrangement in ((0, 2), (0, 3), (1, 3)):
        assert abs(found.count(arrangement) - 1000) < 6 * math.sqrt(3000 * 2 / 9)
    assert len(set(found)) == 3


def test_advantages_by_hand():
    """R = (1, 3): mean 2, std 1, A = -+1 / (1 + 1/4) = -+0.8. A group that spreads 0.1 or less is skipped."""
    rewards = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.2], [0.0, 0.21]])
    standardized = advantages(rewards, delta=0.25, flat_std=0.1)
    found = standardized.values
    assert standardized.is_active.tolist() == [True, False, False, True]
    assert standardized.stds.tolist() == pytest.approx([1.0, 0.0, 0.1, 0.105])
    assert found[0].tolist() == pytest.approx([-0.8, 0.8])
    assert found[1].tolist() == found[2].tolist() == [0.0, 0.0]
    assert found[3].tolist() == pytest.approx([-0.105 / 0.355, 0.105 / 0.355])


@pytest.mark.parametrize("eos", [(), (3,), (5,)], ids=str)
def test_longest_accepted_is_greedy_verification(eos):
    """Random choices of the target, against `verify.accept`."""
    tree = build_tree([9, 3, 4, 5, 6, 7, 5], [-1, 0, 0, 1, 1, 2, 3], [0.0] * 7)
    generator = torch.Generator().manual_seed(0)
    lengths = set()
    for _ in range(300):
        logits = torch.randn(7, 8, generator=generator)
        accepted = accept(tree, logits, Sampler(SamplingConfig()), eos_ids=eos)
        found = longest_accepted(tree, logits.argmax(-1), eos)
        assert found == accepted.tokens[: accepted.num_accepted]
        lengths.add(len(found))
    assert len(lengths) >= 2


# ----------------------------------------------------------------------------------------------------------------------
# Surrogate


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # inside: -s A
        (1.1, 2.0, -2.2, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # above and wanted above: clipped at 1.2, no gradient
        (0.5, 2.0, -1.0, -2.0),  # below although wanted above: not clipped
        (0.5, -2.0, 1.6, 0.0),  # below and wanted below: clipped at 0.8
        (1.5, -2.0, 3.0, 2.0),  # above although wanted below: not clipped
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_clipping_on_both_sides_by_hand(ratio, advantage, loss, slope):
    """epsilon 0.2."""
    s = torch.tensor([ratio], requires_grad=True)
    found = surrogate(s, torch.tensor([advantage]), 0.2)
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert s.grad.item() == pytest.approx(slope)


ROWS = [
    [
        AcceptedPath(5, [4, 9, 17], 0.7),
        AcceptedPath(6, [], 0.4),
        AcceptedPath(7, [9], -1.1),
        AcceptedPath(25, [17, 4], 0.3),
        AcceptedPath(26, [4], -0.3),
    ],
    [AcceptedPath(1, [17, 17], -0.5), AcceptedPath(2, [9, 4, 17, 9], 0.5)],
]


@pytest.fixture
def head(target, make_head):
    """Its draft vocabulary holds the tokens of ROWS."""
    return make_head(target, draft_vocab=128)


@pytest.fixture
def batch(target):
    return OnlineFeatures(target, TALKS).batch([0, 1])


def unroll_of(head, target):
    cos, sin = target.rotary
    return Unroll(head, embedding=target.embedding, cos=cos, sin=sin, dtype=torch.float32)


def objective_of(head, reference, target, epsilon=0.2):
    cos, sin = target.rotary
    token_loss = TrainingTimeTest(
        head,
        embedding=target.embedding,
        lm_head=target.lm_head,
        cos=cos,
        sin=sin,
        config=LossConfig(),
        dtype=torch.float32,
    )
    objective = GroupTreeObjective(token_loss, epsilon=epsilon)
    objective.refer_to(reference, unroll_of(reference, target))
    return objective


def rope(x, position, base=10000.0):
    """Textbook rotation of x [heads, hd], pairs (i, i + hd / 2)."""
    half = x.shape[-1] // 2
    angle = position / base ** (torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def slow_log_prob(head, target, ids, features, root, path):
    """One pair after the other through the head, keys in a list, as a decoder would."""
    attn, shape = head.midlayer.self_attn, head.shape
    keys, values = [], []

    def step(token, hidden, position):
        joined, residual = head.attention_input(target.embedding[token], hidden)
        q = rope(attn.q_proj(joined).view(shape.num_heads, -1), position)
        keys.append(rope(attn.k_proj(joined).view(shape.num_kv_heads, -1), position))
        values.append(attn.v_proj(joined).view(shape.num_kv_heads, -1))
        group = shape.num_heads // shape.num_kv_heads
        k = torch.stack(keys, 1).repeat_interleave(group, 0)
        v = torch.stack(values, 1).repeat_interleave(group, 0)
        weights = ((k @ q[:, :, None])[..., 0] / shape.head_dim**0.5).softmax(-1)
        output, normed = head.finish((weights[:, None] @ v).flatten(), residual)
        return output, F.log_softmax(head.lm_head(normed), -1)

    for position in range(root):
        hidden, log_probs = step(ids[position + 1], head.project(features[position]), position)
    total = torch.zeros(())
    index = {int(token): i for i, token in enumerate(head.draft_to_target)}
    for depth, token in enumerate(path):
        total = total + log_probs[index[token]]
        hidden, log_probs = step(token, hidden, root + depth)
    return total


@pytest.mark.parametrize("norm_output", [False, True])
def test_surrogate_equals_a_slow_reference(target, make_head, batch, norm_output):
    """Loss and the gradient of every parameter; ratios leave the interval on both sides, and some are clipped."""
    switches = {"draft_vocab": 128, "norm_output": norm_output}
    reference, head = make_head(target, **switches), make_head(target, **switches)
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    slow_head = copy.deepcopy(head)
    terms, ratios = [], []
    for b, row in enumerate(ROWS):
        for path in row:
            ids, features = batch.ids[b], batch.features[b]
            ours = slow_log_prob(slow_head, target, ids, features, path.root, path.tokens)
            with torch.no_grad():
                theirs = slow_log_prob(reference, target, ids, features, path.root, path.tokens)
            ratio = torch.exp((ours - theirs) / max(len(path.tokens), 1))
            limited = min(max(ratio, torch.tensor(0.98)), torch.tensor(1.02))
            terms.append(-min(ratio * path.advantage, limited * path.advantage))
            ratios.append((float(ratio.detach()), path.advantage, len(path.tokens)))
    expected = sum(terms)
    (expected * 0.3).backward()

    paths = Paths.of(ROWS, batch.ids.device)
    objective = objective_of(head, reference, target, epsilon=0.02)
    scale = torch.zeros(2)  # the token loss counts for nothing
    loss, _, sums = objective(batch, 2, scale, paths, 0.3)
    loss.backward()
    torch.testing.assert_close(sums.loss, expected.detach(), **TOLERANCE)
    torch.testing.assert_close(loss.detach(), 0.3 * expected.detach(), **TOLERANCE)
    for (name, parameter), slow in zip(head.named_parameters(), slow_head.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, slow.grad, **TOLERANCE, msg=name)
    full = [(ratio, advantage) for ratio, advantage, length in ratios if length]
    assert min(r for r, _ in full) < 0.98
    assert max(r for r, _ in full) > 1.02
    clipped = [r > 1.02 if a > 0 else r < 0.98 for r, a in full]
    assert 0 < sum(clipped) < len(clipped) == int(sums.count)
    assert int(sums.clipped) == sum(clipped)
    assert float(sums.ratio) == pytest.approx(sum(ratio for ratio, _ in full), rel=1e-4)
    assert all(parameter.grad is None for parameter in reference.parameters())


def test_token_loss_is_untouched(target, head, batch):
    """Without paths, and with paths that weigh nothing."""
    objective = objective_of(head, copy.deepcopy(head), target)
    scale = torch.tensor([0.5, 0.25])
    expected, sums = objective.token_loss(batch, 2, scale)
    for paths, path_scale in ((None, 1.0), (Paths.of(ROWS, batch.ids.device), 0.0)):
        loss, found, _ = objective(batch, 2, scale, paths, path_scale)
        assert torch.equal(loss, expected)
        assert torch.equal(found.loss, sums.loss)


def test_ratio_of_equal_heads_is_one(target, head, batch):
    """To the bit: the loss of a group is then minus its mean advantage, 0."""
    objective = objective_of(head, copy.deepcopy(head), target)
    _, _, sums = objective(batch, 1, torch.zeros(1), Paths.of(ROWS, batch.ids.device), 1.0)
    assert float(sums.ratio) == float(sums.count) == 6.0
    assert float(sums.loss) == pytest.approx(0.0, abs=1e-6)


def test_path_log_probs_ignore_padding_and_other_rows(target, head, batch):
    """A path alone has the log probability that it has among others."""
    unroll = unroll_of(head, target)
    with torch.no_grad():
        together = path_log_probs(unroll, head, batch, Paths.of(ROWS, batch.ids.device))
        for b, row in enumerate(ROWS):
            for q, place in enumerate(row):
                rows = [[], []]
                rows[b] = [place]
                alone = path_log_probs(unroll, head, batch, Paths.of(rows, batch.ids.device))
                torch.testing.assert_close(alone[b, 0], together[b, q], **TOLERANCE)
    assert float(together[0, 1]) == 0.0
