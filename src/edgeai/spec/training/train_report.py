"""Reports of `edgeai spec train`: the plan of a dry run and the outcome of a run. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeai.core.report.fields import About, about

LOGGED: Mapping[str, About] = {
    "loss": About("loss"),
    "loss_*": About("loss (draft step *)"),
    "loss_gto": About("surrogate loss of GTO"),
    "acc": About("accuracy"),
    "acc_*": About("accuracy (draft step *)"),
    "accept_len": About("accept_len of a greedy chain"),
    "tree_accept_len": About("accept_len of trees"),
    "lr": About("learning rate"),
    "grad_norm": About("gradient norm"),
    "ttt_steps": About("unrolled draft steps"),
    "tokens_seen": About("answer tokens trained on"),
    "active_group_frac": About("share of active groups"),
    "advantage_spread": About("std of the reward in a group"),
    "reward": About("reward"),
    "reward_ref": About("reward, reference head"),
    "reward_exact": About("expected accepted tokens"),
    "reward_exact_ref": About("expected accepted tokens, reference head"),
    "greedy_accepted": About("greedy accepted tokens"),
    "greedy_accepted_ref": About("greedy accepted tokens, reference head"),
    "new_nodes": About("nodes scored in addition"),
    "ratio": About("mean ratio of path probabilities"),
    "clip_frac": About("share of clipped paths"),
}
"""Descriptions of the logged metrics; draft steps count from 0."""


@dataclass(frozen=True)
class PreviewToken:
    """One token of the example."""

    text: str
    in_loss: bool


@dataclass(frozen=True)
class TreePlan:
    """Work that GTO adds for each text whose trees are drafted; means over the texts."""

    places: float = field(metadata=about("trees per text", meaning="positions where both heads draft a tree"))
    nodes: float = field(metadata=about("nodes scored", meaning="nodes of the reference trees, roots included"))
    max_nodes: float = field(
        metadata=about("nodes scored, at most", meaning="once the current trees share no node with the reference trees")
    )
    work: float = field(
        metadata=about("target work", meaning="tokens scored in a GTO step, relative to the tokens of the texts")
    )
    max_work: float = field(metadata=about("target work, at most"))


@dataclass(frozen=True)
class TrainPlan:
    """What a training run would do."""

    target: str = field(metadata=about("target"))
    dtype: str = field(metadata=about("number format"))
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    aux_layers: tuple[int, ...] = field(
        metadata=about("features", meaning="hidden states that enter these layers of the target")
    )
    num_parameters: int = field(metadata=about("head parameters"))
    num_given_prompts: int = field(metadata=about("given prompts"))
    num_self_prompts: int = field(
        metadata=about("prompts the target writes", meaning="at most; repeated and unfinished ones are dropped")
    )
    num_written_answers: int = field(metadata=about("existing answers", meaning="conversations from data.answers"))
    max_feature_bytes: int = field(metadata=about("features on disk", meaning="at most; 0 B when computed online"))
    num_token_steps: int | None = field(
        metadata=about("steps on tokens", meaning="optimizer steps; known once the text is written")
    )
    num_gto_steps: int | None = field(metadata=about("steps on trees", meaning="optimizer steps of GTO"))
    trees: TreePlan | None = field(metadata=about(""))
    """None without GTO. Where the text is not written yet, for texts of data.max_len with one full answer."""
    example: tuple[PreviewToken, ...] = field(metadata=about("example"))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainReport:
    """Outcome of a training run."""

    head: str = field(metadata=about("head", meaning="folder of the best head"))
    """Folder of the best head."""
    runtime: str = field(metadata=about("runtime", meaning="code that computed the target"))
    """Code that computed the target: torch or native."""
    num_parameters: int = field(metadata=about("parameters", meaning="trainable parameters of the head"))
    """Trainable parameters of the head."""
    num_steps: int = field(metadata=about("optimizer steps"))
    """Optimizer steps."""
    num_conversations: int = field(metadata=about("conversations", meaning="in the training split"))
    """Conversations in the training split."""
    num_answer_tokens: int = field(metadata=about("answer tokens", meaning="in the training split"))
    """Answer tokens in the training split."""
    tokens_seen: int = field(metadata=about("answer tokens trained on", meaning="repeats counted"))
    """Answer tokens trained on, repeats counted."""
    coverage_frac: float = field(
        metadata=about("draft vocabulary coverage", meaning="share of the answers' tokens in the draft vocabulary")
    )
    """Share of the answers' tokens in the draft vocabulary."""
    accept_len: float = field(
        metadata=about(
            "accept_len",
            unit="1",
            best="max",
            meaning="tokens per cycle, bonus token included: validation text, trees as in val_tree, by replay",
        )
    )
    """Measured with the best head."""
    reference_accept_len: float | None = field(
        metadata=about(
            "accept_len before", unit="1", meaning="the same for the head that training or its GTO phase started from"
        )
    )
    """None for a new head."""
    step_accuracy: tuple[float, ...] = field(
        metadata=about(
            "accuracy by draft step",
            unit="%",
            best="max",
            meaning="share of validation tokens where the draft's argmax equals the target's",
        )
    )
    """Share of validation tokens where the draft's argmax equals the target's, by draft step."""
    train_s: float = field(metadata=about("training time"))
    """Duration of the training."""
    peak_memory_bytes: int = field(metadata=about("peak memory"))
    """Peak memory of the process."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
