"""Progress of a library call, passed to a callback instead of the terminal."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_LOGGER = logging.getLogger("edgeai")


@dataclass(frozen=True)
class Progress:
    """One progress report of a long call."""

    task: str
    """Current task, such as "train"."""
    done: float
    """Finished units."""
    total: float | None
    """All units; None if unknown."""
    unit: str
    """Unit of `done` and `total`, such as "rounds"; may be empty."""
    values: Mapping[str, float]
    """Current measurements by name, such as {"loss": 2.1}."""


OnProgress: TypeAlias = Callable[[Progress], None]


class CallbackListener:
    """A metrics listener that passes progress to a callback, and notes and logged values to the logger "edgeai".

    Args:
        on_progress: Called with every progress report; None drops them.
    """

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress

    def on_progress(
        self, task: str, done: float, total: float | None, *, unit: str, fields: Mapping[str, float]
    ) -> None:
        """Call the callback."""
        if self._on_progress is not None:
            self._on_progress(Progress(task, done, total, unit, dict(fields)))

    def on_note(self, text: str) -> None:
        """Log the line at level INFO."""
        _LOGGER.info("%s", text)

    def on_log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values at level DEBUG."""
        _LOGGER.debug("step %d: %s", step, dict(values))
