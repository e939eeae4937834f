"""Updates of a tiny net that classifies colors; drift permutes the colors."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from edgeai.collab.config.policy import MinerConfig, ReplayConfig, UpdateConfig
from edgeai.collab.learning import trainer as update
from edgeai.collab.learning.trainer import Trainer, weighted_cross_entropy
from edgeai.collab.learning.version import Version
from edgeai.collab.metrics.confusion import IGNORE
from edgeai.collab.policy.miner import Miner, miner_input
from edgeai.collab.policy.scores import confidence
from edgeai.collab.wire.model_push import apply_push
from edgeai.core.errors import UsageError

HEIGHT, WIDTH = 16, 24
COLORS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]], dtype=np.uint8)


class TinyModel:
    """Pixel-wise colors to classes, behind the door of `SegModel`."""

    classes = ("red", "green", "blue")
    frozen_reason = ""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.trainable = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()

    def forward_batch(self, images):
        logits = self.trainable(images.permute(0, 3, 1, 2).float() / 255)
        return logits, logits.mean((2, 3))


def frame(index):
    """Noisy blocks of the three colors: image and labels."""
    rng = np.random.default_rng(index)
    labels = rng.integers(0, 3, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(-20, 20, (HEIGHT, WIDTH, 3))
    return np.clip(COLORS[labels].astype(int) + noise, 0, 255).astype(np.uint8), labels


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def add(trainer, index, labels=None, weight=None):
    image, truth = frame(index)
    trainer.buffer.add(
        frame_id=str(index),
        time_s=index / 10,
        image=jpeg(image),
        labels=truth if labels is None else labels,
        weight=np.ones((HEIGHT, WIDTH), np.float32) if weight is None else weight,
        score=0.5,
        version=0,
        importance=1.0,
    )


def new_trainer(*, seed=0, miner_steps=10, model=None, **config):
    miner = Miner(3, MinerConfig(steps=miner_steps, hidden=4, min_frames=1), seed=0)
    options = {"replay": ReplayConfig(capacity=40), "steps": 30, "lr": 0.02, **config}
    return Trainer(model or TinyModel(), miner, UpdateConfig(**options), seed)


def filled(num=20, **config):
    trainer = new_trainer(**config)
    for index in range(num):
        add(trainer, index)
    return trainer


def state(trainer):
    return {name: value.clone() for name, value in trainer._net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_update_learns_and_is_accepted():
    trainer = filled()
    got = trainer.update(2.0)
    assert got.accepted
    assert got.miou_before < 0.7 < 0.9 < got.miou_after
    assert (got.version.number, trainer.version.number, got.num_steps) == (1, 1, 30)
    assert got.compute_s == 2.0  # given, so that reports repeat
    assert got.num_bytes == len(got.net_push) + len(got.miner_push)


@pytest.mark.parametrize("push", ["full", "delta", "bn"])
def test_edge_and_trainer_have_identical_weights(push):
    """Push after push, applied to what the edge holds; and it predicts what the cloud's copy predicts."""
    trainer = filled(push=push, gate=False)
    edge = TinyModel()
    edge_miner = Miner(3, trainer._miner.config, seed=0)
    first = trainer.version
    for number in range(1, 4):
        got = trainer.update(float(number))
        edge.trainable.load_state_dict(apply_push(got.net_push, edge.trainable.state_dict()))
        edge_miner.load_state_dict(apply_push(got.miner_push, edge_miner.state_dict()))
        assert same(edge.trainable.state_dict(), trainer.version.net)
        assert same(edge_miner.state_dict(), trainer.version.miner)
    image = torch.from_numpy(frame(99)[0])[None]
    assert torch.equal(edge.forward_batch(image)[0], trainer._model.forward_batch(image)[0])
    assert not same(first.net, trainer.version.net)


def test_versions_are_not_modified():
    trainer = filled(gate=False)
    version = trainer.version
    kept = {name: value.clone() for name, value in version.net.items()}
    trainer.update(1.0)
    assert same(dict(version.net), kept)
    model, miner = TinyModel(seed=5), Miner(3, trainer._miner.config, seed=5)
    model.trainable.load_state_dict(dict(version.net))
    miner.load_state_dict(dict(version.miner))
    assert Version.of(0, model.trainable.state_dict(), miner.state_dict()).digest == version.digest
    assert trainer.version.digest != version.digest


def test_the_gate_rolls_back_bit_for_bit():
    """Held-out frames are labeled right, the others wrong: after learning those the net would be worse."""
    trainer = filled(num=20)
    trainer.update(2.0)  # a good net first
    for index in range(20, 60):
        labels = frame(index)[1]
        add(trainer, index, labels=labels if (index + 1) % 5 == 0 else (labels + 1) % 3)
    before, version = state(trainer), trainer.version
    got = trainer.update(6.0)
    assert not got.accepted
    assert got.miou_after < got.miou_before - 0.01
    assert got.net_push == b""
    assert same(state(trainer), before)
    assert same(dict(trainer.version.net), dict(version.net))


def test_without_the_gate_the_worse_net_is_accepted():
    trainer = filled(num=20, gate=False)
    trainer.update(2.0)
    for index in range(20, 60):
        labels = frame(index)[1]
        add(trainer, index, labels=labels if (index + 1) % 5 == 0 else (labels + 1) % 3)
    got = trainer.update(6.0)
    assert got.accepted
    assert got.miou_after < got.miou_before - 0.01


def test_a_net_that_diverged_is_taken_back():
    """Also with the gate off: what is not finite cannot be pushed."""
    trainer = filled(lr=1e30, gate=False, miner_steps=0)
    before = state(trainer)
    got = trainer.update(2.0)
    assert (got.accepted, got.net_push, got.miou_after, got.version.number) == (False, b"", None, 0)
    assert same(state(trainer), before)


def test_without_holdout_the_update_is_accepted():
    trainer = filled(num=4)
    got = trainer.update(1.0)
    assert (got.accepted, got.miou_before, got.miou_after) == (True, None, None)


def test_delta_changes_only_its_share():
    """5 % of 3 * 8 + 8 + 8 + 8 + 8 * 3 + 3 = 75 parameters are 4."""
    trainer = filled(push="delta", refresh_batchnorm=False, gate=False)
    before = state(trainer)
    got = trainer.update(2.0)
    changed = sum(int((value != before[name]).sum()) for name, value in state(trainer).items())
    assert 0 < changed <= 4
    assert len(got.net_push) < len(filled(push="full", gate=False).update(2.0).net_push)


def test_batchnorm_alone():
    """Trains only the affine parameters, and with steps 0 only the statistics move."""
    for config, expected in (
        ({"parameters": "batchnorm", "refresh_batchnorm": False}, {"1.weight", "1.bias"}),
        ({"steps": 0}, {"1.running_mean", "1.running_var"}),
    ):
        trainer = filled(gate=False, push="bn", **config)
        before = state(trainer)
        trainer.update(2.0)
        changed = {name for name, value in state(trainer).items() if not torch.equal(value, before[name])}
        assert changed == expected


@pytest.mark.parametrize(("spoils", "kept"), [(True, False), (False, True)])
def test_statistics_that_agree_less_with_the_cloud_are_taken_back(monkeypatch, spoils, kept):
    trainer = filled(num=40)
    for step in range(3):
        trainer.update(float(step))  # agreement is high now
    before = state(trainer)

    def refresh(net, *_, **__):
        net[1].running_mean.add_(100.0 if spoils else 0.0)
        return 1

    monkeypatch.setattr(update, "refresh_batchnorm", refresh)
    assert trainer._refresh() == kept
    assert all(torch.equal(value, before[name]) for name, value in state(trainer).items())


def test_an_update_without_changes_creates_no_version():
    trainer = filled(steps=0, refresh_batchnorm=False, miner_steps=0)
    got = trainer.update(2.0)
    assert (got.version.number, got.accepted, got.miner_accepted, got.num_bytes) == (0, False, False, 0)
    assert new_trainer().update(1.0).version.number == 0  # an empty buffer


def test_too_few_frames_do_not_fit_the_miner():
    trainer = filled(num=12, miner_steps=20)
    trainer._miner.config = trainer._miner.config.model_copy(update={"min_frames": 11})
    before = {name: value.clone() for name, value in trainer._miner.state_dict().items()}
    assert not trainer.update(2.0).miner_accepted  # 10 frames, since 2 of the 12 are held out
    assert all(torch.equal(value, before[name]) for name, value in trainer._miner.state_dict().items())


def test_the_miner_follows_the_net():
    """Trained on the agreements of the net that stands, its error on fresh frames falls."""
    trainer = filled(num=40, miner_steps=200, steps=0, refresh_batchnorm=False)
    rows, qs = [], []
    for index in range(100, 130):
        image, truth = frame(index)
        with torch.no_grad():
            logits, pooled = trainer._model.forward_batch(torch.from_numpy(image)[None])
        rows.append(miner_input(pooled[0], confidence(logits[0].softmax(0))))
        qs.append(float((logits[0].argmax(0).numpy() == truth).mean()))
    inputs, q = torch.stack(rows), torch.tensor(qs)
    with torch.no_grad():
        before = float((torch.sigmoid(trainer._miner(inputs)) - q).abs().mean())
    got = trainer.update(4.0)
    with torch.no_grad():
        after = float((torch.sigmoid(trainer._miner(inputs)) - q).abs().mean())
    assert got.miner_accepted
    assert not got.accepted
    assert got.net_push == b""
    assert after < before


@pytest.mark.parametrize("gate", [True, False])
def test_a_miner_that_got_worse_is_taken_back(gate):
    """Held-out frames agree with the net's own answers, the others with none of them."""
    trainer = new_trainer(steps=0, refresh_batchnorm=False, miner_steps=100, gate=gate)
    for index in range(20):
        image, _ = frame(index)
        with torch.no_grad():
            own = trainer._model.forward_batch(torch.from_numpy(image)[None])[0][0].argmax(0).byte().numpy()
        add(trainer, index, labels=own if (index + 1) % 5 == 0 else (own + 1) % 3)
    before = {name: value.clone() for name, value in trainer._miner.state_dict().items()}
    got = trainer.update(2.0)
    assert got.miner_accepted == (not gate)
    assert same(trainer._miner.state_dict(), before) == gate


def test_when_an_update_is_due():
    trainer = new_trainer(every_frames=3, every_s=10.0)
    assert not trainer.due(100.0)  # nothing new
    add(trainer, 0)
    assert not trainer.due(9.9)
    assert trainer.due(10.0)
    add(trainer, 1)
    add(trainer, 2)
    assert trainer.due(0.3)
    trainer.update(0.3)
    assert not trainer.due(10.2)
    add(trainer, 3)
    assert trainer.due(10.3)


def test_same_seed_same_versions():
    digests = []
    for seed in (1, 1, 2):
        trainer = filled(seed=seed, gate=False)
        trainer.update(1.0)
        trainer.update(2.0)
        digests.append(trainer.version.digest)
    assert digests[0] == digests[1] != digests[2]


def test_measured_compute_time():
    got = filled(compute_s=None).update(1.0)
    assert 0 < got.compute_s < 60


def test_loss_by_hand():
    """Pixels with weights 1, 0.5, 0 and one that is ignored: (1 * l0 + 0.5 * l1) / 1.5."""
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[[0, 2], [1, IGNORE]]])
    weights = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])
    log_probs = F.log_softmax(logits, 1)
    expected = -(log_probs[0, 0, 0, 0] + 0.5 * log_probs[0, 2, 0, 1]) / 1.5
    assert float(weighted_cross_entropy(logits, labels, weights)) == pytest.approx(float(expected))
    nothing = torch.full((1, 2, 2), IGNORE)
    assert float(weighted_cross_entropy(logits, nothing, weights)) == 0.0


def test_a_frozen_model_is_refused():
    model = TinyModel()
    model.trainable = None
    model.frozen_reason = "its weights are constants"
    with pytest.raises(UsageError) as error:
        new_trainer(model=model)
    assert error.value.message == "the edge model cannot be adapted: its weights are constants"
    assert error.value.hint == "use a trainable edge model, or a strategy that does not adapt it"


def test_result_is_frozen():
    got = filled(steps=0).update(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        got.version = 3
