import pytest
import torch
from torch.nn import functional as F

from edgeai.fedsplit.config.optim import OptimConfig
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import clone
from edgeai.fedsplit.data.samples import Samples
from edgeai.fedsplit.protocol.batching import derived_seed, num_batches
from edgeai.fedsplit.protocol.client_half import ClientContext, PrivateClient, SplitClient
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.part import Part
from edgeai.fedsplit.protocol.server_half import ServerHalf

from ..conftest import digits, tiny_model

LR = 0.1


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SplitModel(tiny_model(), (1, 8, 8))


def context(samples, **changes):
    settings = {"client": 2, "round": 3, "seed": 5, "batch": 16, "epochs": 1, "optim": OptimConfig(lr=LR), **changes}
    return ClientContext(samples=samples, **settings)


def client(model, samples, half=SplitClient, **changes):
    part = model.copy().part(0, 1)
    return half(context(samples, **changes), {"client": Part(part, model.cost(0, 1))})


def answer(half, op, message=None):
    return list(half.handle(op, message or Message()))


def test_a_round_sees_every_sample_once_an_epoch(model):
    _, [samples, *_] = digits()
    half = client(model, samples, epochs=2)
    rows = torch.cat([indices for indices, *_ in half.batches()])
    assert len(rows) == 80
    assert rows[:40].sort().values.tolist() == rows[40:].sort().values.tolist() == list(range(40))
    assert rows[:40].tolist() != rows[40:].tolist()
    assert half.num_batches == num_batches(40, 16, 2) == 6


def test_the_order_depends_on_seed_client_and_round_alone(model):
    _, [samples, *_] = digits()

    def order(**changes):
        return torch.cat([indices for indices, *_ in client(model, samples, **changes).batches()]).tolist()

    assert order() == order()
    others = [order(seed=6), order(client=1), order(round=4)]
    assert all(other != order() for other in others)


def test_two_halves_step_like_the_whole_model(model):
    _, [samples, *_] = digits()
    whole = model.copy().model
    optimizer = torch.optim.SGD(whole.parameters(), lr=LR)
    server = ServerHalf(model.copy(), 1, OptimConfig(lr=LR))
    half = client(model, samples)
    order = [indices for indices, *_ in client(model, samples).batches()]
    message = Message()
    for rows in order:
        [reply] = answer(half, "step", message)
        step = server.step(1, reply.activations["z"], reply.labels["y"])
        message = Message(gradients={"z": step.gradient})
        optimizer.zero_grad()
        loss = F.cross_entropy(whole(samples.x[rows]), samples.y[rows])
        loss.backward()
        optimizer.step()
        assert torch.equal(step.loss, loss.detach())
    [end] = answer(half, "unload", message)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, end.weights[name] if name.startswith("conv1") else server.weights()[name])


def test_after_the_last_batch_there_is_nothing(model):
    _, [samples, *_] = digits((16,))
    half = client(model, samples)
    assert not answer(half, "step")[0].is_empty
    assert answer(half, "step", Message(gradients={"z": torch.zeros(16, 4, 4, 4)}))[0].is_empty


def test_flops_and_memory_are_counted(model):
    _, [samples, *_] = digits((20,))
    half = client(model, samples)
    answer(half, "step")
    cost = model.cost(0, 1)
    assert half.take_flops() == 16 * cost.forward_flops
    assert half.take_flops() == 0
    answer(half, "step", Message(gradients={"z": torch.zeros(16, 4, 4, 4)}))
    assert half.take_flops() == 16 * cost.backward_flops + 4 * cost.forward_flops
    assert half.held_bytes == round(16 * cost.saved_bytes)
    assert half.peak_bytes == 2 * 4 * 40 + half.held_bytes  # weights and gradients of 40 parameters


def test_private_weights_stay_on_the_device(model):
    _, [samples, *_] = digits()
    half = client(model, samples, PrivateClient)
    answer(half, "step")
    assert answer(half, "end", Message(gradients={"z": torch.ones(16, 4, 4, 4)})) == []
    later = client(model, samples, PrivateClient, kept=half.kept)
    assert torch.equal(later.weights("client")["conv1.0.weight"], half.weights("client")["conv1.0.weight"])
    assert not torch.equal(later.weights("client")["conv1.0.weight"], model.model.conv1[0].weight)


def test_one_server_half_serves_several_cuts(model):
    """The merged loss is the mean over both groups, each entering at its own cut."""
    server = ServerHalf(model.copy(), 1, OptimConfig(lr=LR))
    x, y = digits()[1][0].x[:6], digits()[1][0].y[:6]
    whole = model.copy()
    shallow = whole.part(0, 1)(x[:2]).detach().requires_grad_()
    deep = whole.part(0, 2)(x[2:]).detach().requires_grad_()
    step = server.step_merged({1: shallow.detach(), 2: deep.detach()}, {1: y[:2], 2: y[2:]})
    logits = torch.cat([whole.part(1, 4)(shallow), whole.part(2, 4)(deep)])
    F.cross_entropy(logits, y).backward()
    assert torch.allclose(step.gradients[1], shallow.grad)
    assert torch.allclose(step.gradients[2], deep.grad)
    expected = clone(whole.weights(1))
    for name, parameter in whole.part(1, 4).named_parameters():
        expected[name] -= LR * parameter.grad
        assert torch.allclose(server.weights()[name], expected[name])


def test_a_model_with_dropout_draws_from_derived_seeds(model):
    class Draws(SplitClient):
        def on_draw(self, _):
            return Message(side={"u": torch.rand(1)})

    samples = Samples(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    one, two = (client(model, samples, Draws, is_random=True) for _ in range(2))
    first = answer(one, "draw")[0].side["u"].item()
    torch.rand(3)  # someone else draws
    assert answer(two, "draw")[0].side["u"].item() == first
    assert answer(two, "draw")[0].side["u"].item() != first


def test_derived_seeds_differ_by_every_word():
    seeds = {derived_seed(*words) for words in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0), (0, 0, 0, 1))}
    assert len(seeds) >= 5
    assert all(0 <= seed < 2**63 for seed in seeds)
