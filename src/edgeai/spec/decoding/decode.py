"""The decoding loop: plain, or speculative with any drafter, with the same target calls and sampler.

One cycle: propose a tree below the newest token, verify it in one target pass, accept a path, commit its keys and
values. Plain decoding is the same cycle with a tree of one node.

Definitions (vLLM's): accept_len = tokens emitted by cycles / cycles, including the bonus token, so that plain decoding
has 1.0; the first token comes from the prefill and is not part of a cycle. Acceptance at position i = cycles in which
the i-th draft token was accepted / cycles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from edgeai.core.errors import UsageError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constrained_tree import constrain
from edgeai.spec.constraints.constraint import Constraint, Grammar
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.decoding.verify import Accepted, accept
from edgeai.spec.draft.drafter import Drafter, limit_depth
from edgeai.spec.draft.tree import DraftTree, root_only
from edgeai.spec.target.protocol import Target, Tokenizer
from edgeai.spec.target.sampling import Sampler

OnTokens = Callable[[Sequence[int]], None]


@torch.inference_mode()
def generate_ids(
    target: Target,
    drafter: Drafter | None,
    prompt_ids: Sequence[int],
    *,
    tree: TreeConfig,
    sampling: SamplingConfig,
    max_tokens: int,
    context: int,
    on_tokens: OnTokens | None = None,
    grammar: Grammar | None = None,
) -> Generation:
    """Answer one prompt.

    Args:
        target: Model that writes the answer.
        drafter: Drafter; None for plain decoding.
        prompt_ids: Prompt with its chat template applied.
        tree: Largest tree per cycle; ignored without a drafter.
        sampling: Sampling settings; temperature 0 is greedy. Every answer starts from their seed.
        max_tokens: Maximum number of generated tokens.
        context: Maximum number of tokens of prompt and answer, in addition to the model's own limit.
        on_tokens: Callback for the new tokens of the prefill and of every cycle.
        grammar: Grammar that the answer follows; with a drafter, its forced tokens are drafted too.

    Raises:
        ConstraintError: The grammar exceeds a limit.
        UsageError: The prompt is empty or does not fit the context.
    """
    target = target.with_aux_layers(drafter.aux_layers if drafter else ())
    budget = min(max_tokens, check_room(target, len(prompt_ids), context))
    watch = _Watch(target.device)
    cache = target.new_cache(len(prompt_ids) + budget + (tree.nodes if drafter else 0))
    constraint = grammar.start() if grammar else None
    sampler, eos_ids = Sampler(sampling, constraint), target.tokenizer.eos_ids
    with target.decoding():
        forward = target.prefill(prompt_ids, cache)
        if drafter:
            drafter.start(prompt_ids, forward.features)
        ids = [sampler.pick(forward.logits[-1])]
        prefill_s = watch.lap()
        if on_tokens:
            on_tokens(ids[:])
        tally = _Tally()
        while ids[-1] not in eos_ids and len(ids) < budget:
            draft = _propose(drafter, ids[-1], tree, budget - len(ids), constraint)
            tally.draft_s += watch.lap()
            forward = target.verify(
                draft.tokens.to(target.device), draft.depths.to(target.device), draft.ancestors.to(target.device), cache
            )
            tally.verify_s += watch.lap()
            accepted = accept(draft, forward.logits, sampler, eos_ids=eos_ids, limit=budget - len(ids))
            path = torch.tensor(accepted.path, device=target.device)
            target.commit(cache, path)
            if drafter:
                drafter.accept([ids[-1], *accepted.tokens[: accepted.num_accepted]], forward.features[path])
                tally.count(draft, accepted)
            tally.accept_counts.append(len(accepted.tokens))
            tally.commit_s += watch.lap()
            ids.extend(accepted.tokens)
            if on_tokens:
                on_tokens(accepted.tokens)
                watch.lap()
    return tally.generation(target.tokenizer, ids, num_prompt=len(prompt_ids), prefill_s=prefill_s)


def check_room(target: Target, num_prompt: int, context: int) -> int:
    """Return the number of tokens that may be generated after a prompt.

    Args:
        target: Model that writes the answer.
        num_prompt: Number of prompt tokens.
        context: Maximum number of tokens of prompt and answer.

    Raises:
        UsageError: The prompt is empty or leaves no room for an answer.
    """
    context = min(context, target.shape.max_positions)
    if num_prompt == 0:
        raise UsageError("the prompt is empty", hint="give at least one token of text")
    if num_prompt >= context:
        raise UsageError(
            f"the prompt has {num_prompt} tokens and the context holds {context}, answer included",
            hint=f"shorten the prompt, or raise `context` (the model allows {target.shape.max_positions})",
        )
    return context - num_prompt


def _propose(
    drafter: Drafter | None, root: int, tree: TreeConfig, remaining: int, constraint: Constraint | None
) -> DraftTree:
    """Return the draft tree of the next cycle: the root only if nothing can be drafted."""
    limited = limit_depth(tree, remaining)
    if not drafter or not limited:
        return root_only(root)
    if constraint is None:
        return drafter.propose(root, limited)
    # a chain of forced tokens as long as the tree needs no drafter
    draft = root_only(root) if len(constraint.forced()) >= limited.depth else drafter.propose(root, limited)
    return constrain(draft, constraint, nodes=tree.nodes, depth=remaining - 1)


@dataclass
class _Tally:
    """Sums over the cycles of one request."""

    accept_counts: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    accepted_ranks: list[int] = field(default_factory=list)
    num_draft_nodes: int = 0
    draft_s: float = 0.0
    verify_s: float = 0.0
    commit_s: float = 0.0

    def count(self, draft: DraftTree, accepted: Accepted) -> None:
        """Record the accepted draft nodes of one cycle."""
        self.num_draft_nodes += draft.size - 1
        if not accepted.num_accepted:
            return
        ranks = draft.ranks()
        _increment(self.accepted_at, range(accepted.num_accepted))
        _increment(self.accepted_ranks, [ranks[node] - 1 for node in accepted.path[1:]])

    def generation(self, tokenizer: Tokenizer, ids: Sequence[int], *, num_prompt: int, prefill_s: float) -> Generation:
        """Return the answer with these sums."""
        return Generation(
            ids=tuple(ids),
            text=tokenizer.decode(ids),
            finish_reason="stop" if ids[-1] in tokenizer.eos_ids else "length",
            num_prompt_tokens=num_prompt,
            accept_counts=tuple(self.accept_counts),
            accepted_at=tuple(self.accepted_at),
            accepted_ranks=tuple(self.accepted_ranks),
            num_draft_nodes=self.num_draft_nodes,
            prefill_s=prefill_s,
            draft_s=self.draft_s,
            verify_s=self.verify_s,
            commit_s=self.commit_s,
        )


def _increment(counts: list[int], places: Sequence[int]) -> None:
    counts.extend([0] * (max(places) + 1 - len(counts)))
    for place in places:
        counts[place] += 1


class _Watch:
    """Measures the time between laps, after synchronizing with the accelerator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last_s = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now_s = time.perf_counter()
        lap_s, self._last_s = now_s - self._last_s, now_s
        return lap_s
