"""Cached features against online ones and against plain passes of the target; which positions count, by brute force."""

import dataclasses
import json
import os
import random
import subprocess
import sys
import threading

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import num_bytes_below
from edgeai.core.metrics import Metrics
from edgeai.spec.data import features
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.features import CachedFeatures, OnlineFeatures, cache_bytes, cache_features
from edgeai.spec.data.train_batch import pack, queries_of, query_positions, step_counts

QUIET = Metrics(None)
CPU = torch.device("cpu")


def _random_talks(count, *, seed=0, longest=60):
    """Conversations of several answers, some of one token, some that open or close the text."""
    rng = random.Random(seed)
    talks = []
    for number in range(count):
        length = rng.randint(4, longest)
        cuts = sorted(rng.sample(range(length + 1), 2 * rng.randint(1, min(3, length // 2))))
        answers = tuple(zip(cuts[::2], cuts[1::2], strict=True))
        talks.append(Conversation(str(number), tuple(rng.randrange(128) for _ in range(length)), answers, 0.0))
    return talks


TALKS = _random_talks(13)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(features, "SHARD_TOKENS", 100)


def _cache(target, folder, metrics=QUIET, talks=TALKS):
    return cache_features(target, talks, folder=folder, batch_tokens=128, metrics=metrics)


def _assert_same(found, expected):
    for name in ("ids", "best", "queries", "query_ends"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    for name in ("features", "hidden"):
        # another batch shape sums in another order
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------------------
# Which positions count


def _counted(talk, step):
    """Positions t whose draft of this step counts: x[t+1] and x[t+2+step] lie in one answer."""
    answer_of = {at: number for number, (begin, end) in enumerate(talk.answers) for at in range(begin, end)}
    return [t for t in range(len(talk.ids)) if t + 1 in answer_of and answer_of.get(t + 2 + step) == answer_of[t + 1]]


def test_query_positions_against_brute_force():
    for talk in _random_talks(60, seed=1):
        positions = query_positions(talk)
        assert [t for t, _ in positions] == _counted(talk, 0)
        for step in range(5):
            assert [t for t, end in positions if t + 2 + step < end] == _counted(talk, step)


def test_step_counts_against_brute_force():
    talks = _random_talks(60, seed=2)
    expected = [sum(len(_counted(talk, step)) for talk in talks) for step in range(8)]
    assert step_counts(talks, 8).tolist() == expected
    assert expected[0] > expected[7] > 0


def test_queries_are_padded_with_rows_that_never_count():
    """By hand: answer [2, 5) of the first gives t = 1, 2; the second's single token gives none."""
    talks = [Conversation("a", (0,) * 6, ((2, 5),), 0.0), Conversation("b", (0,) * 4, ((3, 4),), 0.0)]
    queries, ends = queries_of(talks, CPU)
    assert queries.tolist() == [[1, 2], [0, 0]]
    assert ends.tolist() == [[5, 5], [0, 0]]
    assert queries_of(talks[1:], CPU)[0].tolist() == [[0]]


def test_pack():
    """By hand: rows are as wide as their longest: 2 x 3 fits into 7, 3 x 3 does not; the 9 stands alone."""
    assert pack([3, 3, 3, 9, 1, 2], 7) == [[0, 1], [2], [3], [4, 5]]
    assert pack([], 7) == []


# ----------------------------------------------------------------------------------------------------------------------
# What the target said


def test_online_features_are_the_targets_own(target):
    """Row by row against a prefill of the conversation alone, and its choice against the logits there."""
    batch = OnlineFeatures(target, TALKS).batch([4, 0, 7])
    for row, number in enumerate([4, 0, 7]):
        ids = TALKS[number].ids
        assert batch.ids[row].tolist() == [*ids, *[0] * (batch.ids.shape[1] - len(ids))]
        alone = target.prefill(ids, target.new_cache(len(ids)))
        torch.testing.assert_close(batch.features[row, : len(ids)], alone.features, rtol=1e-4, atol=1e-4)
        for t in range(len(ids)):
            logits = target.prefill(ids[: t + 1], target.new_cache(t + 1)).logits[0]
            assert logits.argmax() == batch.best[row, t]
            torch.testing.assert_close(target.lm_head @ batch.hidden[row, t], logits, rtol=1e-4, atol=1e-4)


def test_cached_equals_online(target, tmp_path, small_shards):
    online, cached = OnlineFeatures(target, TALKS), _cache(target, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    numbers = list(range(len(TALKS)))
    random.Random(3).shuffle(numbers)
    for batch in (numbers[:5], numbers[5:6], numbers[6:]):
        found, expected = cached.batch(batch), online.batch(batch)
        for row, number in enumerate(batch):  # online runs over the padding too, where nobody looks
            length = len(TALKS[number].ids)
            for name in ("features", "hidden", "best"):
                getattr(expected, name)[row, length:] = 0
        _assert_same(found, expected)
    _assert_same(CachedFeatures(tmp_path, TALKS, CPU).batch(numbers), cached.batch(numbers))


class _Interrupt:
    """A listener like Ctrl-C after the second shard."""

    def __init__(self):
        self.heard = 0

    def on_progress(self, task, done, total, *, unit, fields):
        self.heard += 1
        if self.heard == 2:
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


def _shards(folder):
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.glob("*.safetensors")}


def test_interrupted_writing_keeps_finished_shards(target, tmp_path, small_shards):
    whole = _cache(target, tmp_path / "whole")
    folder = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        _cache(target, folder, Metrics(None, listener=_Interrupt()))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (folder / f"00002.{gone.pid}.partial").write_bytes(b"torn")  # as a kill leaves it
    before = _shards(folder)
    assert sorted(before) == ["00000.safetensors", "00001.safetensors"]
    resumed = _cache(target, folder)
    after = _shards(folder)
    assert {name: after[name] for name in before} == before
    assert not list(folder.glob("*.partial"))
    numbers = list(range(len(TALKS)))
    _assert_same(resumed.batch(numbers), whole.batch(numbers))


def test_disk_full_leaves_the_run_resumable(target, tmp_path, small_shards, monkeypatch):
    """The third shard breaks off half written."""
    written = []

    def full(tensors, path):
        written.append(path)
        if len(written) == 3:
            path.write_bytes(b"half a shard")
            raise OSError(28, "No space left on device")
        real(tensors, path)

    real = features.save_file
    with monkeypatch.context() as patch:
        patch.setattr(features, "save_file", full)
        with pytest.raises(EdgeAIError) as caught:
            _cache(target, tmp_path)
    assert caught.value.message == f"cannot write features to {tmp_path}: [Errno 28] No space left on device"
    assert caught.value.hint == "free some space and continue with --resume, or set data.features=online"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["00000.safetensors", "00001.safetensors", "index.json"]
    cached = _cache(target, tmp_path)
    numbers = list(range(len(TALKS)))
    whole = _cache(target, tmp_path / "whole")
    _assert_same(cached.batch(numbers), whole.batch(numbers))


# ----------------------------------------------------------------------------------------------------------------------
# A folder that several runs share


def test_a_second_run_reads_what_the_first_wrote(target, tmp_path, small_shards, monkeypatch):
    first = _cache(target, tmp_path)
    monkeypatch.setattr(type(target), "features_and_choices", None)  # not called
    _assert_same(_cache(target, tmp_path).batch([3, 1]), first.batch([3, 1]))


@pytest.mark.parametrize("change", ["text", "order", "layers", "target", "dtype"])
def test_features_of_something_else(target, tmp_path, small_shards, monkeypatch, change):
    """Refused in one line, and left alone."""
    _cache(target, tmp_path)
    before, talks = _shards(tmp_path), list(TALKS)
    if change == "text":
        talks[4] = dataclasses.replace(talks[4], ids=(*talks[4].ids[:-1], 127))
    elif change == "order":
        talks.reverse()
    else:
        name, value = {
            "layers": ("_aux_layers", (0, 1, 2)),
            "target": ("fingerprint", "x"),
            "dtype": ("dtype", torch.bfloat16),
        }[change]
        monkeypatch.setattr(target, name, value)
    with pytest.raises(UsageError) as caught:
        _cache(target, tmp_path, talks=talks)
    assert caught.value.message == f"{tmp_path} contains features of other text, another target or other layers"
    assert caught.value.hint == "set data.features_dir to another folder, or leave it empty"
    assert _shards(tmp_path) == before


@pytest.mark.parametrize("index", [None, '{"shards": []}', "torn"])
def test_shards_of_unknown_origin_are_computed_again(target, tmp_path, small_shards, index):
    """Whoever wrote them said nothing of the text."""
    right = _cache(target, tmp_path).batch([0, 5, 12])
    _cache(target, tmp_path / "other", talks=[dataclasses.replace(t, ids=t.ids[::-1]) for t in TALKS])
    for file in (tmp_path / "other").glob("*.safetensors"):
        file.replace(tmp_path / file.name)
    (tmp_path / "index.json").unlink()
    if index:
        (tmp_path / "index.json").write_text(index)
    _assert_same(_cache(target, tmp_path).batch([0, 5, 12]), right)


def test_two_at_once(target, tmp_path, small_shards, monkeypatch):
    """Another writer finishes everything while this one is at its first shard; nobody sees half a file."""
    started, real = [], features._shard_tensors

    def slow(*args):
        if not started:
            started.append(True)
            other = threading.Thread(target=lambda: _cache(target, tmp_path))
            other.start()
            other.join()
        return real(*args)

    (tmp_path / f"00001.{os.getppid()}.partial").write_bytes(b"being written")  # by a process that lives
    monkeypatch.setattr(features, "_shard_tensors", slow)
    cached = _cache(target, tmp_path)
    numbers = list(range(len(TALKS)))
    whole = _cache(target, tmp_path / "whole")
    _assert_same(cached.batch(numbers), whole.batch(numbers))
    assert [file.read_bytes() for file in tmp_path.glob("*.partial")] == [b"being written"]


def test_progress_tells_tokens(target, tmp_path, small_shards):
    heard = []
    ear = _Interrupt()
    ear.on_progress = lambda task, done, total, *, unit, fields: heard.append((task, done, total, unit))
    _cache(target, tmp_path, Metrics(None, listener=ear))
    total = sum(len(talk.ids) for talk in TALKS)
    assert heard[-1] == ("features", total, total, "tokens")
    assert [done for _, done, _, _ in heard] == sorted({done for _, done, _, _ in heard})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_promised_size_is_the_size(make_hf, make_target, tmp_path, dtype):
    """Within 3 per cent: headers and the index come on top."""
    target = make_target(make_hf(), dtype=dtype)
    talks = _random_talks(40, seed=5, longest=150)
    _cache(target, tmp_path, talks=talks)
    assert json.loads((tmp_path / "index.json").read_text())["shards"]
    assert num_bytes_below(tmp_path) == pytest.approx(cache_bytes(target, talks), rel=0.03)
