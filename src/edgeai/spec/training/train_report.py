"""Reports of `edgeai spec train`: the plan of a dry run and the outcome of a run. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PreviewToken:
    """One token of the example."""

    text: str
    in_loss: bool


@dataclass(frozen=True)
class TreePlan:
    """What GTO adds for each text whose trees are drafted; means over the texts."""

    places: float
    """Where a tree of the current and one of the reference head is drafted."""
    nodes: float
    """Nodes of the reference trees, roots included, which the target scores."""
    max_nodes: float
    """Most nodes scored: those of the current trees as well, once none of them is a reference tree's."""
    work: float
    """Tokens that go through the target, with `nodes`, relative to those of the text, all texts counted."""
    max_work: float
    """The same with `max_nodes`."""


@dataclass(frozen=True)
class TrainPlan:
    """What a training run would do."""

    target: str
    dtype: str
    aux_layers: tuple[int, ...]
    num_parameters: int
    num_given_prompts: int
    num_self_prompts: int
    """Upper bound: repeated and unfinished ones are dropped."""
    num_written_answers: int
    """Conversations taken from `data.answers`."""
    max_feature_bytes: int
    """Upper bound of the disk space for cached features; 0 when computed online."""
    num_token_steps: int | None
    """Optimiser steps of the token phase; None where the text is not written yet."""
    num_gto_steps: int | None
    trees: TreePlan | None
    """None without GTO. Where the text is not written yet, for texts of data.max_len with one full answer."""
    example: tuple[PreviewToken, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainReport:
    """Outcome of a training run."""

    head: str
    """Folder of the best head."""
    num_parameters: int
    num_steps: int
    num_conversations: int
    num_answer_tokens: int
    """Answer tokens in the training split."""
    tokens_seen: int
    """Answer tokens trained on, repeats counted."""
    coverage_frac: float
    """Share of the answers' tokens that the draft vocabulary holds."""
    accept_len: float
    """Of the best head: tokens per cycle of decoding the validation text with trees like val_tree, by replay."""
    reference_accept_len: float | None
    """The same, of the head that training or, after a token phase, GTO started from; None for a fresh one."""
    step_accuracy: tuple[float, ...]
    """Draft argmax equals the target's, by draft step, on validation text."""
    train_s: float
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
