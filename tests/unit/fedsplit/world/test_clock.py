"""Virtual time against the closed forms of split learning's schedules, and energy by hand."""

import json

import pytest

from edgeai.fedsplit.config.world import WorldConfig
from edgeai.fedsplit.world.clock import MAX_SPANS, Clock
from edgeai.fedsplit.world.usage import Span
from edgeai.fedsplit.world.world import SERVER, World, build_world

DELAY_S, BPS = 0.5, 8000.0  # a byte takes 1 ms
CLIENT = {"flops_per_s": 10, "memory_bytes": 1, "compute_w": 7, "idle_w": 2, "tx_w": 5, "rx_w": 3}
SERVER_DEVICE = {**CLIENT, "flops_per_s": 100, "compute_w": 50, "idle_w": 10, "tx_w": 10, "rx_w": 10}
LINK = {"up_bps": BPS, "down_bps": BPS, "delay_s": DELAY_S}


def world(num_clients: int = 3, lanes: int = 1, **link: object) -> World:
    cfg = {
        "devices": [CLIENT],
        "links": [{**LINK, **link}],
        "server": {"device": SERVER_DEVICE, "lanes": lanes, "backhaul": LINK},
    }
    return build_world(WorldConfig.model_validate(cfg), num_clients, 0)


def begun(num_clients: int = 3, lanes: int = 1, **link: object) -> Clock:
    clock = Clock(world(num_clients, lanes, **link), 0)
    clock.begin_round(1)
    return clock


def step(clock: Clock, client: int, at_s: float, lane: int = 0) -> float:
    """One full-gradient step: forward 2 s, 1500 bytes up, 40 FLOPs at the server, 500 down, backward 4 s."""
    at_s = clock.work(client, 20, at_s, "forward")
    at_s = clock.send(client, "up", 1500, at_s)
    at_s = clock.work(SERVER, 40, at_s, "server", lane)
    at_s = clock.send(client, "down", 500, at_s)
    return clock.work(client, 40, at_s, "backward")


FORWARD_S, UP_S, SERVE_S, DOWN_S, BACKWARD_S = 2.0, 1.5 + DELAY_S, 0.4, 0.5 + DELAY_S, 4.0
STEP_S = FORWARD_S + UP_S + SERVE_S + DOWN_S + BACKWARD_S


def test_relay_learning_takes_the_sum_of_all_steps() -> None:
    clock, at_s = begun(), 0.0
    for client in range(3):
        for _ in range(4):
            at_s = step(clock, client, at_s)
    assert at_s == pytest.approx(3 * 4 * STEP_S)


@pytest.mark.parametrize(("lanes", "served_in"), [(3, 1), (2, 2), (1, 3)])
def test_parallel_clients_queue_for_the_lanes(lanes: int, served_in: int) -> None:
    """Equal clients meet at the server: the last one waits for those before it in its lane."""
    clock = begun(lanes=lanes)
    ends_s = [step(clock, client, 0.0, lane=client % lanes) for client in range(3)]
    assert max(ends_s) == pytest.approx(FORWARD_S + UP_S + served_in * SERVE_S + DOWN_S + BACKWARD_S)
    assert min(ends_s) == pytest.approx(STEP_S)


def test_the_first_free_lane_is_taken() -> None:
    clock = begun(lanes=2)
    assert [clock.work(SERVER, flops, 0.0, lane=None) for flops in (100, 300, 100)] == [1.0, 3.0, 2.0]
    assert [span.lane for span in clock.spans] == [0, 1, 0]


def test_a_line_serves_one_message_at_a_time_and_directions_do_not_meet() -> None:
    clock = begun()
    assert clock.send(0, "up", 1000, 2.0) == pytest.approx(3.5)
    assert clock.send(0, "up", 1000, 2.0) == pytest.approx(4.5)
    assert clock.send(0, "down", 1000, 2.0) == pytest.approx(3.5)
    assert clock.send(1, "up", 1000, 2.0) == pytest.approx(3.5)
    assert clock.send(SERVER, "up", 1000, 2.0) == pytest.approx(3.5)


def test_a_device_starts_once_a_round_before_its_first_work() -> None:
    cfg = {"devices": [{**CLIENT, "start_s": 3.0}, CLIENT], "links": [LINK]}
    clock = Clock(build_world(WorldConfig.model_validate(cfg), 2, 0), 0)
    for number in (1, 2):
        clock.begin_round(number)
        begin_s = clock.now_s
        ready_s = clock.start(0, begin_s + 1.0)
        assert ready_s == begin_s + 4.0
        assert clock.work(0, 20, begin_s) == ready_s + 2.0, "its processor is busy with it"
        assert clock.start(0, begin_s + 1.5) == begin_s + 1.5
        assert clock.start(1, begin_s + 1.0) == begin_s + 1.0
        assert clock.end_round(begin_s + 10.0).clients[0].energy_j == 2 * 10 + 5 * 5


def test_nothing_takes_no_time_even_behind_a_queue() -> None:
    clock = begun()
    clock.work(0, 100, 0.0)
    clock.send(0, "up", 9000, 0.0)
    assert clock.work(0, 0, 1.0) == 1.0
    assert clock.send(0, "up", 0, 1.0) == 1.0
    assert clock.free_s(0) == 10.0
    assert len(clock.spans) == 2


def test_energy_of_a_step_by_hand() -> None:
    clock = begun()
    use = clock.end_round(step(clock, 0, 0.0))
    client = use.clients[0]
    assert (client.compute_s, client.tx_s, client.rx_s) == (6.0, 1.5, 0.5)
    waiting_s = STEP_S - 6.0 - 1.5 - 0.5
    assert client.energy_j == pytest.approx(7 * 6.0 + 5 * 1.5 + 3 * 0.5 + 2 * waiting_s)
    assert use.server.energy_j == pytest.approx(50 * SERVE_S + 10 * (STEP_S - SERVE_S))
    assert list(use.clients) == [0]  # the others took no part
    assert use.energy_j == pytest.approx(client.energy_j + use.server.energy_j)
    assert use.num_spans == 5


def test_what_overlaps_draws_idle_power_once() -> None:
    clock = begun()
    clock.send(0, "up", 4000, 0.0)
    clock.work(0, 40, 0.0)
    client = clock.end_round(10.0).clients[0]
    assert client.energy_j == pytest.approx(2 * 10 + (7 - 2) * 4 + (5 - 2) * 4)


def test_each_lane_draws_power() -> None:
    clock = begun(lanes=3)
    clock.work(SERVER, 200, 0.0, lane=2)
    assert clock.end_round(4.0).server.energy_j == pytest.approx(3 * 10 * 4.0 + (50 - 10) * 2.0)


def test_a_deadline_cuts_work_and_its_cost() -> None:
    clock = begun()
    clock.work(0, 100, 0.0)
    use = clock.end_round(4.0)
    assert (use.clients[0].compute_s, use.clients[0].energy_j) == (4.0, 28.0)
    clock.begin_round(2)
    assert clock.work(0, 10, clock.now_s) == 5.0  # the rest was given up
    assert clock.end_round(5.0).clients[0].compute_s == 1.0
    assert clock.totals[0].compute_s == 5.0


def test_asynchronous_work_goes_on_into_the_next_round() -> None:
    clock = begun()
    clock.work(0, 100, 0.0)
    clock.send(0, "up", 6000, 0.0)
    first = clock.end_round(4.0)
    clock.begin_round(2, carry_over=True)
    assert clock.work(0, 10, clock.now_s) == 11.0
    assert clock.send(0, "up", 1000, clock.now_s) == pytest.approx(7.0 + DELAY_S)
    second = clock.end_round(20.0)
    assert (first.clients[0].compute_s, second.clients[0].compute_s) == (4.0, 7.0)
    assert (first.clients[0].tx_s, second.clients[0].tx_s) == (4.0, pytest.approx(3.0))


def test_time_never_goes_back() -> None:
    clock = begun()
    clock.advance(5.0)
    clock.advance(3.0)
    assert clock.now_s == 5.0
    assert clock.end_round(2.0).end_s == 5.0


@pytest.mark.parametrize("carry_over", [False, True])
def test_a_resumed_clock_goes_on_to_the_bit(carry_over: bool) -> None:
    def play(clock: Clock, number: int) -> list[float]:
        clock.begin_round(number, carry_over=carry_over)
        times_s = [step(clock, client, clock.now_s + 0.1 * client) for client in (0, 1, 2) for _ in range(5)]
        use = clock.end_round(sorted(times_s)[7])
        return [*times_s, use.energy_j, clock.now_s]

    made = world(3, jitter_s=0.2, loss_frac=0.1, packet_bytes=100)
    straight = Clock(made, 7)
    play(straight, 1)
    resumed = Clock(made, 7)
    resumed.load_state(json.loads(json.dumps(straight.state())))
    assert play(resumed, 2) == play(straight, 2)
    assert resumed.totals == straight.totals
    other = Clock(made, 8)
    assert play(other, 1) != play(Clock(made, 7), 1)


def test_rounds_draw_different_jitter_and_outages_go_by_the_time_of_day() -> None:
    clock = Clock(world(1, jitter_s=0.2, outages=[[100.0, 200.0]]), 0)
    took_s = []
    for number in (1, 2):
        clock.begin_round(number)
        took_s.append(clock.send(0, "up", 1000, clock.now_s) - clock.now_s)
        clock.end_round(20.0 * number)
    assert took_s[0] != took_s[1]
    clock.begin_round(3)
    assert clock.send(0, "up", 1000, 150.0) > 200.0


def test_spans_are_what_happened() -> None:
    clock = begun()
    step(clock, 1, 0.0)
    ends_s = [2.0, 4.0, 4.4, 5.4, 9.4]
    expected = [
        Span(1, "compute", "forward", 0.0, ends_s[0]),
        Span(1, "up", "", ends_s[0], ends_s[1]),
        Span(SERVER, "compute", "server", ends_s[1], ends_s[2]),
        Span(1, "down", "", ends_s[2], ends_s[3]),
        Span(1, "compute", "backward", ends_s[3], ends_s[4]),
    ]
    for found, wanted in zip(clock.spans, expected, strict=True):
        assert (found.who, found.what, found.label) == (wanted.who, wanted.what, wanted.label)
        assert (found.begin_s, found.end_s) == pytest.approx((wanted.begin_s, wanted.end_s))


def test_a_long_round_keeps_its_first_spans_and_counts_on() -> None:
    clock = begun()
    for _ in range(MAX_SPANS + 5):
        clock.work(0, 10, 0.0)
    assert len(clock.spans) == MAX_SPANS
    use = clock.end_round(clock.free_s(0))
    assert (use.num_spans, use.clients[0].compute_s) == (MAX_SPANS + 5, MAX_SPANS + 5.0)


def test_misuse_is_refused() -> None:
    clock = begun()
    with pytest.raises(ValueError, match="round 1 has not ended"):
        clock.begin_round(2)
    with pytest.raises(ValueError, match="round 1 has not ended"):
        clock.state()
    with pytest.raises(ValueError, match="lane 1 of 1"):
        clock.work(0, 10, 0.0, lane=1)
    clock.end_round(1.0)
    with pytest.raises(ValueError, match="no round has begun"):
        clock.end_round(2.0)
