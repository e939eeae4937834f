"""The event loop: order of actions and pace."""

from edgeai.collab.sim.events import EventLoop, Order


def test_events_run_by_time_then_order_then_schedule():
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
