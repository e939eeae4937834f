"""Virtual time, the edge's queue and the breaker, step by step."""

from edgeai.collab.edge.circuit_breaker import CircuitBreaker
from edgeai.collab.edge.queue import EdgeQueue
from edgeai.collab.sim.events import EventLoop, Order


def test_events_go_by_time_then_order_then_as_planned():
    loop, seen = EventLoop(), []
    loop.at(2.0, lambda now_s: seen.append(("frame", now_s)), Order.FRAME)
    loop.at(2.0, lambda now_s: seen.append(("deadline", now_s)), Order.DEADLINE)
    loop.at(2.0, lambda now_s: seen.append(("result", now_s)))
    loop.at(2.0, lambda now_s: seen.append(("result 2", now_s)))
    loop.at(1.0, lambda now_s: loop.at(0.5, lambda late_s: seen.append(("at once", late_s))))
    loop.run()
    assert seen == [("at once", 1.0), ("result", 2.0), ("result 2", 2.0), ("deadline", 2.0), ("frame", 2.0)]


def test_wall_pace_takes_real_time_and_changes_nothing():
    import time

    loop, seen = EventLoop(wall=True), []
    loop.at(0.05, seen.append)
    begin_s = time.monotonic()
    loop.run()
    assert seen == [0.05]
    assert time.monotonic() - begin_s >= 0.05


def test_the_edge_takes_the_newest_and_drops_the_oldest():
    """One second each; 1 is busy when 2, 3 and 4 come, and two may wait."""
    loop, done, dropped = EventLoop(), [], []
    queue = EdgeQueue(
        loop,
        2,
        begin=lambda item: 1.0,
        on_done=lambda item, now_s: done.append((item, now_s)),
        on_dropped=dropped.append,
    )
    for number in (1, 2, 3, 4):
        loop.at(number / 10, lambda now_s, number=number: queue.offer(number, now_s))
    loop.run()
    assert done == [(1, 1.1), (4, 2.1), (3, 3.1)]
    assert dropped == [2]


def test_the_breaker_opens_probes_and_closes():
    breaker = CircuitBreaker(failures=2, probe_s=1.0)
    breaker.failed(0.0)
    breaker.succeeded()  # the count starts over
    breaker.failed(1.0)
    assert breaker.allows(1.1)
    breaker.failed(1.2)
    assert breaker.is_open
    assert [breaker.allows(time_s) for time_s in (1.3, 2.1, 2.2, 2.3, 3.3)] == [False, False, True, False, True]
    breaker.failed(3.4)  # a try that fails changes nothing
    assert not breaker.allows(3.5)
    breaker.succeeded()
    assert breaker.allows(3.6)
    assert breaker.num_opened == 1
