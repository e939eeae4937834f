"""Bytes and FLOPs of a round against the measured reference baseline and the cost table's formulas."""

import pytest

from edgeai.fedsplit.advise.client_cost import load_of
from edgeai.fedsplit.advise.cut_parts import LABEL_BYTES, CutParts, LocalTraining, linear_head
from edgeai.fedsplit.config.advise import AdviseMethod
from edgeai.fedsplit.config.codec import CodecConfig, Fp16Config, TopkConfig
from edgeai.fedsplit.config.federated import FedAvgConfig
from edgeai.fedsplit.config.hybrid import (
    CSEFSLConfig,
    FSLSageConfig,
    LocalLossConfig,
    SplitFedV1Config,
    SplitFedV2Config,
    SplitFedV3Config,
)
from edgeai.fedsplit.config.split import PSLConfig, RelayConfig, SGLRConfig, UShapeConfig
from edgeai.fedsplit.cuts.part_cost import PartCost

NUM_PARAMS = 61_706
"""LeNet-5 on 28x28."""


def part(num_params: int, flops: float, shape: tuple[int, ...]) -> PartCost:
    values = 1
    for size in shape:
        values *= size
    return PartCost(num_params, num_params, 4 * num_params, flops, 2 * flops, 0.0, shape, 4 * values)


def cut_at(num_params: int, shape: tuple[int, ...]) -> CutParts:
    server = part(NUM_PARAMS - num_params, 100.0, (10,))
    return CutParts("cut", 1, part(num_params, 10.0, shape), server, head=linear_head(shape, (10,)))


CUT1, CUT2 = cut_at(156, (6, 14, 14)), cut_at(2_572, (16, 5, 5))
WHOLE = CutParts("", 0, part(NUM_PARAMS, 110.0, (10,)))
MNIST = LocalTraining(num_samples=12_000, local_epochs=1, batch=64, codec=CodecConfig(), num_active=5)
RUN = 3 * 5 / 1e6
"""Megabytes of three rounds of five clients."""


def test_fedavg_moves_the_baseline_megabytes() -> None:
    load = load_of(FedAvgConfig(), WHOLE, MNIST)
    assert (load.up_bytes + load.down_bytes) * RUN == pytest.approx(7.4, abs=0.05)
    assert load.forward_flops + load.backward_flops == 3 * 12_000 * 110


@pytest.mark.parametrize(
    ("parts", "up_mb", "down_mb", "weights_mb"), [(CUT1, 848, 847, 0.02), (CUT2, 289.4, 288.0, 0.3)]
)
def test_full_gradient_methods_move_the_baseline_megabytes(
    parts: CutParts, up_mb: float, down_mb: float, weights_mb: float
) -> None:
    for method in (RelayConfig(), SplitFedV1Config(), SplitFedV2Config(), PSLConfig()):
        load = load_of(method, parts, MNIST)
        weights = load.sync_up_bytes + load.sync_down_bytes
        assert (load.up_bytes - load.sync_up_bytes) * RUN == pytest.approx(up_mb, abs=0.5)
        assert (load.down_bytes - load.sync_down_bytes) * RUN == pytest.approx(down_mb, abs=0.5)
        assert weights * RUN == pytest.approx(weights_mb, abs=0.05)
    private = load_of(SplitFedV3Config(), parts, MNIST)
    assert private.sync_up_bytes == private.sync_down_bytes == 0
    assert private.up_bytes * RUN == pytest.approx(up_mb, abs=0.5)


def test_splitting_moves_the_published_multiple_of_fedavg() -> None:
    whole = load_of(FedAvgConfig(), WHOLE, MNIST)
    for parts, times in ((CUT1, 229), (CUT2, 78)):
        load = load_of(RelayConfig(), parts, MNIST)
        assert (load.up_bytes + load.down_bytes) / (whole.up_bytes + whole.down_bytes) == pytest.approx(times, abs=0.6)


@pytest.mark.parametrize(("parts", "weights_mb"), [(CUT1, 1.4), (CUT2, 0.8)])
def test_local_loss_moves_the_baseline_megabytes(parts: CutParts, weights_mb: float) -> None:
    load, full = load_of(LocalLossConfig(), parts, MNIST), load_of(RelayConfig(), parts, MNIST)
    assert load.down_bytes == load.sync_down_bytes
    assert (load.sync_up_bytes + load.sync_down_bytes) * RUN == pytest.approx(weights_mb, abs=0.06)
    labels = LABEL_BYTES * 12_000
    cut = load.up_bytes - load.sync_up_bytes - labels
    both = full.up_bytes + full.down_bytes - full.sync_up_bytes - full.sync_down_bytes - labels
    assert 2 * cut == both  # exactly half of split learning's cut bytes


def test_short_batches_are_counted_one_by_one() -> None:
    how = LocalTraining(num_samples=70, local_epochs=2, batch=32, codec=CodecConfig(), num_active=1)
    assert how.batches == [32, 32, 6, 32, 32, 6]
    assert how.num_seen == 140
    # batches 1, 4 of six: both full; batches 1 and 6 with h = 5
    assert load_of(CSEFSLConfig(h=3), CUT2, how).num_steps == 2
    sent = load_of(CSEFSLConfig(h=5), CUT2, how)
    assert sent.up_bytes - sent.sync_up_bytes == (32 + 6) * (1600 + LABEL_BYTES)
    assert sent.server_flops == (32 + 6) * 300


def test_heads_go_as_the_methods_say() -> None:
    head_bytes = 4 * (400 * 10 + 10)
    local, sage = load_of(LocalLossConfig(), CUT2, MNIST), load_of(FSLSageConfig(align_every=4), CUT2, MNIST)
    assert local.sync_up_bytes == local.sync_down_bytes == 4 * 2_572 + head_bytes
    assert (sage.sync_up_bytes, sage.sync_down_bytes) == (4 * 2_572, 4 * 2_572 + head_bytes / 4)
    assert local.forward_flops == 12_000 * (10 + 2 * 4000)


def test_hand_offs_go_as_the_relay_says() -> None:
    weight_bytes, cut_bytes = 4 * 2_572, 12_000 * 1600
    peer = load_of(RelayConfig(hand_off="peer"), CUT2, MNIST)
    assert (peer.sync_up_bytes, peer.down_bytes) == (weight_bytes, cut_bytes)
    batches = load_of(RelayConfig(turn="batch"), CUT2, MNIST)
    assert (batches.sync_up_bytes, batches.down_bytes) == (188 * weight_bytes, cut_bytes + 188 * weight_bytes)


def test_u_shape_sends_four_tensors_a_step_and_no_labels() -> None:
    tail = part(850, 5.0, (10,))
    parts = CutParts("cut", 1, CUT2.client, part(58_284, 95.0, (84,)), tail)
    load = load_of(UShapeConfig(), parts, MNIST)
    weight_bytes = 4 * (2_572 + 850)
    assert load.up_bytes == load.down_bytes == 12_000 * 4 * (400 + 84) + weight_bytes
    assert not load.labels_leave
    assert load.forward_flops == 12_000 * 15
    assert load.server_flops == 12_000 * 3 * 95


def test_u_shape_codes_each_tensor_by_its_direction() -> None:
    how = LocalTraining(num_samples=8, local_epochs=1, batch=4, codec=CodecConfig(up=Fp16Config()), num_active=1)
    parts = CutParts("cut", 1, CUT2.client, part(58_284, 95.0, (84,)), part(850, 5.0, (10,)))
    load = load_of(UShapeConfig(), parts, how)
    assert load.up_bytes - load.sync_up_bytes == 8 * 2 * (400 + 84)
    assert load.down_bytes - load.sync_down_bytes == 8 * 4 * (400 + 84)
    sparse = CodecConfig(up=TopkConfig(k=10))
    load = load_of(UShapeConfig(), parts, LocalTraining(8, 1, 4, sparse, 1))
    # up 10 values with 9-bit places, and of the second cut's gradient 10 with 7-bit places; down 10 of the first's
    assert load.down_bytes - load.sync_down_bytes == 8 * 4 * (10 + 84)
    assert load.up_bytes - load.sync_up_bytes == 8 * 4 * (10 + 10) + 2 * (45 + 35)


def test_averaged_gradients_are_one_vector_a_step() -> None:
    load = load_of(SGLRConfig(average_frac=0.4), CUT2, MNIST)  # two of five clients
    assert load.down_bytes == pytest.approx(0.6 * 12_000 * 1600 + 0.4 * 188 * 1600)
    assert load.sync_up_bytes == 0


@pytest.mark.parametrize("method", [SplitFedV2Config(sync=False), PSLConfig(sync=False), SplitFedV3Config()])
def test_private_parts_stay(method: AdviseMethod) -> None:
    load = load_of(method, CUT2, MNIST)
    assert load.down_bytes == 12_000 * 1600


def test_a_head_reads_positions_one_by_one_where_there_are_any() -> None:
    head = linear_head((20, 8), (20, 50))
    assert (head.num_params, head.forward_flops) == (9 * 50, 2 * 20 * 8 * 50)
    assert linear_head((20, 8), (50,)).num_params == (160 + 1) * 50
