"""Losses against numbers worked out by hand, and the training-time test against a slow unrolled reference."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.config.train import LossConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.train_batch import TrainBatch, queries_of
from edgeai.spec.target.attention import rotary_table
from edgeai.spec.training import losses
from edgeai.spec.training.losses import ProjectedLoss, TrainingTimeTest, lk_loss, soft_cross_entropy

ROPE_THETA = 10000.0  # of the tiny target
# float32 sums of some hundred terms in another order differ by a few 1e-6 of their size
TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}

# several lengths; two answers; an answer that opens the sequence; one too short to draft in; one at the very end
TALKS = [
    Conversation("two answers", tuple(range(24)), ((5, 10), (14, 22)), 0.0),
    Conversation("opens", tuple(range(11)), ((0, 7),), 0.0),
    Conversation("short", tuple(range(17)), ((9, 10), (12, 17)), 0.0),
]


# ----------------------------------------------------------------------------------------------------------------------
# Row losses


def test_soft_cross_entropy_by_hand():
    """q = softmax(0, ln 3) = (1/4, 3/4). With p = (1/2, 1/2): (ln 4 + ln 4/3) / 2. With p = (0, 1): ln 4/3."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    found = soft_cross_entropy(logits, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([(math.log(4) + math.log(4 / 3)) / 2, math.log(4 / 3)]))


def test_lk_loss_by_hand():
    """q = (1/4, 3/4), p = (1/2, 1/2): acceptance 1/4 + 1/2 = 3/4, TV = 1/4, KL = ln(4/3) / 2.

    decay 2: lambda = exp(-1.5). decay 0: lambda = 1, the KL alone. p = q: nothing to lose.
    """
    logits, p = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.5, 0.5]])
    kl, weight = math.log(4 / 3) / 2, math.exp(-1.5)
    assert lk_loss(logits, p, decay=2.0).item() == pytest.approx(weight * kl + (1 - weight) / 4, rel=1e-5)
    assert lk_loss(logits, p, decay=0.0).item() == pytest.approx(kl, rel=1e-5)
    assert lk_loss(logits, torch.tensor([[0.25, 0.75]]), decay=2.0).item() == pytest.approx(0.0, abs=1e-6)


def test_lk_weight_gets_no_gradient():
    """As in the paper lambda is a constant: the gradient is that of fixed 0.223 KL + 0.777 TV.

    dKL/dz = q - p = (-1/4, 1/4). TV = 1 - q_1 - 1/2, so dTV/dz = (-q_1 q_2, q_1 q_2) = (-3/16, 3/16).
    """
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    lk_loss(logits, torch.tensor([[0.5, 0.5]]), decay=2.0).sum().backward()
    weight = math.exp(-1.5)
    slope = weight / 4 + (1 - weight) * 3 / 16
    torch.testing.assert_close(logits.grad, torch.tensor([[-slope, slope]]))


@pytest.mark.parametrize("kind", ["soft_ce", "lk"])
def test_projected_loss_equals_plain_autograd(kind, monkeypatch):
    """Five chunks, the last one not full."""
    monkeypatch.setattr(losses, "CHUNK_ROWS", 8)
    torch.manual_seed(0)
    row_loss = losses.build_row_loss(LossConfig(kind=kind))
    hidden, weight = torch.randn(37, 16), torch.randn(23, 16)
    probs, row_weight = torch.randn(37, 23).softmax(-1), torch.rand(37)
    plain = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    expected = (row_loss(plain[0] @ plain[1].T, probs) * row_weight).sum()
    (expected * 3).backward()
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    found, best = ProjectedLoss.apply(*ours, probs, row_weight, row_loss, torch.float32)
    (found * 3).backward()
    torch.testing.assert_close(found, expected)
    assert best.tolist() == (hidden @ weight.T).argmax(-1).tolist()
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5)


def test_projected_loss_of_no_rows():
    hidden, weight = torch.randn(0, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    total, best = ProjectedLoss.apply(
        hidden, weight, torch.zeros(0, 3), torch.zeros(0), soft_cross_entropy, torch.float32
    )
    total.backward()
    assert total == 0
    assert best.shape == (0,)
    assert not weight.grad.any()


# ----------------------------------------------------------------------------------------------------------------------
# Training-time test


def _batch(target, talks=TALKS, *, seed=0) -> TrainBatch:
    """Random text, features and final states; what the target says follows from the final states."""
    generator = torch.Generator().manual_seed(seed)
    size, vocab = target.shape.hidden_size, target.shape.vocab_size
    shape = (len(talks), max(len(talk.ids) for talk in talks))
    hidden = torch.randn(*shape, size, generator=generator)
    return TrainBatch(
        torch.randint(vocab, shape, generator=generator),
        torch.randn(*shape, 3 * size, generator=generator),
        hidden,
        (hidden @ target.lm_head.T).argmax(-1),
        *queries_of(talks, torch.device("cpu")),
    )


def _unit(target, head, config: LossConfig) -> TrainingTimeTest:
    return TrainingTimeTest(
        head,
        embedding=target.embedding,
        lm_head=target.lm_head,
        cos=target.decoder.cos,
        sin=target.decoder.sin,
        config=config,
        dtype=torch.float32,
    )


def _rope(x: Tensor, position: int) -> Tensor:
    """Rotate pairs (x[j], x[j + hd/2]) of one position's heads [n, hd] by position * theta^(-2 j / hd)."""
    half = x.shape[-1] // 2
    out = torch.empty_like(x)
    angle = position * ROPE_THETA ** (-torch.arange(half) / half)
    out[:, :half] = x[:, :half] * angle.cos() - x[:, half:] * angle.sin()
    out[:, half:] = x[:, half:] * angle.cos() + x[:, :half] * angle.sin()
    return out


def _draft_unrolled(target, head, ids: Tensor, features: Tensor, t: int, num_steps: int) -> list[Tensor]:
    """States for lm_head of the drafts made at t, step by step, each with its whole attention written out.

    As decoding does it: the stable keys are (x[s+1], a[s]) at positions s <= t; step i >= 1 adds the pair of the token
    x[t+1+i] and the head's own output of the step before, at position t + i.
    """
    s, attention = head.shape, head.midlayer.self_attn
    keys, values = [], []
    outputs = []
    hidden = torch.zeros(0)

    def see(token: int, hidden: Tensor, position: int):
        joined, residual = head.attention_input(target.embedding[token], hidden)
        keys.append(_rope(attention.k_proj(joined).view(s.num_kv_heads, s.head_dim), position))
        values.append(attention.v_proj(joined).view(s.num_kv_heads, s.head_dim))
        return _rope(attention.q_proj(joined).view(s.num_heads, s.head_dim), position), residual

    for position in range(t + 1):
        query, residual = see(ids[position + 1], head.project(features[position]), position)
    for step in range(num_steps):
        if step:
            if t + 1 + step >= len(ids):
                break
            query, residual = see(ids[t + 1 + step], hidden, t + step)
        heads = []
        for n in range(s.num_heads):
            kv = n // (s.num_heads // s.num_kv_heads)
            scores = torch.stack([query[n] @ key[kv] for key in keys]) / math.sqrt(s.head_dim)
            heads.append(scores.softmax(0) @ torch.stack([value[kv] for value in values]))
        hidden, normed = head.finish(torch.cat(heads), residual)
        outputs.append(normed)
    return outputs


def _row_loss_unrolled(config: LossConfig, logits: Tensor, p: Tensor) -> Tensor:
    if config.kind == "soft_ce":
        return F.cross_entropy(logits[None], p[None])
    q = logits.softmax(-1)
    accept = torch.minimum(p, q).sum()
    weight = math.exp(-config.lk_decay * accept.item())
    return weight * F.kl_div(q.log(), p, reduction="sum") + (1 - weight) * (p - q).abs().sum() / 2


def _reference(target, head, config: LossConfig, batch: TrainBatch, talks, num_steps: int, scale: Tensor):
    kept = [token for token in range(target.shape.vocab_size) if head.t2d[token]]
    names = ("loss", "hits", "run_hits", "count")
    sums = {name: [0.0] * num_steps for name in names}
    total = torch.zeros(())
    for row, talk in enumerate(talks):
        answer_of = {at: number for number, (begin, end) in enumerate(talk.answers) for at in range(begin, end)}
        for t in range(len(talk.ids)):
            in_run = True
            drafts = None
            for step in range(num_steps):
                answer = answer_of.get(t + 1)
                if answer is None or answer_of.get(t + 2 + step) != answer:
                    break
                if drafts is None:
                    drafts = _draft_unrolled(target, head, batch.ids[row], batch.features[row], t, num_steps)
                full = target.lm_head @ batch.hidden[row, t + 1 + step]
                truth = int(full.argmax())
                logits = head.lm_head(drafts[step])
                hit = kept[int(logits.argmax())] == truth
                in_run = in_run and hit
                if truth in kept:
                    loss = _row_loss_unrolled(config, logits, full[kept].softmax(-1))
                    total = total + scale[step] * loss
                    sums["loss"][step] += loss.item()
                sums["hits"][step] += hit
                sums["run_hits"][step] += in_run
                sums["count"][step] += 1
    return total, SimpleNamespace(**sums)


@pytest.mark.parametrize(
    ("num_steps", "kind", "switches"),
    [
        (1, "soft_ce", {}),
        (2, "soft_ce", {"fc_norm": False}),
        (3, "lk", {"norm_output": False}),
        (4, "soft_ce", {"norm_before_residual": True}),
        (4, "lk", {"fc_norm": False, "norm_output": False}),
    ],
    ids=str,
)
def test_training_time_test_equals_the_unrolled_reference(target, make_head, num_steps, kind, switches):
    """Loss, every gradient and every count; grouped queries (4 on 2), 40 of 128 tokens in the draft vocabulary."""
    config = LossConfig(kind=kind, ttt_steps=num_steps)
    head = make_head(target, draft_vocab=40, **switches)
    batch = _batch(target)
    scale = torch.tensor([0.8**i / (3 + i) for i in range(num_steps)])

    expected, expected_sums = _reference(target, head, config, batch, TALKS, num_steps, scale)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in head.named_parameters()}
    head.zero_grad()
    found, sums = _unit(target, head, config)(batch, num_steps, scale)
    found.backward()

    torch.testing.assert_close(found, expected, **TOLERANCE)
    for name, p in head.named_parameters():
        assert gradients[name].abs().max() > 1e-4, f"{name}: nothing to compare"
        torch.testing.assert_close(p.grad, gradients[name], **TOLERANCE, msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(sums.loss, torch.tensor(expected_sums.loss), **TOLERANCE)
    for name in ("hits", "run_hits", "count"):
        assert getattr(sums, name).tolist() == getattr(expected_sums, name)


def test_rows_that_count(target, make_head):
    """By hand, of TALKS: an answer of n tokens gives n - 1 - i rows at step i, one less where it opens the text.

    Step 0: 4 + 7, 5, 0 + 4; step 1: 3 + 6, 4, 3; step 2: 2 + 5, 3, 2.
    """
    head = make_head(target)
    _, sums = _unit(target, head, LossConfig())(_batch(target), 3, torch.ones(3))
    assert sums.count.tolist() == [20, 16, 12]


def test_rows_outside_the_draft_vocabulary_count_as_misses_and_teach_nothing(target, make_head):
    head = make_head(target, draft_vocab=40)
    outside = int((~head.t2d).nonzero()[0])
    batch = _batch(target)
    batch = replace(batch, best=torch.full_like(batch.best, outside))
    total, sums = _unit(target, head, LossConfig())(batch, 2, torch.ones(2))
    total.backward()
    assert total == 0
    assert not any(p.grad.any() for p in head.parameters())
    assert (sums.hits.tolist(), sums.run_hits.tolist(), sums.count.tolist()) == ([0, 0], [0, 0], [20, 16])


def test_padding_changes_nothing(target, make_head):
    """A batch equals its sequences one by one."""
    module = _unit(target, make_head(target), LossConfig())
    batch, scale = _batch(target), torch.ones(3)
    together, sums = module(batch, 3, scale)
    alone = []
    for row, talk in enumerate(TALKS):
        length = len(talk.ids)
        one = TrainBatch(
            batch.ids[row : row + 1, :length],
            batch.features[row : row + 1, :length],
            batch.hidden[row : row + 1, :length],
            batch.best[row : row + 1, :length],
            *queries_of([talk], torch.device("cpu")),
        )
        alone.append(module(one, 3, scale))
    torch.testing.assert_close(together, sum(total for total, _ in alone), **TOLERANCE)
    assert sums.count.tolist() == sum(stats.count for _, stats in alone).tolist()


def test_answer_up_to_the_last_position_of_the_model(target, make_head):
    """The text is as long as the RoPE table; the last drafts' positions lie behind it and must not matter or fail."""
    length = target.decoder.cos.shape[0]
    talks = [Conversation("full", tuple(range(length)), ((length - 8, length),), 0.0)]
    head = make_head(target)
    batch, steps, scale = _batch(target, talks), 4, torch.ones(4)
    found, sums = _unit(target, head, LossConfig())(batch, steps, scale)
    expected, _ = _reference(target, head, LossConfig(), batch, talks, steps, scale)
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert sums.count.tolist() == [7, 6, 5, 4]


def _adam(module: TrainingTimeTest, make_batch, num_steps: int, rounds: int) -> list[float]:
    """Train the head for some rounds; accuracy by step on a fresh batch."""
    optimizer = torch.optim.Adam(module.head.parameters(), lr=5e-3)
    for round_ in range(rounds):
        optimizer.zero_grad()
        loss, sums = module(make_batch(round_), num_steps, 1 / torch.full((num_steps,), 300.0))
        loss.backward()
        optimizer.step()
    _, sums = module(make_batch(-1), num_steps, torch.ones(num_steps))
    return (sums.hits / sums.count).tolist()


def _synthetic(vocab: int, size: int):
    """A target without layers: orthogonal embeddings, its logits are 8 at the token its state stands for."""
    basis = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1))).Q[:vocab]
    cos, sin = rotary_table(ROPE_THETA ** (-torch.arange(8) / 8), 1.0, 64, torch.float32)
    shape = SimpleNamespace(
        vocab_size=vocab,
        hidden_size=size,
        intermediate_size=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        rms_norm_eps=1e-5,
    )
    return SimpleNamespace(
        shape=shape,
        aux_layers=(0, 1, 2),
        embedding=basis,
        lm_head=8 * basis,
        decoder=SimpleNamespace(cos=cos, sin=sin),
    )


def test_draft_sees_the_token_it_continues(make_head):
    """The next token is f(token), text is random and features say nothing: only x[t+1+i] tells the label of step i.

    Any other alignment of tokens and labels stays near 1/24.
    """
    target = _synthetic(24, 64)
    successor = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    talks = [Conversation(str(n), tuple(range(24)), ((2, 24),), 0.0) for n in range(8)]

    def make_batch(seed: int) -> TrainBatch:
        generator = torch.Generator().manual_seed(seed + 10)
        ids = torch.randint(24, (8, 24), generator=generator)
        best = successor[ids]
        noise = torch.randn(8, 24, 192, generator=generator)
        return TrainBatch(ids, noise, target.embedding[best], best, *queries_of(talks, ids.device))

    head = make_head(target, draft_vocab=24).train()
    accuracy = _adam(_unit(target, head, LossConfig()), make_batch, 3, 120)
    assert min(accuracy) > 0.95, accuracy


def test_draft_sees_the_feature_before_its_token(make_head):
    """The token after x[t+1] is written in the feature a[t] and nowhere else (text and other features are random)."""
    target = _synthetic(24, 64)
    talks = [Conversation(str(n), tuple(range(24)), ((2, 24),), 0.0) for n in range(8)]

    def make_batch(seed: int) -> TrainBatch:
        generator = torch.Generator().manual_seed(seed + 10)
        ids, secret = torch.randint(24, (2, 8, 24), generator=generator)
        features = torch.randn(8, 24, 192, generator=generator) * 0.1
        features[..., :64] += target.embedding[secret] * 8
        best = secret.roll(1, 1)  # after position t + 1 comes the secret of a[t]
        return TrainBatch(ids, features, target.embedding[best], best, *queries_of(talks, ids.device))

    head = make_head(target, draft_vocab=24).train()
    assert _adam(_unit(target, head, LossConfig()), make_batch, 1, 150)[0] > 0.95
