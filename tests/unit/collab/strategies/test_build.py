"""Each strategy's rule, on the tiny system or on numbers worked out by hand."""

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest
import torch

from edgeai.collab.config.models import NoMasks
from edgeai.collab.config.policy import FixedThreshold, MinerConfig
from edgeai.collab.config.run import CollabRunConfig, StrategyName
from edgeai.collab.edge.device import EdgeDevice
from edgeai.collab.edge.node import EdgeOutput
from edgeai.collab.models.class_map import ClassMap
from edgeai.collab.models.inputs import InputFormat
from edgeai.collab.models.street_net import StreetNet, StreetNetShape
from edgeai.collab.models.torch_model import TorchModel
from edgeai.collab.policy.scores import SCORES
from edgeai.collab.strategies.ams_shoggoth import SamplingRate
from edgeai.collab.strategies.build import STRATEGIES, build_strategy, settled
from edgeai.collab.strategies.context import StrategyContext
from edgeai.collab.strategies.dcsb import coarsened, easiness
from edgeai.collab.strategies.neurosurgeon import find_cuts
from edgeai.collab.strategies.score_threshold import foreknown
from edgeai.collab.strategies.strategy import CloudOnly, EdgeFirst, EdgeView, Split
from edgeai.core.errors import UsageError


def view(index=0, *, probs=None, gain=0.0, image=None, mined=0.5):
    probs = torch.full((3, 16, 24), 1 / 3) if probs is None else probs
    output = EdgeOutput(probs.argmax(0).byte().numpy(), probs, dict.fromkeys(SCORES, 0.5), mined, 0)
    image = np.zeros((16, 24, 3), np.uint8) if image is None else image
    return EdgeView(index, image, output, gain=lambda: gain)


@pytest.fixture
def context(toys):
    _, edge, _, _ = toys

    def build(strategy, *, model=None, size_px=(16, 24), **changes):
        cfg = settled(CollabRunConfig(strategy=strategy, **changes))
        device = EdgeDevice(model or edge(), MinerConfig(hidden=4), size_px, 0)
        return StrategyContext(cfg, device, size_px=size_px, pass_s=0.03, delay_s=0.02)

    return build


def street_net():
    torch.manual_seed(0)
    net = StreetNet(StreetNetShape(3, 16, 2)).eval()
    same = ClassMap([(0,), (1,), (2,)], 3)
    return TorchModel(net, classes=("a", "b", "c"), class_map=same, input_format=InputFormat(), device="cpu")


def test_every_strategy_is_built_and_documented(context):
    assert set(STRATEGIES) == set(get_args(StrategyName))
    for name in STRATEGIES:
        doc = type(build_strategy(context(name))).__doc__
        assert "Rule:" in doc, name
        assert "Paper:" in doc or "Sedna" in doc, name


def test_adapting_strategies_reject_a_frozen_edge(context, toys):
    frozen = toys[1]()
    frozen.trainable, frozen.frozen_reason = None, "it is an ONNX file"
    for name in ("laecips", "ams", "shoggoth", "cema", "bn-adapt"):
        with pytest.raises(UsageError, match="the edge model cannot be adapted: it is an ONNX file"):
            build_strategy(context(name, model=frozen))
    for name in ("edge-only", "cloud-only", "random", "oracle", "max-prob", "dcsb", "neurosurgeon"):
        build_strategy(context(name, model=frozen))


def test_cloud_only_skips_the_edge_pass(context):
    assert build_strategy(context("cloud-only")).route(0.0) == CloudOnly()
    assert build_strategy(context("laecips")).route(0.0) == EdgeFirst()


def test_random_uploads_its_share(context):
    lots = build_strategy(context("random", upload_rate=0.3))
    share = np.mean([lots.decide(view(index)).upload for index in range(4000)])
    assert share == pytest.approx(0.3, abs=3 * math.sqrt(0.21 / 4000))  # three standard deviations


def test_oracle_prefers_the_largest_gain_and_rejects_losses():
    assert foreknown(view(gain=0.4)) == pytest.approx(0.3)
    assert foreknown(view(gain=0.1)) == pytest.approx(0.45)
    assert foreknown(view(gain=-0.2)) == 1.0
    with pytest.raises(UsageError, match="needs a stream with labels"):
        foreknown(view(gain=None))


def test_scores_below_a_fixed_threshold_are_uploaded(context):
    scored = build_strategy(context("max-prob", threshold=FixedThreshold(delta=0.5)))
    assert not scored.decide(view()).upload  # 0.5 is not below 0.5
    assert build_strategy(context("max-prob", threshold=FixedThreshold(delta=0.51))).decide(view()).upload
    assert scored.delta == 0.5


def test_laecips_uses_the_miner_and_explores(context):
    kept = build_strategy(context("laecips", threshold=FixedThreshold(delta=0.4), explore={"explore_frac": 0.0}))
    assert kept.decide(view(mined=0.39)).upload
    assert not kept.decide(view(mined=0.41)).upload
    explores = build_strategy(context("laecips", threshold=FixedThreshold(delta=0.4), explore={"explore_frac": 0.1}))
    drawn = [explores.decide(view(index, mined=0.9)) for index in range(1000)]
    explored = [decision for decision in drawn if decision.upload]
    assert len(explored) == pytest.approx(100, abs=3 * math.sqrt(90))  # three standard deviations
    assert all(v.is_explored and v.importance == pytest.approx(10.0) for v in explored)


def test_ablations_disable_one_component(context):
    whole = CollabRunConfig(strategy="laecips")
    assert settled(whole) == whole
    found = {name: settled(CollabRunConfig(strategy=name)) for name in STRATEGIES if name.startswith("laecips-no")}
    assert found["laecips-no-update"].update.steps == 0
    assert not found["laecips-no-update"].update.refresh_batchnorm
    assert found["laecips-no-him"].miner.steps == 0
    assert found["laecips-no-masks"].cloud.masks == NoMasks()
    assert found["laecips-no-explore"].explore.explore_frac == 0.0
    assert found["laecips-no-threshold"].threshold == FixedThreshold()
    assert not found["laecips-no-gate"].update.gate
    assert not found["laecips-no-bn"].update.refresh_batchnorm
    assert len(found) == 7
    for cfg in found.values():
        fields = set(CollabRunConfig.model_fields) - {"strategy"}
        assert sum(getattr(cfg, name) != getattr(whole, name) for name in fields) == 1


def test_dcsb_selects_crowded_frames_and_downsamples_easy_regions():
    """Left half sure and of one class, right half a chessboard of doubt: one large region and 192 small ones."""
    probs = torch.full((3, 16, 24), 0.02)
    probs[0, :, :12] = 0.96
    board = torch.tensor(np.indices((16, 12)).sum(0) % 2)
    probs[1, :, 12:] = torch.where(board == 1, 0.6, 0.2)
    probs[2, :, 12:] = torch.where(board == 1, 0.2, 0.6)
    crowded = view(probs=probs)
    calm = view(probs=torch.tensor([0.9, 0.05, 0.05])[:, None, None].expand(3, 16, 24))
    assert easiness(calm) == pytest.approx(1 - (1 / 40 + 0) / 2)
    assert easiness(crowded) < 0.6  # 193 regions; none of 384 px is below 0.2 % of the frame
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    coarse = coarsened(image, crowded)
    assert np.array_equal(coarse[:, 12:], image[:, 12:])
    assert coarse[:, :12].std() < image[:, :12].std() / 2


def test_ams_samples_less_in_a_static_scene():
    """phi = 1: one step is 0.2 tanh(8) = 0.2; phi of halves swapped is 0: back up."""
    sampling, labels = SamplingRate(2), np.zeros((4, 4), np.uint8)
    labels[:2] = 1
    sampling.on_label(labels)
    assert sampling.rate == 1.0
    sampling.on_label(labels)
    assert sampling.rate == pytest.approx(1 - 0.2 * math.tanh(8.0))
    for _ in range(10):
        sampling.on_label(labels)
    assert sampling.rate == 0.1
    sampling.on_label(1 - labels)
    assert sampling.rate == pytest.approx(0.1 + 0.2 * math.tanh(12.0))


def test_ams_uploads_for_labels_at_the_configured_rate(context):
    ams = build_strategy(context("ams", upload_rate=0.25))
    decisions = [ams.decide(view(index)) for index in range(40)]
    assert [place for place, decision in enumerate(decisions) if decision.upload] == list(range(3, 40, 4))
    assert not any(decision.for_answer for decision in decisions)


def test_neurosurgeon_minimizes_predicted_latency(context):
    """A fast link sends the frame, a slow one nothing; a cut in the middle crosses more than a JPEG file."""
    surgeon = build_strategy(context("neurosurgeon", model=street_net(), size_px=(64, 96)))
    surgeon.on_sent(2000, 0.0, 1e9)
    assert surgeon.latency_s(0) == pytest.approx(2 * 0.02 + 8 * 2000 / 1e9 + 0.003)
    surgeon._delay_s = 0.001
    assert isinstance(surgeon.route(0.0), Split)
    surgeon.on_sent(2000, 0.0, 1e5)
    assert isinstance(surgeon.route(0.5), Split)  # planned once a second
    assert surgeon.route(1.5) == EdgeFirst()


def test_neurosurgeon_offloads_only_if_the_edge_is_slower_than_the_link(context):
    """A round trip of 40 ms: a pass of 30 ms stays at the edge, one of 200 ms takes 40 + 20 ms through the cloud."""
    fast = context("neurosurgeon", model=street_net(), size_px=(64, 96))
    assert build_strategy(fast).route(0.0) == EdgeFirst()
    route = build_strategy(dataclasses.replace(fast, pass_s=0.2)).route(0.0)
    assert route == Split(0, 0.0, pytest.approx(0.02), 0)


def test_partition_points_include_skip_connections():
    """Width 16, depth 2, 64x96: the stem gives 4 x 32 x 48 values, detail 8 x 16 x 24, the body 16 x 8 x 12."""
    stem, detail, body = 4 * 32 * 48, 8 * 16 * 24, 16 * 8 * 12
    cuts = find_cuts(street_net(), (64, 96))
    assert [cut.num_bytes for cut in cuts[1:6]] == [stem, stem + detail, *[stem + detail + body] * 3]
    assert [cut.num_bytes for cut in cuts[-3:]] == [8 * 16 * 24 // 2 + stem, stem, 0]
    shares = [cut.edge_frac for cut in cuts]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["cema", "shoggoth", "ams", "bn-adapt", "appealnet", "dcsb", "neurosurgeon"])
def test_strategy_runs_on_the_tiny_system(toy, name):
    """Every kind of strategy on the tiny system: what it may send, and that it learns what it says."""
    played = toy(name, upload_rate=0.4, shadow_cloud=False)
    traffic, report = played.report.traffic, played.report
    assert len(played.records) == 60
    label_only = name in ("cema", "shoggoth", "ams")
    assert (traffic.refined == 0) == (label_only or name == "bn-adapt")
    if name == "bn-adapt":
        assert (traffic.up_frames, traffic.down_pushes) == (0, 0)
        assert report.num_swaps >= 3
    if name == "shoggoth":
        assert traffic.down_replies == traffic.labelled > 0
        assert (traffic.down_pushes, report.num_swaps > 0) == (0, True)
    if name == "ams":
        assert traffic.down_replies == 0
        assert traffic.labelled > 0
    if name == "appealnet":
        assert report.num_updates <= 1
        assert report.num_accepted == 0


def test_bn_adapt_beats_the_edge_alone_at_dusk(toy):
    dusk = [toy(name).report.evaluation.segments[1].quality.miou for name in ("edge-only", "bn-adapt")]
    assert dusk[1] > dusk[0] + 0.02
