"""Plan and report of `edgeai spec diagnose`; `diagnose.py` defines the measures. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.blocks import Block, Table, section
from edgeai.core.report.fields import About, about, cell_of, fields_table, leaves


@dataclass(frozen=True)
class DiagnosePlan:
    """Amount of work of a run."""

    max_tokens: int = field(metadata=about("tokens, at most", meaning="decoded in all"))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class DiagnoseReport:
    """Acceptance of the trees and of the greedy path."""

    target: str = field(metadata=about("target"))
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    drafter: str = field(metadata=about("head"))
    tree: dict[str, int] = field(metadata=about("tree", keys={"top_k": About("top-k")}))
    temperature: float = field(metadata=about("temperature"))
    num_prompts: int = field(metadata=about("prompts"))
    num_cycles: int = field(metadata=about("cycles", meaning="verify cycles with a tree of full depth"))
    pruned_frac: float = field(
        metadata=about("pruned", meaning="share of cycles whose tree does not hold the whole greedy path")
    )
    same_path_frac: float = field(
        metadata=about("same path", meaning="share of cycles where the greedy path alone has the same acceptance")
    )
    greedy_accept_len: float = field(
        metadata=about("accept_len, greedy path", unit="1", meaning="tokens per cycle, bonus token included")
    )
    tree_accept_len: float = field(metadata=about("accept_len, tree", unit="1", meaning="tokens per cycle of the tree"))
    predicted_accept_len: float = field(
        metadata=about("accept_len, predicted", unit="1", meaning="1 + sum of the head's probabilities of the nodes")
    )
    predicted: tuple[float, ...] = field(metadata=about("predicted", unit="%", hidden=True))
    """Acceptance by depth in the tree."""
    measured: tuple[float, ...] = field(metadata=about("measured", unit="%", hidden=True))
    """Acceptance by depth in the tree."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def diagnose_summary(document: Mapping[str, Any]) -> list[Block]:
    """Return the tables of a report: its measures, and acceptance by depth.

    Args:
        document: The report as plain data.
    """
    pairs = zip(document["predicted"], document["measured"], strict=True)
    rows = [
        (depth, cell_of(predicted, "%"), cell_of(measured, "%")) for depth, (predicted, measured) in enumerate(pairs, 1)
    ]
    caption = "Share of cycles in which a node at this depth was accepted, and the head's own probability of it."
    by_depth = Table(("depth", "predicted", "measured"), rows, caption)
    return [fields_table(leaves(DiagnoseReport, document)), *section("Acceptance by depth", by_depth)]
