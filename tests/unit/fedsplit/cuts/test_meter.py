"""The meter against hand formulas."""

import pytest
import torch
from torch import nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.cuts.meter import measure_chain, measure_part, measure_stretches
from edgeai.fedsplit.cuts.part_cost import add_costs


def lenet5() -> list[nn.Module]:
    """LeNet-5 of 28x28 images, as blocks between which it can be cut."""
    return [
        nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    ]


class Last(nn.Module):
    """The last hidden state of a recurrent net."""

    def __init__(self, net: nn.RNNBase) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)[0][:, -1]


def test_lenet5_costs_what_its_table_says() -> None:
    costs = measure_chain(lenet5(), (1, 28, 28))
    whole = measure_part(nn.Sequential(*lenet5()), (1, 28, 28))
    assert (whole.num_params, whole.weight_bytes, whole.forward_flops / 2) == (61_706, 246_824, 416_520)
    assert whole.train_flops == 3 * whole.forward_flops
    heads = [add_costs(costs[:end]) for end in range(1, 5)]
    assert [head.num_params for head in heads] == [156, 2_572, 50_692, 60_856]
    assert [head.output_bytes for head in heads] == [4_704, 1_600, 480, 336]
    assert [round(100 * head.forward_flops / whole.forward_flops, 1) for head in heads] == [28.2, 85.9, 97.4, 99.8]
    assert add_costs(costs).forward_flops == whole.forward_flops


@pytest.mark.parametrize(
    ("net", "num_gates"),
    [(nn.RNN(5, 7, batch_first=True), 1), (nn.GRU(5, 7, batch_first=True), 3), (nn.LSTM(5, 7, batch_first=True), 4)],
)
def test_recurrent_nets_are_counted(net: nn.RNNBase, num_gates: int) -> None:
    cost = measure_part(Last(net), (9, 5))
    assert cost.forward_flops == 2 * 9 * num_gates * 7 * (5 + 7)  # per step: input and state to all gates
    assert cost.output_shape == (7,)


def test_attention_and_tokens_are_counted() -> None:
    seq, width, ffn = 6, 8, 16
    layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=ffn, batch_first=True)
    cost = measure_part(nn.Sequential(nn.Embedding(11, width), layer), (seq,), torch.int64)
    projections = seq * (4 * width * width + 2 * width * ffn)
    scores_and_mix = 2 * seq * seq * width
    assert cost.forward_flops == 2 * (projections + scores_and_mix)
    assert cost.output_shape == (seq, width)
    assert cost.output_bytes == seq * width * 4


def test_attention_is_counted_on_the_cpu_too() -> None:
    class Attention(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            assert float(y.detach().sum()) == 0  # looks at values: the meta device cannot run it
            return nn.functional.scaled_dot_product_attention(y, y, y)

    cost = measure_part(Attention(8, 8, bias=False), (2, 6, 8))
    assert cost.forward_flops == 2 * (2 * 6 * 8 * 8 + 2 * 2 * 6 * 6 * 8)  # two heads of six positions and width 8


class Peeking(nn.Linear):
    """Looks at values, which the meta device has none of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (1.0 if float(x.detach().sum()) == 0 else 2.0)


@pytest.mark.parametrize("last", [nn.Linear(84, 10), Peeking(84, 10)])
def test_all_stretches_at_once_cost_what_they_do_one_by_one(last: nn.Linear) -> None:
    layers = [*lenet5()[:-1], last]
    cost = measure_stretches(layers, (1, 28, 28))
    for start in range(5):
        shape = cost(0, start).output_shape if start else (1, 28, 28)
        for stop in range(start + 1, 6):
            assert cost(start, stop) == measure_part(nn.Sequential(*layers[start:stop]), shape)


def test_saved_bytes_are_what_autograd_keeps() -> None:
    assert measure_part(nn.Linear(4, 6), (4,)).saved_bytes == 4 * 4  # its input
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert measure_part(net, (4,)).saved_bytes == 4 * 4 + 6 * 4  # ReLU and the second layer keep the same tensor
    assert measure_part(nn.Embedding(11, 8), (6,), torch.int64).saved_bytes == 6 * 8  # the tokens
    assert measure_part(nn.Flatten(), (2, 3)).saved_bytes == 0


def test_buffers_are_weights_and_frozen_parts_only_pass_gradients_on() -> None:
    norm = measure_part(nn.BatchNorm2d(3), (3, 4, 4))
    assert norm.weight_bytes == 4 * (3 + 3) + 4 * (3 + 3) + 8  # weight, bias; mean, variance; the count, int64
    frozen = measure_part(nn.Linear(4, 6).requires_grad_(False), (4,))
    assert (frozen.num_params, frozen.num_trainable) == (30, 0)
    assert (frozen.forward_flops, frozen.backward_flops) == (48, 48)


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(4, 4)
    cost = measure_part(nn.Sequential(layer, layer), (4,))
    assert (cost.num_params, cost.forward_flops) == (20, 2 * 2 * 16)


def test_the_given_part_stays_as_it_is() -> None:
    part = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)).eval()
    before = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    random = torch.get_rng_state()
    measure_part(part, (4,))
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.state_dict().items())
    assert all(parameter.grad is None for parameter in part.parameters())
    assert not any(module.training for module in part.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_part_that_looks_at_values_is_measured_for_real() -> None:
    assert measure_part(Peeking(4, 6), (4,)).forward_flops == 2 * 24


def test_a_model_too_large_for_memory_is_measured_on_meta() -> None:
    with torch.device("meta"):
        part = nn.Linear(100_000, 100_000)
    assert measure_part(part, (100_000,)).weight_bytes == 4 * (10**10 + 10**5)


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(UsageError) as error:
        measure_part(nn.Linear(4, 6), (5,))
    assert error.value.message == (
        "cannot measure Linear on a sample of shape (5,): mat1 and mat2 shapes cannot be multiplied (2x5 and 4x6)"
    )
    with pytest.raises(UsageError) as error:
        measure_part(nn.GRU(5, 7, batch_first=True), (9, 5))
    assert error.value.message == (
        "cannot measure GRU on a sample of shape (9, 5): it returns a tuple, expected one tensor"
    )
