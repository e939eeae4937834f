"""The link model against what it promises, and against a second model that steps through time."""

import typing

import numpy as np
import pytest

from edgeai.core.config import Config, load_config
from edgeai.core.errors import UsageError
from edgeai.core.link import PRESETS, Link, LinkChoice, LinkConfig, Preset, find_link

NUM_PACKETS = 20_000
NUM_MESSAGES = 5_000


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_goodput_within_5_percent_of_the_model(name, direction):
    """Model: the rate times the share of packets that get through, because a lost packet takes the line again.

    5 % is asked for; of 20,000 packets the lost share strays by 0.003 at most (three deviations, bursts of 3).
    """
    config = PRESETS[name]
    link = Link(config, seed=1)
    num_bytes = 50 * config.packet_bytes
    for _ in range(NUM_PACKETS // 50):
        done = link.transfer(direction, num_bytes, 0.0)
    model_bps = {"up": config.up_bps, "down": config.down_bps}[direction] * (1 - config.loss_frac)
    assert 8 * 50 * config.packet_bytes * NUM_PACKETS / 50 / done.sent_s == pytest.approx(model_bps, rel=0.05)
    measured_bps = link.goodput_bps(direction, now_s=done.end_s, window_s=done.end_s)
    assert measured_bps == pytest.approx(model_bps, rel=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_delay_within_2_ms_of_the_model(name):
    """Model: serialisation, then the configured delay, then a round trip per round of losses. 2 ms is asked for; the
    mean of 5,000 delays that vary by at most 20 ms strays by 0.3 ms (one deviation).
    """
    config = PRESETS[name]
    link = Link(config, seed=2)
    done = [link.transfer("up", config.packet_bytes, 100.0 * number) for number in range(NUM_MESSAGES)]
    clean = [t for t in done if not t.num_lost]
    assert len(clean) >= NUM_MESSAGES * (1 - 2 * config.loss_frac)
    delays_s = [t.end_s - t.begin_s for t in clean]
    model_s = 8 * config.packet_bytes / config.up_bps + config.delay_s
    assert np.mean(delays_s) == pytest.approx(model_s, abs=0.002)
    assert np.std(delays_s) == pytest.approx(config.jitter_s, rel=0.1, abs=1e-9)
    assert all(t.begin_s == t.start_s for t in done)


def test_a_lost_packet_costs_a_round_trip_and_its_bytes_again():
    config = LinkConfig(up_bps=1e6, delay_s=0.05, loss_frac=0.3, burst_len=2, packet_bytes=1000)
    link = Link(config, seed=0)
    done = [link.transfer("up", 1000, 10.0 * number) for number in range(500)]
    assert {t.num_lost for t in done} >= {0, 1, 2}
    for t in done:  # one packet: every loss is a round of its own
        assert t.sent_s - t.begin_s == pytest.approx(0.008 * (1 + t.num_lost))
        assert t.end_s - t.sent_s == pytest.approx(0.05 + 0.1 * t.num_lost)


@pytest.mark.parametrize(("loss_frac", "burst_len"), [(0.01, 1.0), (0.05, 4.0), (0.3, 2.0)])
def test_loss_is_bursty_as_configured(loss_frac, burst_len):
    """One packet a message shows the chain itself: lost, lost, got through = 2 lost. A run of losses is one burst."""
    link = Link(LinkConfig(loss_frac=loss_frac, burst_len=burst_len), seed=5)
    lost = np.array([link.transfer("up", 100, float(number)).num_lost for number in range(30_000)])
    sent = lost.sum() + len(lost)
    num_bursts = (lost > 0).sum()
    # three deviations of the mean of geometric runs, with the number of runs seen
    assert lost.sum() / sent == pytest.approx(loss_frac, rel=3 * 1.5 / np.sqrt(num_bursts))
    assert lost.sum() / num_bursts == pytest.approx(burst_len, rel=3 / np.sqrt(num_bursts))


def stepped(rate_bps, messages, *, step_s=1e-3, until_s=60.0):
    """Second model: a queue of bits drained in small steps of time. Returns when each message has left."""
    times_s = np.arange(0, until_s, step_s)
    rates = np.array([rate_bps(time_s) for time_s in times_s])
    left, ends = [], []
    queue = sorted(messages)
    for now_s, rate in zip(times_s, rates, strict=True):
        while queue and queue[0][0] <= now_s:
            left.append(8.0 * queue.pop(0)[1])
        budget = rate * step_s
        while left and budget > 0:
            used = min(budget, left[0])
            budget -= used
            left[0] -= used
            if left[0] <= 1e-6:
                left.pop(0)
                ends.append(now_s + step_s)
    return ends


def test_trace_with_outages_agrees_with_small_steps(tmp_path):
    """Tolerance: two steps of the second model, one for the start and one for the end."""
    path = tmp_path / "trace.csv"
    path.write_text("t_s,up_kbps,down_kbps,rtt_ms,loss\n0,100,1,0,0\n0.7,400,1,0,0\n1.4,0,1,0,0\n2.1,50,1,0,0\n")
    outages = ((1.0, 1.25), (5.0, 9.5))
    rates = (100e3, 400e3, 0.0, 50e3)

    def rate_bps(time_s):
        is_out = any(start_s <= time_s < end_s for start_s, end_s in outages)
        return 0.0 if is_out else rates[int((time_s + 1e-9) / 0.7) % 4]

    generator = np.random.default_rng(3)
    starts_s = np.sort(generator.uniform(0, 25, 30)).round(3).tolist()
    messages = list(zip(starts_s, generator.integers(1, 20_000, 30).tolist(), strict=True))
    link = Link(LinkConfig(delay_s=0.0, trace=path, outages=outages), seed=0)
    sent_s = [link.transfer("up", size, start_s).sent_s for start_s, size in messages]
    assert sent_s == pytest.approx(stepped(rate_bps, messages), abs=0.002)


def test_trace_gives_delay_and_loss_and_repeats(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("t_s,up_kbps,down_kbps,rtt_ms,loss\n0,8,16,100,0\n10,80,160,600,0.5\n")
    link = Link(LinkConfig(trace=path), seed=0)
    first = link.transfer("up", 1000, 0.0)  # 8 kbit at 8 kbit/s
    assert (first.sent_s, first.end_s) == (1.0, pytest.approx(1.05))
    rough = [link.transfer("up", 10, 10.0 + 0.09 * number) for number in range(100)]
    assert sum(t.num_lost for t in rough) > 30
    again = link.transfer("up", 1000, 20.0)
    assert (again.begin_s, again.sent_s, again.num_lost) == (20.0, pytest.approx(21.0), 0)
    assert again.end_s == pytest.approx(max(21.05, rough[-1].end_s))
    assert link.transfer("down", 1000, 20.0).sent_s == pytest.approx(20.5)


def test_an_outage_stops_the_bytes_and_they_go_on_after_it():
    link = Link(LinkConfig(up_bps=8000, delay_s=0.1, outages=((1.0, 3.0),)), seed=0)
    half_way = link.transfer("up", 2000, 0.0)
    assert (half_way.begin_s, half_way.sent_s, half_way.end_s) == (0.0, 4.0, pytest.approx(4.1))
    waiting = Link(LinkConfig(up_bps=8000, delay_s=0.1, outages=((1.0, 3.0),)), seed=0).transfer("up", 1000, 1.5)
    assert (waiting.start_s, waiting.begin_s, waiting.sent_s) == (1.5, 3.0, 4.0)


def test_bytes_wait_for_earlier_ones_of_their_direction_only():
    link = Link(LinkConfig(up_bps=8000, down_bps=8000, delay_s=0.5), seed=0)
    assert link.transfer("up", 1000, 0.0).sent_s == 1.0
    second = link.transfer("up", 1000, 0.25)
    assert (second.begin_s, second.sent_s, second.end_s) == (1.0, 2.0, 2.5)
    assert (link.busy_until("up"), link.busy_until("down")) == (2.0, 0.0)
    assert link.transfer("down", 1000, 0.25).begin_s == 0.25


def test_jitter_keeps_the_order():
    config = LinkConfig(up_bps=1e9, delay_s=0.05, jitter_s=0.04)
    link = Link(config, seed=4)
    ends_s = [link.transfer("up", 1000, 0.001 * number).end_s for number in range(1000)]
    assert ends_s == sorted(ends_s)
    assert len(set(ends_s)) < 900  # with 1 ms between messages many would overtake: those arrive together
    assert all(end_s >= 0.001 * number for number, end_s in enumerate(ends_s))


def test_token_bucket_lets_a_burst_pass_after_a_pause():
    link = Link(LinkConfig(up_bps=8000, delay_s=0.0, burst_bytes=1000), seed=0)
    assert link.transfer("up", 1500, 0.0).sent_s == 0.5  # 1000 bytes at once, 500 at 1000 bytes/s
    assert link.transfer("up", 1000, 0.75).sent_s == 1.5  # 250 saved since, 750 to go
    assert link.transfer("up", 1000, 9.0).sent_s == 9.0


def test_the_same_calls_give_the_same_times_and_directions_do_not_mix():
    config = PRESETS["3g"]

    def times(seed, *, also_down):
        link = Link(config, seed)
        times = []
        for number in range(200):
            times.append(link.transfer("up", 5000, 0.05 * number))
            if also_down:
                link.transfer("down", 777, 0.05 * number)
        return times

    assert times(7, also_down=False) == times(7, also_down=True)
    assert times(7, also_down=False) != times(8, also_down=False)


def test_goodput_knows_only_what_arrived_within_the_window():
    link = Link(LinkConfig(up_bps=8000, delay_s=0.5, outages=((10.0, 11.0),)), seed=0)
    assert link.goodput_bps("up", now_s=100.0, window_s=100.0) is None
    link.transfer("up", 1000, 0.0)
    assert link.goodput_bps("up", now_s=1.4, window_s=10.0) is None  # arrives at 1.5
    assert link.goodput_bps("up", now_s=1.5, window_s=10.0) == 8000
    link.transfer("up", 1000, 9.5)  # an outage half way: two seconds on the line
    assert link.goodput_bps("up", now_s=12.5, window_s=5.0) == 4000
    assert link.goodput_bps("up", now_s=12.5, window_s=20.0) == pytest.approx(16000 / 3)


def test_perfect_is_as_good_as_none():
    """A frame of 100 kB takes less than a microsecond: no deadline in milliseconds can tell."""
    done = Link(PRESETS["perfect"], seed=0).transfer("up", 100_000, 3.0)
    assert done.end_s == pytest.approx(3.0, abs=1e-6)


class Move(Config):
    link: LinkChoice = "wifi"


def test_a_config_names_a_link_or_spells_it_out():
    assert set(PRESETS) == set(typing.get_args(Preset))
    assert find_link(load_config(Move, None).link) == PRESETS["wifi"]
    spelled = load_config(Move, None, ["link.up_bps=1e6", "link.outages=[[1, 2]]"]).link
    assert find_link(spelled) == LinkConfig(up_bps=1e6, outages=((1.0, 2.0),))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("link.loss_frac=0.8", "loss_frac 0.8 needs a burst_len of at least 4"),
        ("link.outages=[[2, 1]]", "outage (2, 1): expected rising times from 0 on, without overlap"),
        ("link.outages=[[1, 3], [2, 4]]", "outage (2, 4): expected rising times from 0 on, without overlap"),
        ("link.up_bps=0", "greater than 0"),
    ],
)
def test_impossible_links_are_refused(override, expected):
    with pytest.raises(UsageError) as caught:
        load_config(Move, None, [override])
    assert expected in caught.value.message


def test_nothing_to_send_is_a_mistake_of_the_caller():
    link = Link(PRESETS["lan"], seed=0)
    with pytest.raises(ValueError, match="cannot send 0 bytes"):
        link.transfer("up", 0, 0.0)
