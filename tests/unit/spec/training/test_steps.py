"""The optimizer steps of a run: batches of an epoch, their order, and too few of them."""

import pytest

from edgeai.core.errors import UsageError
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.training import steps
from edgeai.spec.training.steps import epoch_batches
from edgeai.spec.training.train import run_train


def _talks(lengths):
    return [Conversation(str(n), (0,) * length, ((1, length),), 0.0) for n, length in enumerate(lengths)]


def test_epoch_batches():
    """Each conversation once, within the limit, padded little, in another order each epoch; same seed, same batches."""
    talks = _talks([5 + (37 * n) % 90 for n in range(600)])
    epochs = [epoch_batches(talks, 400, seed, epoch) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert epochs[0] == epochs[1]
    assert epochs[0] != epochs[2] != epochs[3] != epochs[0]
    for batches in epochs:
        assert sorted(n for batch in batches for n in batch) == list(range(600))
        padded = [len(batch) * max(len(talks[n].ids) for n in batch) for batch in batches]
        assert max(padded) <= 400
        assert sum(padded) < 1.15 * sum(len(talk.ids) for talk in talks)
    lengths = [len(talks[batch[0]].ids) for batch in epochs[0]]
    assert lengths != sorted(lengths)
    assert epoch_batches(_talks([900]), 400, 0, 0) == [[0]]  # longer than the limit, but not lost


def test_every_epoch_has_an_order_of_its_own(train_config, make_run, monkeypatch):
    asked = []
    monkeypatch.setattr(steps, "epoch_batches", lambda *args: asked.append(args[2:]) or epoch_batches(*args))
    cfg = train_config(epochs=2, seed=5)
    run_train(cfg, make_run(cfg))
    assert asked == [(5, 0), (5, 1)]


def test_too_few_micro_batches(train_config, make_run):
    cfg = train_config(optim={"grad_accum": 1000})
    with pytest.raises(UsageError, match=r"micro-batches an epoch do not fill optim\.grad_accum 1000"):
        run_train(cfg, make_run(cfg))
