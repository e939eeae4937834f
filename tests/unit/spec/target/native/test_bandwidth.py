"""The bandwidth of reading memory, against a clock that the test sets."""

import itertools

from edgeai.spec.target.native import bandwidth


def test_bandwidth_counts_every_byte_once(monkeypatch):
    """Reads of 2, 1 and again 2 s: the best one counts, and 1,000,000 bytes in 1 s are 1 MB/s."""
    times_s = itertools.chain([0, 2, 3, 4], itertools.count(5, 2))
    monkeypatch.setattr(bandwidth.time, "perf_counter", lambda: next(times_s))
    assert bandwidth.read_bandwidth_bps(1_000_000, 3) == 1_000_000
