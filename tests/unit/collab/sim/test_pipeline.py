"""Whole runs of a tiny system against independently computed results."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgeai.collab.config.models import FusionConfig
from edgeai.collab.metrics.confusion import confusion, seg_metrics
from edgeai.collab.metrics.risk_bounds import upload_rate_bound
from edgeai.collab.reports.frame_records import OVERLAYS
from edgeai.collab.wire.codec import HEADER_BYTES, decode_image, encode_image, encode_labels
from edgeai.core.files import json_text
from edgeai.core.link import LinkConfig

SLOW = LinkConfig(up_bps=60e3, down_bps=60e3, delay_s=0.05)


def edge_alone(testbed):
    """mIoU of the edge model over the stream, without any of the machinery."""
    total = np.zeros((3, 3), np.int64)
    for frame in testbed.stream.frames():
        total += confusion(frame.labels, testbed.edge.logits(frame.image).argmax(0).byte().numpy(), 3)
    return seg_metrics(total).miou


def cloud_alone(testbed):
    """Answers of the cloud and their mIoU, likewise."""
    cloud, total, answers = testbed.cloud(FusionConfigHolder), np.zeros((3, 3), np.int64), []
    for frame in testbed.stream.frames():
        answers.append(cloud(encode_image(frame.image, quality=90), frame.image.shape[:2]))
        total += confusion(frame.labels, answers[-1].labels, 3)
    return answers, seg_metrics(total).miou


class FusionConfigHolder:
    fusion = FusionConfig()


def quality(played):
    return played.report.evaluation.total.quality.miou


# --------------------------------------------------------------------------------------------------------------------
# Never, always, sometimes


def test_without_uploads_quality_equals_the_edge_model(toy, toys):
    *_, testbed = toys
    alone = edge_alone(testbed())
    for strategy, changes in (("edge-only", {}), ("random", {"upload_rate": 0.0})):
        played = toy(strategy, **changes)
        assert quality(played) == alone
        assert played.report.alone.edge.miou == alone
        assert played.report.evaluation.total.up_bytes == 0
        assert all(record.latency_s == pytest.approx(0.03) for record in played.records)


def test_always_uploading_on_a_perfect_link_equals_cloud_only(toy, toys):
    *_, testbed = toys
    _, alone = cloud_alone(testbed())
    always, cloud = toy("random", upload_rate=1.0), toy("cloud-only")
    assert quality(always) == quality(cloud) == alone
    assert always.report.traffic.up_bytes == cloud.report.traffic.up_bytes
    assert [r.loss for r in always.records] == [r.loss for r in cloud.records]
    # one pass of the edge lies between them: 0.03 s
    assert [a.latency_s - c.latency_s for a, c in zip(always.records, cloud.records, strict=True)] == pytest.approx(
        [0.03] * 60
    )


def test_cloud_is_better_than_edge_on_the_tiny_system(toy, toys):
    """The tiny system can fail: cloud and edge differ, and uploads at random lie between them."""
    *_, testbed = toys
    low, high = edge_alone(testbed()), cloud_alone(testbed())[1]
    assert low + 0.03 < high
    assert low < quality(toy("random", upload_rate=0.5)) < high


def test_oracle_beats_random_at_the_same_rate(toy):
    """At 40 % the oracle must be better than lots, by more than the 2 points that rates may differ."""
    rate = {"threshold": {"kind": "quantile", "rate": 0.4, "gain": 0.1}, "upload_rate": 0.4}
    assert quality(toy("oracle", **rate)) > quality(toy("random", **rate)) + 0.005


# --------------------------------------------------------------------------------------------------------------------
# Bytes


def test_delivered_bytes_are_the_sum_of_message_sizes(toy, toys):
    *_, testbed = toys
    played, answers = toy("laecips"), cloud_alone(testbed())[0]
    frames = list(testbed().stream.frames())
    up = down = 0
    for record in played.records:
        if record.uploaded:
            up += HEADER_BYTES + len(encode_image(frames[record.index].image, quality=90))
            down += HEADER_BYTES + len(encode_labels(answers[record.index].labels))
    report = played.report
    pushes = sum(event.num_bytes for event in report.updates)
    assert (report.traffic.up_bytes, report.traffic.down_reply_bytes) == (up, down)
    assert report.traffic.down_push_bytes == pushes > 0
    assert report.evaluation.total.up_bytes == up > 0
    assert report.evaluation.total.down_bytes == down + pushes
    assert sum(r.up_bytes for r in played.records) == up
    assert sum(part.up_bytes for part in report.evaluation.segments) == up


def test_a_slow_link_gets_coarser_frames(toy):
    """16x24 frames weigh about 1 kB: at 20 kbit/s that is 0.4 s, more than half of the time that is left."""
    slow = LinkConfig(up_bps=20e3, down_bps=1e6, delay_s=0.0)
    qualities = {record.quality for record in toy("cloud-only", link=slow).records}
    assert {90, 75} <= qualities
    fixed = toy("cloud-only", link=slow, upload={"adapt": False})
    assert {record.quality for record in fixed.records} == {90}


# --------------------------------------------------------------------------------------------------------------------
# Theory


@pytest.mark.parametrize("strategy", ["laecips", "dcsb", "ams"])
def test_the_risk_split_is_an_identity(toy, strategy):
    """R = E[l_c] + E[h (l_f - l_c)], up to the rounding of a few hundred additions."""
    played = toy(strategy, link=SLOW)
    risk = played.report.evaluation.risk
    assert risk.num == 60
    assert abs(risk.residual) < 1e-12
    stayed = [r for r in played.records if r.answer != "cloud"]
    gap = sum(r.loss_edge - r.loss_cloud for r in stayed) / 60
    assert risk.kept_gap == pytest.approx(gap, abs=1e-12)
    assert risk.system == pytest.approx(np.mean([r.loss for r in played.records]), abs=1e-12)


def test_upload_rates_of_samples_stay_inside_the_bound(toy):
    """DKW at 95 %: of 400 samples of 20 frames at most 5 % may leave the bound at any threshold; drawn without
    replacement they leave it less often.
    """
    scores = np.array([record.score for record in toy("max-prob").records])
    rng, deltas = np.random.default_rng(0), np.linspace(0, 1, 101)
    whole = (scores[:, None] < deltas).mean(0)
    outside = 0
    for _ in range(400):
        sample = rng.choice(scores, 20, replace=False)
        outside += np.abs((sample[:, None] < deltas).mean(0) - whole).max() > upload_rate_bound(20)
    assert outside <= 20
    assert toy("max-prob").report.evaluation.upload_rate_bound == upload_rate_bound(60)


def test_quantile_holds_the_upload_rate(toy, toys):
    stream, _, _, testbed = toys
    played = toy(
        "max-prob",
        testbed=testbed(stream(400, height=8, width=16, dark_from=200)),
        threshold={"kind": "quantile", "rate": 0.3},
        shadow_cloud=False,
    )
    assert played.report.evaluation.total.upload_rate == pytest.approx(0.3, abs=0.02)


def test_dual_holds_the_byte_budget(toy, toys):
    """The overrun is at most budget * (last - first price) / step: one second's budget times 1 / 0.05 over 80 s."""
    stream, _, _, testbed = toys
    budget = 900.0
    played = toy(
        "max-prob",
        testbed=testbed(stream(400, height=8, width=16)),
        threshold={"kind": "dual", "bytes_per_s": budget, "bytes_step": 0.05},
        shadow_cloud=False,
    )
    spent = played.report.evaluation.total.up_bytes / 80.0
    free = toy("random", testbed=testbed(stream(400, height=8, width=16)), upload_rate=1.0, shadow_cloud=False)
    assert free.report.evaluation.total.up_bytes / 80.0 > 2 * budget  # there is something to hold
    assert 0.8 * budget < spent <= budget * (1 + 1 / 0.05 / 80)


# --------------------------------------------------------------------------------------------------------------------
# Again and again


def test_the_same_seed_gives_the_same_report_byte_for_byte(toy):
    first, second = toy("laecips", link="4g", overlays=[3]), toy("laecips", link="4g", overlays=[3])
    assert json_text(first.report.to_json()) == json_text(second.report.to_json())
    assert (first.folder / "frames.jsonl").read_bytes() == (second.folder / "frames.jsonl").read_bytes()
    other = toy("laecips", link="4g", seed=1)
    assert json_text(other.report.to_json()) != json_text(first.report.to_json())
    json.loads(json_text(first.report.to_json()))


def test_the_number_of_cores_changes_nothing(toy):
    first, before = toy("laecips"), torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        second = toy("laecips")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert json_text(first.report.to_json()) == json_text(second.report.to_json())


def test_overlays_are_saved_for_chosen_frames(toy, toys):
    played = toy("random", upload_rate=1.0, overlays=[3])
    with np.load(played.folder / OVERLAYS / "000003.npz") as planes:
        assert np.array_equal(planes["shown"], planes["fused"])
        assert np.array_equal(planes["frame"], toys[0]().frame(3).image)
    assert [path.name for path in (played.folder / OVERLAYS).iterdir()] == ["000003.npz"]


def test_edge_versions_increase_over_several_swaps(toy):
    """Three swaps and more: hot updates that work only once are a known failure of such systems."""
    played = toy("laecips", update={"steps": 5, "lr": 0.02, "every_frames": 4, "compute_s": 0.1})
    versions = [record.version for record in played.records]
    assert versions == sorted(versions)
    assert played.report.num_swaps >= 3
    assert versions[-1] >= 3


def test_records_are_complete_and_ordered(toy):
    played = toy("laecips")
    assert [r.index for r in played.records] == list(range(60))
    assert all(dataclasses.asdict(r)["segment"] == ("dusk" if r.index >= 30 else "day") for r in played.records)


def test_cloud_answers_the_compressed_image(toys):
    """The cloud's answer is one to the compressed picture, not to the frame."""
    stream, _, cloud, testbed = toys
    frame = stream().frame(0)
    jpeg = encode_image(frame.image, quality=90)
    answer = testbed(masks=type("None_", (), {"propose": lambda *_: []})()).cloud(FusionConfigHolder)(jpeg, (16, 24))
    seen = decode_image(jpeg, (16, 24))
    assert np.array_equal(answer.labels, cloud().logits(seen).argmax(0).byte().numpy())
    assert np.array_equal(answer.semantics, answer.labels)
