"""The uplink, message by message, on a link of 1000 bytes a second without delay."""

from types import SimpleNamespace

import pytest

from edgeai.collab.config.playback import UploadConfig
from edgeai.collab.edge.uplink import Uplink
from edgeai.collab.sim.events import EventLoop
from edgeai.collab.sim.frame_state import Request
from edgeai.core.link import Link, LinkConfig


class Edge:
    """An uplink and what it reports."""

    def __init__(self, *, keeps=False, outages=(), **config):
        self.loop = EventLoop()
        self.delivered, self.dropped = [], []
        link = Link(LinkConfig(up_bps=8000, down_bps=8000, delay_s=0.0, outages=outages), 0)
        self.uplink = Uplink(
            self.loop,
            link,
            UploadConfig(**config),
            keeps_late=keeps,
            on_sent=lambda request, now_s: None,
            on_delivered=lambda request, now_s: self.delivered.append((request.state.index, pytest.approx(now_s))),
            on_given_up=lambda request: self.dropped.append((request.state.index, request.state.drops)),
        )

    def ask(self, index, at_s, *, deadline_s=100.0, store=False):
        request = Request(SimpleNamespace(index=index, deadline_s=deadline_s, drops=[]), b"", 1000, not store)
        take = self.uplink.store if store else self.uplink.ask
        self.loop.at(at_s, lambda now_s: take(request, now_s))


def test_bounded_in_flight_sends_newest_first_and_drops_oldest():
    edge = Edge(max_in_flight=1, queue_frames=2)
    for index in range(4):
        edge.ask(index, index / 10)
    edge.loop.at(5.0, edge.uplink.slot_freed)
    edge.loop.at(6.5, edge.uplink.slot_freed)
    edge.loop.run()
    assert edge.delivered == [(0, 1.0), (3, 6.0), (2, 7.5)]
    assert edge.dropped == [(1, ["queue"])]


def test_expired_requests_are_not_sent():
    edge = Edge(max_in_flight=1)
    edge.ask(0, 0.0)
    edge.ask(1, 0.1, deadline_s=2.0)
    edge.loop.at(5.0, edge.uplink.slot_freed)
    edge.loop.run()
    assert (edge.delivered, edge.dropped) == ([(0, 1.0)], [(1, ["expired"])])


def test_training_requests_are_spooled_until_the_link_is_idle():
    edge = Edge(keeps=True, max_in_flight=1, queue_frames=1)
    for index in range(3):
        edge.ask(index, index / 10)
    edge.loop.at(5.0, edge.uplink.slot_freed)
    edge.loop.run()
    # 2 pushed 1 out of the waiting room; an answer is asked for first, then the line is idle
    assert edge.delivered == [(0, 1.0), (2, 6.0), (1, 7.0)]
    assert edge.dropped == []


def test_the_spool_is_bounded():
    edge = Edge(keeps=True, spool_frames=2)
    for index in range(5):
        edge.ask(index, 0.0, store=True)
    edge.loop.run()
    # 0 is on the line at once, 3 and 4 are the newest two behind it
    assert edge.delivered == [(0, 1.0), (3, 2.0), (4, 3.0)]
    assert edge.dropped == [(1, ["spool"]), (2, ["spool"])]


def test_open_breaker_blocks_the_spool_until_the_end_of_the_stream():
    edge = Edge(keeps=True, breaker_failures=1)
    edge.loop.at(0.0, edge.uplink.breaker.failed)
    edge.ask(0, 0.5)
    edge.ask(1, 0.6, store=True)
    edge.loop.at(9.0, edge.uplink.close)
    edge.loop.run()
    assert edge.delivered == [(0, 10.0), (1, 11.0)]


def test_an_interrupted_upload_resumes_after_the_outage():
    edge = Edge(outages=((0.5, 10.0),))
    edge.ask(0, 0.0)
    edge.loop.run()
    assert edge.delivered == [(0, 10.5)]
