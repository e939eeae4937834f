"""Report of `edgeai spec diagnose`; `diagnose.py` defines the measures. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DiagnoseReport:
    """What the trees did; definitions are the module's."""

    target: str
    drafter: str
    tree: dict[str, int]
    temperature: float
    num_prompts: int
    num_cycles: int
    """Cycles counted."""
    pruned_frac: float
    same_path_frac: float
    greedy_accept_len: float
    tree_accept_len: float
    predicted_accept_len: float
    """1 + the predicted acceptances."""
    predicted: tuple[float, ...]
    """Acceptance by depth in the tree."""
    measured: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
