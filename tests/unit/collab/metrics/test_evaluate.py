import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from edgeai.collab.config.run import EvaluateConfig
from edgeai.collab.metrics.confusion import confusion, frame_loss, seg_metrics
from edgeai.collab.metrics.evaluate import Evaluator, FrameOutcome
from edgeai.core.files import json_text

CLASSES = ("sky", "road", "car")


def outcome(index, rng, *, segment="day", labeled=True, rate_hz=10.0):
    """A frame whose answer is right in most pixels; a third are uploaded, a tenth of those come too late."""
    truth, edge, cloud = rng.integers(0, 3, (3, 4, 6), dtype=np.uint8)
    uploaded = bool(rng.random() < 1 / 3)
    missed = uploaded and bool(rng.random() < 0.1)
    answer = "cloud" if uploaded and not missed else "edge"
    losses = [frame_loss(confusion(truth, labels, 3)) for labels in (edge, cloud)]
    return FrameOutcome(
        time_s=index / rate_hz,
        segment=segment,
        answer=answer,
        uploaded=uploaded,
        missed_deadline=missed,
        latency_s=0.2 + 0.1 * rng.random() if answer == "cloud" else 0.01,
        up_bytes=9000 + index if uploaded else 0,
        down_bytes=400 if answer == "cloud" else 0,
        counts=confusion(truth, edge if answer == "edge" else cloud, 3) if labeled else None,
        loss_edge=losses[0],
        loss_cloud=losses[1],
    )


def evaluated(outcomes, **config):
    evaluator = Evaluator(CLASSES, EvaluateConfig(**config))
    for item in outcomes:
        evaluator.add(item)
    return evaluator.evaluation()


def outcomes(num, **options):
    rng = np.random.default_rng(2)
    return [outcome(i, rng, segment=("day", "fog")[i >= num // 2], **options) for i in range(num)]


def check(part, members):
    """A part against its members' own sums."""
    assert part.num_frames == len(members)
    assert part.num_uploads == sum(m.uploaded for m in members)
    assert part.num_missed == sum(m.missed_deadline for m in members)
    assert part.up_bytes == sum(m.up_bytes for m in members)
    assert part.down_bytes == sum(m.down_bytes for m in members)
    assert part.quality == seg_metrics(np.sum([m.counts for m in members], axis=0))
    assert part.upload_rate == part.num_uploads / len(members)


def test_totals_segments_and_windows_are_the_sums_of_their_frames():
    frames = outcomes(200)
    got = evaluated(frames, window_s=5.0)
    check(got.total, frames)
    assert [part.name for part in got.segments] == ["day", "fog"]
    check(got.segments[0], frames[:100])
    check(got.segments[1], frames[100:])
    assert [part.begin_s for part in got.segments] == [0.0, 10.0]
    assert [part.begin_s for part in got.windows] == [0.0, 5.0, 10.0, 15.0]
    for number, part in enumerate(got.windows):
        check(part, frames[50 * number : 50 * number + 50])


def test_windows_join_and_lose_nothing():
    """300 s in at most 8 windows that began as 5 s: they end as 40 s."""
    frames = outcomes(300, rate_hz=1.0)
    got = evaluated(frames, window_s=5.0, max_windows=8)
    assert got.window_s == 40.0
    assert len(got.windows) == 8
    for number, part in enumerate(got.windows):
        check(part, frames[40 * number : 40 * number + 40])


def test_latencies_of_all_and_of_uploads():
    frames = outcomes(200)
    got = evaluated(frames)
    assert got.latency.num == 200
    assert got.latency.p50_s == pytest.approx(0.01)
    assert got.upload_latency.num == sum(f.answer == "cloud" for f in frames)
    assert got.upload_latency.min_s >= 0.2
    assert got.latency.max_s == got.upload_latency.max_s


def test_risk_split_holds_on_the_records():
    frames = outcomes(200)
    risk = evaluated(frames).risk
    assert abs(risk.residual) < 1e-12
    assert risk.system == pytest.approx(np.mean([frame_loss(f.counts) for f in frames]))


def test_bytes_of_no_frame():
    evaluator = Evaluator(CLASSES, EvaluateConfig())
    for item in outcomes(4):
        evaluator.add(item)
    before = evaluator.evaluation().total.down_bytes
    evaluator.add_bytes(0.2, "day", down_bytes=300_000)
    got = evaluator.evaluation()
    assert got.total.down_bytes == before + 300_000
    assert got.total.num_frames == 4
    assert sum(part.down_bytes for part in got.segments) == got.total.down_bytes
    assert sum(part.down_bytes for part in got.windows) == got.total.down_bytes


def test_without_labels_only_cost_is_known():
    got = evaluated(outcomes(20, labeled=False))
    assert got.total.quality is None
    assert got.risk is None
    assert got.total.num_frames == 20


def test_nothing_at_all_is_a_report_too():
    got = evaluated([])
    assert (got.total.num_frames, got.total.upload_rate, got.latency, got.upload_rate_bound) == (0, 0.0, None, None)
    json.loads(json_text(got.to_json()))


def test_report_is_plain_and_the_same_each_time():
    first, second = (json_text(evaluated(outcomes(50)).to_json()) for _ in range(2))
    assert first == second
    report = json.loads(first)
    assert report["windows"][0]["upload_rate"] == sum(f.uploaded for f in outcomes(50)) / 50
    assert report["risk"]["gain"] == pytest.approx(report["risk"]["edge"] - report["risk"]["system"])


def test_memory_does_not_grow_with_the_stream():
    """After 200 frames, 1,200 more leave less than 4 kB behind: no frame is kept."""
    frame = outcomes(2)[0]
    evaluator = Evaluator(CLASSES, EvaluateConfig(window_s=1.0, max_windows=4))
    for index in range(200):
        evaluator.add(dataclasses.replace(frame, time_s=index / 10))
    tracemalloc.start()
    for index in range(200, 1400):
        evaluator.add(dataclasses.replace(frame, time_s=index / 10))
    left_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left_bytes < 4000
    assert len(evaluator.evaluation().windows) <= 4
