"""The edge's frame queue."""

from edgeai.collab.edge.queue import EdgeQueue
from edgeai.collab.sim.events import EventLoop


def test_edge_queue_serves_the_newest_and_drops_the_oldest():
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
