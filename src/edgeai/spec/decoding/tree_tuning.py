"""`tree: auto`: choose the tree with the highest predicted speed on this machine, or plain decoding if none is faster.

Two measurements are combined. Costs (`costs.py`) are timings of this machine. Acceptance is measured by replay: the
target answers a few prompts with plain decoding; then the drafter proposes one wide tree at every position of these
texts, and the path of the tree that matches the text is what verification would accept there. A narrower, shallower or
smaller tree is a part of the wide one (the dynamic tree keeps the most confident nodes), so one replay gives the
accept_len of every shape, by stepping through the texts like decoding: accept, continue after the bonus token, accept
again. A model of independent per-rank acceptance would underestimate, because it ignores that the tree follows the
confident branches. The same holds for sampled decoding: the replayed text is then a sample.

`choose_tree` is pure: a server can call it with its own costs and acceptance.
"""

from __future__ import annotations

import hashlib
import json
import platform
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeai.core import assets
from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.data.prompts import builtin_prompts
from edgeai.spec.decoding.costs import WIDTHS, Costs, measure_costs
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generation import TreeChoice, accept_len
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.protocol import Target

MIN_SPEEDUP = 1.05
"""Minimum predicted gain of a tree over plain decoding: about the accuracy of the predictions."""
WIDE = TreeConfig(nodes=64, depth=8, top_k=WIDTHS[-1])
"""The wide tree, of which all candidates are parts."""
_NODES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 19, 23, 31, 39, 47, 59, 63)
_NUM_PROMPTS = 6
_NUM_TOKENS = 64
_VERSION = 3


@dataclass(frozen=True)
class WideDraft:
    """The wide tree drafted at one position of a known text."""

    tree: DraftTree
    path: tuple[int, ...]
    """Rows of the tree that match the text, without the root."""

    def path_ranks(self, top_k: int) -> Iterator[tuple[int, list[int]]]:
        """Yield for each depth from 1 to WIDE.depth the ranks of the path's nodes within a tree of this width.

        A tree with n nodes accepts as many tokens as there are ranks below n.
        """
        order = _narrow(self.tree, top_k)
        depths = self.tree.depths.tolist()
        for depth in range(1, WIDE.depth + 1):
            places = {row: place for place, row in enumerate(row for row in order if depths[row] <= depth)}
            reached = [places.get(row) for row in self.path]
            yield depth, [place for place in reached if place is not None]


def choose_tree(
    costs: Costs, accept_lens: Mapping[TreeConfig, float], *, min_speedup: float = MIN_SPEEDUP
) -> TreeChoice:
    """Choose the candidate with the most tokens per second; on ties, the first.

    Args:
        costs: Times of the parts of a cycle.
        accept_lens: Predicted accept_len of each candidate.
        min_speedup: Minimum predicted speed of a tree relative to plain decoding.
    """
    best = max(accept_lens, key=lambda tree: accept_lens[tree] / costs.cycle_s(tree))
    cycle_s = costs.cycle_s(best)
    speedup = accept_lens[best] * costs.plain_s / cycle_s
    return TreeChoice(
        tree=best if speedup >= min_speedup else None,
        accept_len=accept_lens[best],
        speedup=speedup,
        plain_s=costs.plain_s,
        cycle_s=cycle_s,
        best=best,
    )


def candidates() -> list[TreeConfig]:
    """Return all candidate shapes, small ones first, without those whose levels cannot fill their nodes."""
    return [
        TreeConfig(nodes=nodes, depth=depth, top_k=top_k)
        for nodes in _NODES
        for depth in range(1, WIDE.depth + 1)
        for top_k in WIDTHS
        if depth <= nodes <= top_k + (depth - 1) * top_k * top_k
    ]


@torch.inference_mode()
def draft_along_answers(
    target: Target,
    drafter: Drafter,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: SamplingConfig,
    max_tokens: int,
    metrics: Metrics,
) -> list[list[WideDraft]]:
    """Answer prompts with plain decoding and draft the wide tree at every position of the answers.

    Args:
        target: Target that writes the answers.
        drafter: Drafter to measure.
        prompts: Prompts as token ids, with the chat template applied.
        sampling: Sampling of the answers.
        max_tokens: Maximum number of tokens per answer.
        metrics: Receiver of progress.

    Returns:
        One list per answer, in order of position, without positions too close to the end for the deepest draft.
    """
    context = min(target.shape.max_positions, 2048)
    with_features = target.with_aux_layers(drafter.aux_layers)
    records = []
    for number, ids in enumerate(prompts):
        metrics.progress("replaying answers", number, len(prompts), unit="prompt")
        if len(ids) + WIDE.depth + 1 >= context:
            continue
        answer = generate_ids(
            target, None, ids, tree=WIDE, sampling=sampling, max_tokens=max_tokens, context=context - WIDE.depth
        )
        text = [*ids, *answer.ids]
        features = with_features.prefill(text, target.new_cache(len(text))).features
        drafter.start(ids, features[: len(ids)])
        record = []
        for position in range(len(ids), len(text) - WIDE.depth):
            tree = drafter.propose(text[position], WIDE)
            ahead = text[position + 1 : position + 1 + WIDE.depth]
            record.append(WideDraft(tree, tuple(tree.follow(ahead)[1:])))
            drafter.accept([text[position]], features[position : position + 1])
        records.append(record)
    metrics.progress("replaying answers", len(prompts), len(prompts), unit="prompt")
    return records


def predict_accept_lens(records: Sequence[Sequence[WideDraft]], trees: Sequence[TreeConfig]) -> dict[TreeConfig, float]:
    """Return the accept_len that each tree would have on the replayed texts; 1 without any text."""
    counts: dict[TreeConfig, list[int]] = {tree: [] for tree in trees}
    for record in records:
        places: dict[tuple[int, int], list[list[int]]] = {}
        for top_k in {tree.top_k for tree in trees}:
            for draft in record:
                for depth, ranks in draft.path_ranks(top_k):
                    places.setdefault((top_k, depth), []).append(ranks)
        for tree in trees:
            position = 0
            while position < len(record):
                counts[tree].append(1 + bisect_left(places[tree.top_k, tree.depth][position], tree.nodes))
                position += counts[tree][-1]
    return {tree: accept_len(counts[tree]) for tree in trees}


def tune(
    target: Target,
    drafter: Drafter,
    *,
    sampling: SamplingConfig,
    metrics: Metrics,
    prompts: Sequence[Sequence[int]] | None = None,
) -> TreeChoice:
    """Choose a tree from measurements, which are cached by model, drafter, number format and machine.

    Args:
        target: Target.
        drafter: Drafter to tune for.
        sampling: Sampling, which influences acceptance.
        metrics: Receiver of progress and the outcome.
        prompts: Prompts to replay, as token ids, measured without the cache; None uses built-in prompts.
    """
    measured = measure(target, drafter, sampling=sampling, metrics=metrics, prompts=prompts)
    choice = choose_tree(*measured)
    metrics.note(choice.why)
    return choice


def measure(
    target: Target,
    drafter: Drafter,
    *,
    sampling: SamplingConfig,
    metrics: Metrics,
    prompts: Sequence[Sequence[int]] | None = None,
) -> tuple[Costs, dict[TreeConfig, float]]:
    """Return the measurements for `tune`: costs, and the accept_len of every candidate. See `tune` for the
    arguments.
    """
    path = assets.cache_dir() / "tune" / f"{_key(target, drafter, sampling)}.json"
    measured = _read(path) if prompts is None else None
    if measured is None:
        metrics.note("tree: auto: timing this machine and replaying a few answers (once per model and head)")
        costs = measure_costs(target, drafter)
        records = draft_along_answers(
            target, drafter, prompts or _prompts(target), sampling=sampling, max_tokens=_NUM_TOKENS, metrics=metrics
        )
        measured = costs, predict_accept_lens(records, candidates())
        if prompts is None:
            try:
                _write(path, *measured)
            except OSError as error:
                metrics.note(f"tree: auto: cannot save the measurement, so the next run repeats it: {error}")
    return measured


def _prompts(target: Target) -> list[list[int]]:
    encode, render = target.tokenizer.encode, target.tokenizer.render
    chosen = builtin_prompts()[2::3][
        :_NUM_PROMPTS
    ]  # prompts that a bench with its default 16 of 24 prompts does not use
    return [encode(render([{"role": "user", "content": prompt.turns[0]}], open_answer=True)) for prompt in chosen]


def _key(target: Target, drafter: Drafter, sampling: SamplingConfig) -> str:
    """Return a short hash of everything that a measurement depends on."""
    is_cuda = target.device.type == "cuda"
    machine = torch.cuda.get_device_name(target.device) if is_cuda else platform.processor() or platform.machine()
    parts = (
        _VERSION,
        target.fingerprint,
        drafter.name,
        target.runtime,
        target.dtype,
        target.device.type,
        machine,
        torch.get_num_threads(),
        torch.__version__,
        sampling.model_dump(exclude={"seed"}),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _write(path: Path, costs: Costs, accept_lens: Mapping[TreeConfig, float]) -> None:
    rows = [[tree.nodes, tree.depth, tree.top_k, accept_len] for tree, accept_len in accept_lens.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"costs": costs.to_json(), "accept_lens": rows}))


def _read(path: Path) -> tuple[Costs, dict[TreeConfig, float]] | None:
    """Return an earlier measurement; None if there is none or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document["accept_lens"]
        trees = {TreeConfig(nodes=n, depth=d, top_k=k): float(accept_len) for n, d, k, accept_len in rows}
        return Costs.from_json(document["costs"]), trees
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _narrow(tree: DraftTree, top_k: int) -> list[int]:
    """Return the rows that a tree drafted with this top_k would have, without the root, most confident first."""
    parents, depths = tree.parents.tolist(), tree.depths.tolist()
    ranks = tree.ranks()
    order = sorted(range(1, tree.size), key=ranks.__getitem__)
    kept: list[int] = []
    expanded = {0}
    for depth in range(1, max(depths) + 1):
        num_children: dict[int, int] = {}
        level = []
        for row in order:
            parent = parents[row]
            if depths[row] == depth and parent in expanded:
                num_children[parent] = num_children.get(parent, 0) + 1
                if num_children[parent] <= top_k:
                    level.append(row)
        kept += level
        expanded = set(level[:top_k])
    return sorted(kept, key=ranks.__getitem__)
