"""The shipped self-test: it holds, and it can fail."""

import pytest
import torch

from edgeai.core.metrics import Metrics
from edgeai.fedsplit.protocol.server_half import ServerHalf
from edgeai.fedsplit.sim import verify as module
from edgeai.fedsplit.sim.verify import FACTS, verify


@pytest.fixture(autouse=True)
def _real_model(monkeypatch):
    """The self-test uses the models of its configs."""
    from edgeai.fedsplit.models.build import build_model

    monkeypatch.setattr("edgeai.fedsplit.sim.setup.build_model", build_model)


@pytest.mark.slow
def test_all_eleven_facts_hold():
    report = verify(Metrics(None))
    assert [(check.number, check.holds) for check in report.checks] == [(number, True) for number in range(1, 12)]
    assert report.num_failed == 0


def fact(words):
    [find] = [find for text, find in FACTS if words in text]
    return find


def test_a_relay_whose_server_steps_twice_is_found_out(monkeypatch):
    """Only two-part split learning goes through ServerHalf.step, so it falls apart from the U-shape."""
    step = ServerHalf.step_merged

    def twice(self, inputs, labels):
        step(self, inputs, labels)
        return step(self, inputs, labels)

    monkeypatch.setattr(ServerHalf, "step_merged", twice)
    holds, detail = fact("U-shaped")()
    assert not holds
    assert detail.startswith("differ: U-shape by ")


def test_a_ledger_that_loses_labels_is_found_out(monkeypatch):
    from edgeai.fedsplit.protocol.ledger import Ledger
    from edgeai.fedsplit.protocol.message import Message

    whole = Ledger.charge

    def forgetful(self, number, client, direction, message):
        return whole(self, number, client, direction, Message(activations=message.activations, weights=message.weights))

    monkeypatch.setattr(Ledger, "charge", forgetful)
    holds, detail = fact("ledger is the formula")()
    assert not holds
    assert detail.endswith("bytes differ: relay, splitfed-v1, splitfed-v2")


def test_weights_that_are_not_averaged_are_found_out(monkeypatch):
    """The first client's weights instead of the mean: V1 and FedAvg still agree, one client too, SFLG's ends do not."""
    import edgeai.fedsplit.methods.federated.fedavg as fedavg

    monkeypatch.setattr(fedavg, "average", lambda states, shares: states[0])
    assert not fact("SplitFed V1 is FedAvg")()[0]
    assert fact("with one client")()[0]


def test_distances_are_the_largest():
    one, other = {"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 2.5])}
    assert list(module._distances(one, other)) == [0.5]
