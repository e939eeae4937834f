"""Runs of a tiny system in which something goes wrong, and its memory."""

import tracemalloc

import pytest

from edgeai.core.errors import EdgeAIError
from edgeai.core.link import LinkConfig

OUTAGE = LinkConfig(up_bps=1e6, down_bps=1e6, delay_s=0.01, outages=((3.0, 8.0),))


def test_outage_the_edge_goes_on_nothing_is_lost_and_uploads_resume(toy):
    # 16 in flight, so that the breaker has five answers to miss
    played = toy("laecips", link=OUTAGE, threshold={"kind": "fixed", "delta": 1.0}, upload={"max_in_flight": 16})
    inside = [r for r in played.records if 3.2 < r.time_s < 7.0]
    assert len(played.records) == 60
    assert all(r.answer == "edge" and r.latency_s == pytest.approx(0.03) for r in inside)
    assert all(r.uploaded for r in played.records)  # those of the outage later, for training
    assert played.report.traffic.breaker_opened >= 1
    assert any("breaker" in r.drops for r in inside)
    after = [r for r in played.records if r.time_s > 10.5]
    assert {r.answer for r in after} == {"cloud"}
    assert played.report.traffic.labelled == 60


def test_without_training_an_outage_drops_by_cause(toy):
    played = toy("random", upload_rate=1.0, link=OUTAGE)
    dropped = [r for r in played.records if r.drops]
    assert dropped
    assert {cause for r in dropped for cause in r.drops} <= {"breaker", "queue", "expired"}
    assert played.report.traffic.drops == {
        cause: sum(cause in r.drops for r in dropped) for cause in sorted({c for r in dropped for c in r.drops})
    }
    assert sum(r.uploaded for r in played.records) == played.report.traffic.up_frames < 60


def test_late_replies_are_used_for_training_only(toy, toys):
    """A cloud that takes 0.4 s of a deadline of 0.3 s refines no answer, and its labels train the edge model.

    Whether the model gains from a few steps depends on the processor's arithmetic; that it changes does not.
    """
    stream, _, _, testbed = toys
    slow = {"edge_s": 0.03, "encode_s": 0.0, "cloud_s": 0.4}
    calm = testbed(stream(rate_hz=2.0))
    played = toy(
        "laecips", testbed=calm, compute=slow, evaluate={"deadline_s": 0.3}, threshold={"kind": "fixed", "delta": 1.0}
    )
    report = played.report
    assert report.traffic.refined == 0
    assert report.traffic.late > 0
    assert report.traffic.labelled > 10
    assert report.num_swaps > 0
    assert {r.answer for r in played.records} == {"edge"}
    untrained = toy("edge-only", testbed=calm).records
    same = {version: set() for version in {r.version for r in played.records}}
    for trained, alone in zip(played.records, untrained, strict=True):
        same[trained.version].add(trained.loss_edge == alone.loss_edge)
    assert same.pop(0) == {True}  # until the first new version arrives, the answers are the edge model's own
    assert same
    assert all(False in equal for equal in same.values())


def test_frames_that_cannot_be_read_are_counted_and_skipped(toy, toys):
    stream, _, _, testbed = toys
    played = toy("laecips", testbed=testbed(stream(60, bad=(5, 31))))
    assert (played.report.num_frames, played.report.num_bad_frames) == (58, 2)
    assert played.report.problems == ("000005.png: not a picture", "000031.png: not a picture")
    assert [r.id for r in played.records][4:6] == ["000004", "000006"]


def test_a_failing_mask_source_costs_its_frames_only(toy, toys):
    class Fails:
        def propose(self, image, logits):
            if image.mean() < 70:  # at dusk
                raise EdgeAIError("masks.py:propose failed: ValueError: too dark")
            return []

    *_, testbed = toys
    played = toy("random", upload_rate=1.0, testbed=testbed(masks=Fails()))
    failed = [r for r in played.records if "cloud error" in r.drops]
    assert failed
    assert {r.answer for r in failed} == {"edge"}
    assert played.report.problems[0] == f"frame {failed[0].id}: masks.py:propose failed: ValueError: too dark"
    assert played.report.alone.cloud is None  # it has no answer to some


def test_a_busy_edge_drops_the_oldest_and_says_so(toy):
    """Passes of 0.5 s at 5 frames/s: three of five frames are never looked at, and show the answer before."""
    played = toy("edge-only", compute={"edge_s": 0.5, "encode_s": 0.0, "cloud_s": 0.05}, evaluate={"deadline_s": 1.2})
    dropped = [r for r in played.records if "edge busy" in r.drops]
    assert len(dropped) == pytest.approx(36, abs=3)
    assert {r.answer for r in dropped} == {"stale"}
    assert all(r.missed_deadline and r.latency_s == pytest.approx(1.2) for r in dropped)
    assert played.report.traffic.drops == {"edge busy": len(dropped)}


def test_ctrl_c_reports_what_was_played(toy, toys):
    stream, _, _, testbed = toys

    class Stopped(stream):
        def frames(self):
            for frame in super().frames():
                if frame.id == "000020":
                    raise KeyboardInterrupt
                yield frame

    report = toy("laecips", testbed=testbed(Stopped())).report
    assert report.interrupted
    assert report.num_frames == 20
    assert 15 <= report.evaluation.total.num_frames <= 20


def test_memory_does_not_grow_with_the_stream(toy, toys):
    """Four times as long; Python's own peak may differ by the filling of buffers, 20 %."""
    stream, _, _, testbed = toys

    def peak_bytes(num_frames):
        tracemalloc.start()
        toy(
            "laecips",
            testbed=testbed(stream(num_frames, height=8, width=16, dark_from=40), max_bytes=5_000),
            update={"steps": 1, "every_frames": 8, "compute_s": 0.5, "replay": {"capacity": 20}},
            threshold={"kind": "quantile", "rate": 0.3, "window": 50},
            evaluate={"max_windows": 8},
            probe_frames=0,
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(60)  # first calls fill caches
    short, long = peak_bytes(90), peak_bytes(360)
    assert long < 1.2 * short + 100_000
