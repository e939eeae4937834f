"""Records of the virtual clock: spans of activity, busy times and energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeai.fedsplit.config.world import DeviceConfig

Activity = Literal["compute", "up", "down"]


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a Gantt chart.

    Args:
        who: Number of the client, or SERVER.
        what: Activity. "up" and "down" last from the first byte sent to the arrival of the last.
        label: Label of the activity, chosen by the method.
        begin_s: Start time.
        end_s: End time.
        lane: Lane of the server.
    """

    who: int
    what: Activity
    label: str
    begin_s: float
    end_s: float
    lane: int = 0


@dataclass(frozen=True)
class Usage:
    """Busy times and energy of one party. For the server, the sum over all lanes.

    Args:
        compute_s: Computing time (s).
        tx_s: Transmit time (s).
        rx_s: Receive time (s): transmit time of the other end of the link.
        energy_j: Energy of these activities and of idling (J).
    """

    compute_s: float = 0.0
    tx_s: float = 0.0
    rx_s: float = 0.0
    energy_j: float = 0.0

    def plus(self, other: Usage) -> Usage:
        return Usage(
            self.compute_s + other.compute_s,
            self.tx_s + other.tx_s,
            self.rx_s + other.rx_s,
            self.energy_j + other.energy_j,
        )


@dataclass(frozen=True)
class RoundUsage:
    """Time and energy of one round.

    Args:
        round: Number of the round.
        begin_s: Start time.
        end_s: End time.
        clients: Usage of each client that computed, sent or received, by number.
        server: Usage of all server lanes.
        num_spans: Number of activities, including those beyond the recorded spans.
    """

    round: int
    begin_s: float
    end_s: float
    clients: dict[int, Usage]
    server: Usage
    num_spans: int

    @property
    def energy_j(self) -> float:
        """Energy of clients and server (J)."""
        return self.server.energy_j + sum(usage.energy_j for usage in self.clients.values())


@dataclass
class BusyTimes:
    """Busy times of one party in a round."""

    compute_s: float = 0.0
    tx_s: float = 0.0
    rx_s: float = 0.0

    def transfer(self, busy_s: float, *, is_sender: bool) -> None:
        """Add the duration of transfers."""
        if is_sender:
            self.tx_s += busy_s
        else:
            self.rx_s += busy_s

    def charged(self, device: DeviceConfig, num_devices: int, duration_s: float) -> Usage:
        """Add the energy: idle power for the whole round, plus each activity's power above idle.

        Args:
            device: Device of the party.
            num_devices: Number of such devices, all idling when not busy.
            duration_s: Duration of the round.
        """
        idle_j = num_devices * device.idle_w * duration_s
        above_idle_j = (
            (device.compute_w - device.idle_w) * self.compute_s
            + (device.tx_w - device.idle_w) * self.tx_s
            + (device.rx_w - device.idle_w) * self.rx_s
        )
        return Usage(self.compute_s, self.tx_s, self.rx_s, idle_j + above_idle_j)
