"""`edgeai spec diagnose`: compare tree acceptance with greedy-chain acceptance, and the head's calibration.

While speculative decoding answers prompts, the greedy chain (the head's first choice at every level, with the depth of
the tree) is drafted as well and compared with the target's text. The text does not depend on the drafts, so tree and
chain are evaluated in every cycle on the same continuation.

Definitions, over the cycles whose tree had its full depth:
- pruned: the tree does not contain the whole greedy chain;
- same path: the tree's accepted draft tokens are those of the greedy chain that match the text;
- accept_len of the greedy chain: mean of 1 + its tokens before the first that differs from the text;
- predicted acceptance at depth d: mean of the sum, over the tree's nodes at d, of the head's probability of the path to
  them; measured: share of cycles in which one of them was accepted.

Source: GTO, arXiv 2509.22134, reports the first three; the definitions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.spec.config.diagnose import DiagnoseConfig
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.data.prompts import builtin_prompts, load_prompts, select
from edgeai.spec.decoding.decode import check_room, generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.evaluation.diagnose_report import DiagnoseReport
from edgeai.spec.target.build import build_target
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class DraftedCycle:
    """Drafts of one cycle."""

    position: int
    """Index of the root among the generated tokens."""
    tree: DraftTree
    greedy: tuple[int, ...]
    """Tokens of the greedy chain below the root."""


class Recorder:
    """A drafter that records its trees, and the greedy chains of a second drafter with the same head.

    Args:
        drafter: Drafter of the trees.
        chain: Drafter of the greedy chains.
        tree: Shape of the trees; smaller ones, at the end of a text, are not recorded.
    """

    def __init__(self, drafter: Drafter, chain: Drafter, tree: TreeConfig) -> None:
        self._drafter, self._chain, self._tree = drafter, chain, tree
        self.name, self.aux_layers, self.vocabulary = drafter.name, drafter.aux_layers, drafter.vocabulary
        self.cycles: list[DraftedCycle] = []
        self._position = 0

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        self.cycles, self._position = [], 0
        self._drafter.start(ids, features)
        self._chain.start(ids, features)

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        """See `Drafter`."""
        draft = self._drafter.propose(root, tree)
        greedy = self._chain.propose(root, TreeConfig(nodes=tree.depth, depth=tree.depth, top_k=1))
        if tree.depth == self._tree.depth:
            self.cycles.append(DraftedCycle(self._position, draft, tuple(greedy.tokens.tolist()[1:])))
        return draft

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        """See `Drafter`."""
        self._position += len(tokens)
        self._drafter.accept(tokens, features)
        self._chain.accept(tokens, features)


@dataclass(frozen=True)
class CycleOutcome:
    """Acceptance in one cycle."""

    is_pruned: bool
    greedy_len: int
    """Tokens of the greedy chain that match the text."""
    tree_len: int
    """Accepted draft tokens of the tree."""
    predicted: tuple[float, ...]
    """Predicted acceptance by depth."""


def judge(cycle: DraftedCycle, ids: Sequence[int], depth: int) -> CycleOutcome:
    """Compare the drafts of a cycle with the answer.

    Args:
        cycle: Drafts of the cycle.
        ids: All generated tokens.
        depth: Depth of the tree.
    """
    written = ids[cycle.position + 1 :]
    greedy_len = 0
    while greedy_len < min(len(cycle.greedy), len(written)) and cycle.greedy[greedy_len] == written[greedy_len]:
        greedy_len += 1
    probs, depths = cycle.tree.scores.double().exp().numpy(), cycle.tree.depths.numpy()
    return CycleOutcome(
        is_pruned=cycle.tree.num_accepted(cycle.greedy) < len(cycle.greedy),
        greedy_len=greedy_len,
        tree_len=cycle.tree.num_accepted(written),
        predicted=tuple(float(probs[depths == d].sum()) for d in range(1, depth + 1)),
    )


def run_diagnose(cfg: DiagnoseConfig, run: Run) -> DiagnoseReport:
    """Answer prompts speculatively and compare the trees with the greedy chain.

    Args:
        cfg: Configuration of the run.
        run: Run with its device and metrics.

    Raises:
        UsageError: The model, head or prompts do not exist, or a prompt does not fit the context.
        EdgeAIError: No cycle had a full tree, because all answers ended too early.
    """
    prompts = select(
        load_prompts(cfg.prompts, on_skip=run.metrics.note) if cfg.prompts else builtin_prompts(), cfg.max_prompts
    )
    target = build_target(cfg.target, device=run.device, metrics=run.metrics)
    drafter, chain = (build_drafter(cfg.draft, target, run.metrics) for _ in range(2))
    assert drafter is not None
    assert chain is not None
    encoded = [chat_ids(target.tokenizer, prompt) for prompt in prompts]
    for ids in encoded:
        check_room(target, len(ids), cfg.context)
    recorder = Recorder(drafter, chain, cfg.tree)
    outcomes: list[CycleOutcome] = []
    for number, ids in enumerate(encoded):
        run.metrics.progress("answering", number, len(encoded), unit="prompt")
        answer = generate_ids(
            target,
            recorder,
            ids,
            tree=cfg.tree,
            sampling=cfg.sampling,
            max_tokens=cfg.max_tokens,
            context=cfg.context,
        )
        outcomes += [judge(cycle, answer.ids, cfg.tree.depth) for cycle in recorder.cycles]
    run.metrics.progress("answering", len(encoded), len(encoded), unit="prompt")
    if not outcomes:
        raise EdgeAIError(
            f"no answer was long enough for a tree of depth {cfg.tree.depth}",
            hint="raise max_tokens, lower tree.depth or give other prompts",
        )
    return _report(cfg, target, drafter.name, len(prompts), outcomes)


def _report(
    cfg: DiagnoseConfig, target: Target, drafter: str, num_prompts: int, outcomes: Sequence[CycleOutcome]
) -> DiagnoseReport:
    tree_lens = np.array([outcome.tree_len for outcome in outcomes])
    greedy_lens = np.array([outcome.greedy_len for outcome in outcomes])
    predicted = np.array([outcome.predicted for outcome in outcomes]).mean(0).tolist()
    return DiagnoseReport(
        target=cfg.target.model,
        runtime=target.runtime,
        drafter=drafter,
        tree=cfg.tree.model_dump(),
        temperature=cfg.sampling.temperature,
        num_prompts=num_prompts,
        num_cycles=len(outcomes),
        pruned_frac=float(np.mean([outcome.is_pruned for outcome in outcomes])),
        same_path_frac=float((tree_lens == greedy_lens).mean()),
        greedy_accept_len=1.0 + float(greedy_lens.mean()),
        tree_accept_len=1.0 + float(tree_lens.mean()),
        predicted_accept_len=1.0 + sum(predicted),
        predicted=tuple(predicted),
        measured=tuple(float((tree_lens >= d).mean()) for d in range(1, cfg.tree.depth + 1)),
    )
