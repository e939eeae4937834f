import numpy as np
import pytest

from edgeai.collab.config.policy import ReplayConfig
from edgeai.collab.learning.replay_buffer import ReplayBuffer
from edgeai.collab.metrics.confusion import IGNORE

LABELS = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
WEIGHT = np.linspace(0.1, 1, 24, dtype=np.float32).reshape(4, 6)


def add(buffer, index, *, labels=LABELS, weight=WEIGHT, image=b"jpeg"):
    return buffer.add(
        frame_id=str(index),
        time_s=index / 10,
        image=image,
        labels=labels,
        weight=weight,
        score=0.5,
        version=0,
        importance=1.0,
    )


def filled(num, *, capacity=20, every=5, seed=0):
    buffer = ReplayBuffer(ReplayConfig(capacity=capacity, newest=capacity // 2, holdout_every=every), seed)
    for index in range(num):
        add(buffer, index)
    return buffer


def ids(items):
    return [int(item.frame_id) for item in items]


def test_labels_and_weights_come_back():
    """Labels exactly, weights to half of 1/255, and a pixel of weight 0 is not trained on."""
    weight = WEIGHT.copy()
    weight[0, 0] = 0.0
    item = add(filled(0), 0, weight=weight)
    labels, kept = item.labels_and_weight()
    expected = LABELS.copy()
    expected[0, 0] = IGNORE
    assert np.array_equal(labels, expected)
    assert kept == pytest.approx(weight, abs=0.5 / 255 + 1e-7)
    assert LABELS[0, 0] == 0  # the caller's own map is left alone


def test_newest_half_is_the_last_frames_in_order():
    buffer = filled(100)
    assert len(buffer) == 20
    assert ids(buffer.newest(10)) == list(range(90, 100))
    assert len(set(ids(buffer))) == 20
    assert max(ids(list(buffer)[:10])) < 90


def test_reservoir_is_a_uniform_sample_of_older_frames():
    """Of 40 frames that left the newest half, 10 are kept in each of 2,000 runs: each frame 500 times on average.

    Counts are binomial with sigma sqrt(2000 * 1/4 * 3/4) = 19.4; one of the 40 lies beyond 5 sigma (97) with a
    probability of at most 40 * 6e-7.
    """
    counts = np.zeros(40)
    for seed in range(2000):
        buffer = ReplayBuffer(ReplayConfig(capacity=20, newest=10), seed)
        for frame in FRAMES:
            buffer._newest.append(frame)
            if len(buffer._newest) > 10:
                buffer._offer(buffer._newest.popleft())
        counts[ids(list(buffer)[:10])] += 1
    assert counts.sum() == 20_000
    assert np.abs(counts - 500).max() < 97


FRAMES = list(filled(50, capacity=200))


def test_more_than_the_newest_are_the_youngest_that_are_left():
    """However often the reservoir has changed, its youngest come before the newest."""
    buffer = filled(200)
    assert ids(buffer) == sorted(ids(buffer))
    assert ids(buffer.newest(14)) == sorted(ids(buffer))[-14:]


def test_memory_is_bounded():
    """However long the stream: the capacity times one frame."""
    buffer, sizes = ReplayBuffer(ReplayConfig(capacity=16, newest=8), 0), set()
    noise = np.random.default_rng(0).integers(0, 8, (48, 64), dtype=np.uint8)
    for index in range(400):
        item = add(buffer, index, labels=noise, weight=np.ones((48, 64), np.float32), image=bytes(1000))
        sizes.add(item.num_bytes)
        assert buffer.num_bytes <= 16 * max(sizes)
    assert (len(buffer), buffer.num_added) == (16, 400)
    assert max(sizes) < 1000 + 48 * 64 * 2  # packed: less than two bytes a pixel


def test_every_fifth_frame_is_held_out_and_never_drawn():
    buffer = filled(60)
    held = ids(buffer.holdout())
    assert held == [index for index in ids(buffer) if index % 5 == 4]
    assert held
    rng = np.random.default_rng(0)
    drawn = {index for _ in range(200) for index in ids(buffer.sample(4, rng))}
    assert drawn == set(ids(buffer)) - set(held)
    assert set(ids(buffer.sample_all(100, rng))) == drawn


def test_batches_are_half_new_half_old():
    buffer, rng = filled(200), np.random.default_rng(0)
    for num in (2, 8, 16):
        batch = ids(buffer.sample(num, rng))
        assert len(batch) == num
        assert sum(index >= 190 for index in batch) == num // 2
    odd = ids(buffer.sample(5, rng))
    assert sum(index >= 190 for index in odd) == 3
    eight = ids(buffer.sample(8, rng))
    assert len(set(eight)) == 8  # no frame twice while there are enough


def test_batches_while_there_is_little():
    rng = np.random.default_rng(0)
    assert filled(0).sample(4, rng) == []
    assert filled(0).sample_all(4, rng) == []
    assert ids(filled(1).sample(4, rng)) == [0, 0, 0, 0]
    assert sorted(ids(filled(4).sample(4, rng))) == [0, 1, 2, 3]
    assert sorted(ids(filled(4).sample_all(9, rng))) == [0, 1, 2, 3]


def test_same_seed_same_memory():
    assert ids(filled(300, seed=1)) == ids(filled(300, seed=1))
    assert ids(filled(300, seed=1)) != ids(filled(300, seed=2))
