"""A network link in virtual time: rate, delay, jitter, bursty loss, outages and recorded traces.

Bytes of one direction go out one after the other at the link's rate (a queue without a limit), then travel for the
delay. Everything is drawn from the seed, so the same calls give the same times on every machine.

    start_s ── wait for earlier bytes ── begin_s ── bytes on the line ── sent_s ── delay, jitter, resends ── end_s

Packet headers of lower layers are not modelled: `up_bps` is what is left for messages. Imports no NumPy before a link
is built, because schemas of the areas hold a `LinkConfig`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config
from edgeai.core.link_trace import LinkTrace, read_trace

if TYPE_CHECKING:
    import numpy as np

Direction = Literal["up", "down"]
"""up: from edge or client to cloud or server; down: back."""

_NUM_REMEMBERED = 256


def _min_burst_len(loss_frac: float) -> float:
    """Return the smallest mean burst that allows this loss: the good state lasts at least one packet."""
    return loss_frac / (1 - loss_frac)


class LinkConfig(Config):
    """A network link between an edge or client and a cloud or server."""

    up_bps: float = Field(default=8e6, gt=0, allow_inf_nan=False)
    """Rate from edge to cloud, in bit/s."""
    down_bps: float = Field(default=8e6, gt=0, allow_inf_nan=False)
    """Rate from cloud to edge, in bit/s."""
    delay_s: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    """Time from the last byte sent to its arrival, one way."""
    jitter_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Standard deviation of a message's delay (normal, never below 0). Messages never overtake each other."""
    loss_frac: float = Field(default=0.0, ge=0, le=0.9)
    """Share of packets lost. A lost packet is sent again one round trip later and takes its time on the line again."""
    burst_len: float = Field(default=3.0, ge=1)
    """Mean number of packets lost in a row (Gilbert-Elliott: all are lost in the bad state, none in the good one)."""
    packet_bytes: int = Field(default=1400, ge=1)
    """What one packet carries."""
    burst_bytes: int = Field(default=0, ge=0)
    """Token bucket: this many bytes pass at once after a pause long enough to save them up."""
    outages: tuple[tuple[float, float], ...] = ()
    """Times (start, end) in seconds at which no byte leaves the sender; what is under way still arrives."""
    trace: Path | None = None
    """CSV file t_s,up_kbps,down_kbps,rtt_ms,loss: takes the place of rates, delay and loss, and repeats."""

    @model_validator(mode="after")
    def _check(self) -> LinkConfig:
        if self.burst_len < _min_burst_len(self.loss_frac):
            least = _min_burst_len(self.loss_frac)
            raise ValueError(f"loss_frac {self.loss_frac:g} needs a burst_len of at least {least:.3g}")
        before_s = 0.0
        for start_s, end_s in self.outages:
            if not before_s <= start_s < end_s < math.inf:
                raise ValueError(f"outage ({start_s:g}, {end_s:g}): expected rising times from 0 on, without overlap")
            before_s = end_s
        return self


PRESETS = {
    "perfect": LinkConfig(up_bps=1e12, down_bps=1e12, delay_s=0.0),
    "lan": LinkConfig(up_bps=1e9, down_bps=1e9, delay_s=0.0003, jitter_s=0.00005),
    "wifi": LinkConfig(up_bps=40e6, down_bps=80e6, delay_s=0.004, jitter_s=0.001, loss_frac=0.002, burst_len=2),
    "4g": LinkConfig(up_bps=8e6, down_bps=30e6, delay_s=0.025, jitter_s=0.006, loss_frac=0.005),
    "3g": LinkConfig(up_bps=1e6, down_bps=4e6, delay_s=0.06, jitter_s=0.015, loss_frac=0.01),
    "narrow": LinkConfig(up_bps=100e3, down_bps=100e3, delay_s=1.0),
    "lora": LinkConfig(up_bps=12e3, down_bps=12e3, delay_s=1.0, jitter_s=0.02, loss_frac=0.02, packet_bytes=222),
}
"""Links by name, typical values of ours. Rates and delays of "narrow" and "lora" are those of CMU Hawk's 100k and 12k
scenarios."""

Preset = Literal["perfect", "lan", "wifi", "4g", "3g", "narrow", "lora"]
LinkChoice = Preset | LinkConfig
"""For schemas: a name, or a link in full."""


def find_link(choice: LinkChoice) -> LinkConfig:
    """Return the preset of a name, or the given link."""
    return choice if isinstance(choice, LinkConfig) else PRESETS[choice]


@dataclass(frozen=True)
class Transfer:
    """The transfer of one message.

    Args:
        start_s: Time at which the message was handed to the link.
        begin_s: Time at which its first byte was sent, after the bytes queued before.
        sent_s: Time at which its last byte was sent, resent ones included.
        end_s: Time of complete delivery.
        num_bytes: Size of the message.
        num_packets: Number of packets, resent ones not counted.
        num_lost: Number of lost packets, each of which was sent again.
    """

    start_s: float
    begin_s: float
    sent_s: float
    end_s: float
    num_bytes: int
    num_packets: int
    num_lost: int


class Link:
    """A link with both directions.

    Args:
        config: Properties of the link.
        seed: Seed of jitter and loss; the directions are independent.

    Raises:
        UsageError: The trace file cannot be used.
    """

    def __init__(self, config: LinkConfig, seed: int) -> None:
        trace = read_trace(config.trace) if config.trace is not None else _constant(config)
        self._lines = {
            "up": _Line(config, trace, trace.up_bps, seed, 0),
            "down": _Line(config, trace, trace.down_bps, seed, 1),
        }

    def transfer(self, direction: Direction, num_bytes: int, start_s: float) -> Transfer:
        """Send a message, queued behind the earlier messages of its direction.

        Args:
            direction: Direction of the message.
            num_bytes: Size of the message with its header.
            start_s: Time at which it is handed over.

        Returns:
            Times of the transfer, which depend only on the config, the seed and the earlier calls for the direction.
        """
        if num_bytes < 1 or start_s < 0:
            raise ValueError(f"cannot send {num_bytes} bytes at {start_s} s")
        return self._lines[direction].transfer(num_bytes, start_s)

    def busy_until(self, direction: Direction) -> float:
        """Return the time at which all queued messages have been sent."""
        return self._lines[direction].free_s

    def goodput_bps(self, direction: Direction, *, now_s: float, window_s: float) -> float | None:
        """Measure the goodput as a sender can, from delivered messages.

        Args:
            direction: Direction to measure.
            now_s: Current time; later deliveries are not known.
            window_s: Length of the window before `now_s`; of the deliveries in it, the last 256 count.

        Returns:
            Message bits per second of transmit time; None without deliveries or transmit time.
        """
        known = [t for t in self._lines[direction].recent if now_s - window_s <= t.end_s <= now_s]
        busy_s = sum(t.sent_s - t.begin_s for t in known)
        return 8 * sum(t.num_bytes for t in known) / busy_s if busy_s > 0 else None


class _Line:
    """One direction. All amounts of data are in bits, because rates are."""

    def __init__(
        self, config: LinkConfig, trace: LinkTrace, rates_bps: tuple[float, ...], seed: int, number: int
    ) -> None:
        from numpy.random import default_rng

        self._config, self._trace, self._rates_bps = config, trace, rates_bps
        self._random: np.random.Generator = default_rng((seed, number))
        self._is_bad = False
        self._left_in_state = 0  # packets before the state is drawn again
        self._state_loss_frac = -1.0
        self._saved_bits = 8.0 * config.burst_bytes
        self._last_end_s = 0.0
        self.free_s = 0.0
        self.recent: deque[Transfer] = deque(maxlen=_NUM_REMEMBERED)

    def transfer(self, num_bytes: int, start_s: float) -> Transfer:
        """Send one message."""
        begin_s = self._next_open_s(max(start_s, self.free_s))
        self._save_up(self.free_s, begin_s)
        step = self._step(begin_s) % len(self._rates_bps)
        delay_s, loss_frac = self._trace.delay_s[step], self._trace.loss_frac[step]
        num_packets = math.ceil(num_bytes / self._config.packet_bytes)
        rounds = self._losses(num_packets, loss_frac)
        num_lost = sum(rounds)
        bits = 8.0 * num_bytes * (1 + num_lost / num_packets)
        saved_bits = min(bits, self._saved_bits)
        self._saved_bits -= saved_bits
        sent_s = self._end_of(bits - saved_bits, begin_s)
        jitter_s = self._config.jitter_s * self._random.standard_normal() if self._config.jitter_s else 0.0
        arrival_s = sent_s + max(0.0, delay_s + jitter_s) + 2 * delay_s * len(rounds)
        self._last_end_s = max(self._last_end_s, arrival_s)
        self.free_s = sent_s
        done = Transfer(start_s, begin_s, sent_s, self._last_end_s, num_bytes, num_packets, num_lost)
        self.recent.append(done)
        return done

    def _losses(self, num_packets: int, loss_frac: float) -> list[int]:
        """Send packets, then the lost ones again until none is lost.

        Returns:
            How many were lost in each round that lost any; each such round costs a round trip.
        """
        rounds = []
        while lost := self._num_lost(num_packets, loss_frac):
            rounds.append(lost)
            num_packets = lost
        return rounds

    def _num_lost(self, num_packets: int, loss_frac: float) -> int:
        """Run the two-state chain over packets, one stretch of a state at a time."""
        if loss_frac != self._state_loss_frac:  # the trace moved on
            self._state_loss_frac, self._left_in_state = loss_frac, 0
            self._is_bad = bool(loss_frac) and self._random.random() >= loss_frac  # turned over below
        if not loss_frac:
            return 0
        burst_len = max(self._config.burst_len, _min_burst_len(loss_frac))  # a trace may lose more than the config
        lost = 0
        while num_packets:
            if not self._left_in_state:
                self._is_bad = not self._is_bad
                mean_len = burst_len if self._is_bad else burst_len * (1 - loss_frac) / loss_frac
                self._left_in_state = int(self._random.geometric(min(1.0, 1 / mean_len)))
            stretch = min(num_packets, self._left_in_state)
            lost += stretch if self._is_bad else 0
            num_packets -= stretch
            self._left_in_state -= stretch
        return lost

    def _step(self, time_s: float) -> int:
        """Return the index of the trace step at a time, counted over repeats."""
        number = math.floor(time_s / self._trace.step_s)
        return number + 1 if (number + 1) * self._trace.step_s <= time_s else number  # the division rounded down

    def _rate_until(self, time_s: float) -> tuple[float, float]:
        """Return the rate at a time and when it next changes."""
        until_s = math.inf
        for start_s, end_s in self._config.outages:
            if start_s <= time_s < end_s:
                return 0.0, end_s
            if time_s < start_s:
                until_s = start_s
                break
        if len(self._rates_bps) == 1:
            return self._rates_bps[0], until_s
        step = self._step(time_s)
        return self._rates_bps[step % len(self._rates_bps)], min(until_s, (step + 1) * self._trace.step_s)

    def _next_open_s(self, time_s: float) -> float:
        while not (rate_until := self._rate_until(time_s))[0]:
            time_s = rate_until[1]
        return time_s

    def _end_of(self, bits: float, time_s: float) -> float:
        """Return the time at which `bits` have been sent, if the line starts at `time_s`."""
        while True:
            rate_bps, until_s = self._rate_until(time_s)
            if bits <= rate_bps * (until_s - time_s):
                return time_s + bits / rate_bps if bits else time_s
            bits -= rate_bps * (until_s - time_s)
            time_s = until_s

    def _save_up(self, time_s: float, end_s: float) -> None:
        """Fill the token bucket over a pause."""
        full_bits = 8.0 * self._config.burst_bytes
        while time_s < end_s and self._saved_bits < full_bits:
            rate_bps, until_s = self._rate_until(time_s)
            until_s = min(until_s, end_s)
            self._saved_bits = min(full_bits, self._saved_bits + rate_bps * (until_s - time_s))
            time_s = until_s


def _constant(config: LinkConfig) -> LinkTrace:
    return LinkTrace(1.0, (config.up_bps,), (config.down_bps,), (config.delay_s,), (config.loss_frac,))
