import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.cuts.weights import average, clone

from ..conftest import tiny_model


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SplitModel(tiny_model(), (1, 8, 8))


def test_parts_chained_are_the_model(model):
    x = torch.randn(3, 1, 8, 8)
    for position in range(1, len(model)):
        z = model.part(0, position)(x)
        assert z.shape[1:] == model.shape_at(position)
        assert torch.equal(model.part(position, len(model))(z), model.model(x))


def test_parts_share_weights_under_the_whole_models_names(model):
    front, back = model.weights(0, 2), model.weights(2)
    assert [*front, *back] == list(model.model.state_dict())
    with torch.no_grad():
        model.part(2, 4)[1].bias += 1
    assert torch.equal(back["out.bias"], model.model.out.bias)


def test_a_copy_has_weights_of_its_own(model):
    twin = model.copy()
    with torch.no_grad():
        twin.model.out.bias += 1
    assert not torch.equal(twin.model.out.bias, model.model.out.bias)


def test_a_cut_is_a_name_or_a_number(model):
    assert [model.position(cut) for cut in ("conv1", "fc", 1, 3)] == [1, 3, 1, 3]


@pytest.mark.parametrize(
    ("cut", "message", "hint"),
    [
        ("conv3", 'cut: no layer "conv3"', 'did you mean "conv2"? the layers are conv1, conv2, fc, out'),
        ("out", 'cut: "out" leaves the server without a layer', "cut after one of conv1, conv2, fc"),
        (0, "cut: 0 leaves the client without a layer", "cut after one of conv1, conv2, fc"),
        (4, "cut: 4 leaves the server without a layer", "cut after one of conv1, conv2, fc"),
    ],
)
def test_a_cut_that_is_none_is_refused(model, cut, message, hint):
    with pytest.raises(UsageError) as error:
        model.position(cut)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_load_sets_what_is_named_and_nothing_else(model):
    before = clone(model.weights())
    model.load({"fc.0.bias": torch.full((16,), 7.0)})
    changed = [name for name, value in model.weights().items() if not torch.equal(value, before[name])]
    assert changed == ["fc.0.bias"]
    with pytest.raises(KeyError):
        model.load({"fc.0.bois": torch.zeros(16)})


def test_the_average_is_weighted():
    states = [{"w": torch.tensor([0.0, 8.0])}, {"w": torch.tensor([4.0, 0.0])}]
    assert average(states, [0.25, 0.75])["w"].tolist() == [3.0, 2.0]


def test_what_all_share_stays_to_the_bit():
    shared = torch.randn(100)
    states = [{"w": shared}, {"w": shared}, {"w": shared}]
    mean = average(states, [0.1, 0.2, 0.7])  # 0.1 + 0.2 + 0.7 rounds to less than 1
    assert torch.equal(mean["w"], shared)
    assert mean["w"] is not shared


def test_shares_of_a_shared_tensor_add_up():
    shared, other = torch.tensor([1.0]), torch.tensor([5.0])
    assert average([{"w": shared}, {"w": other}, {"w": shared}], [0.25, 0.5, 0.25])["w"].item() == 3.0


def test_counters_are_not_averaged():
    states = [nn.BatchNorm1d(2).state_dict(), nn.BatchNorm1d(2).state_dict()]
    states[0]["num_batches_tracked"] += 3
    assert average(states, [0.5, 0.5])["num_batches_tracked"].item() == 3
