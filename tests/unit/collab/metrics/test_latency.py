import numpy as np
import pytest

from edgeai.collab.metrics.latency import GROWTH, NUM_BINS, LatencyHistogram


@pytest.mark.parametrize("spread", [0.05, 1.0, 2.5])
def test_quantiles_are_within_one_per_cent(spread):
    """Oracle: the nearest-rank quantile of all values. A bin's middle is off by at most the root of its growth."""
    latencies = np.random.default_rng(1).lognormal(-2.5, spread, 5000)
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    got = histogram.summary()
    for level, value in ((0.5, got.p50_s), (0.95, got.p95_s), (0.99, got.p99_s)):
        assert value == pytest.approx(np.quantile(latencies, level, method="inverted_cdf"), rel=GROWTH**0.5 - 1 + 1e-9)
    assert got.mean_s == pytest.approx(latencies.mean())
    assert (got.num, got.min_s, got.max_s) == (5000, latencies.min(), latencies.max())


def test_constant_latency_is_exact():
    histogram = LatencyHistogram()
    for _ in range(3):
        histogram.add(0.123)
    got = histogram.summary()
    assert (got.p50_s, got.p95_s, got.p99_s) == (0.123, 0.123, 0.123)


def test_ranks_of_twenty():
    """The 95 % quantile of 20 values is the 19th, which is found however 0.95 * 20 is rounded."""
    histogram = LatencyHistogram()
    for value in range(1, 21):
        histogram.add(float(value))
    assert histogram.quantile(0.95) == pytest.approx(19, rel=0.01)
    assert histogram.quantile(0.99) == pytest.approx(20, rel=0.01)
    assert histogram.quantile(0.5) == pytest.approx(10, rel=0.01)


def test_outside_the_bins():
    histogram = LatencyHistogram()
    histogram.add(0.0)
    assert histogram.quantile(0.5) == 0.0
    histogram.add(1e6)
    assert histogram.quantile(1.0) <= 1e6
    assert histogram.summary().max_s == 1e6
    assert NUM_BINS < 1100
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="invalid latency"):
            histogram.add(wrong)


def test_nothing_added():
    assert LatencyHistogram().summary() is None
    with pytest.raises(ValueError, match="no latency"):
        LatencyHistogram().quantile(0.5)
