"""Measurement loop of `spec bench`: the answers of all decoders, repeat by repeat.

For every prompt, plain decoding, speculative decoding and the peers run directly after each other, and the order
is reversed from repeat to repeat, so that other load on the machine affects all alike.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.data.dialogues import Ask, Dialogues
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generation import Generation
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.evaluation.peers.peer import PeerAnswer, Peers
from edgeai.spec.target.protocol import Target

_WARM_UP_TOKENS = 8


@dataclass
class DecoderAnswers:
    """Answers of one decoder in one repeat, in the order of the prompts."""

    generations: list[Generation] = field(default_factory=list)
    wall_s: float = 0.0
    """Time of all answers, cache reservation and detokenization included."""

    def add(self, generation: Generation, wall_s: float) -> None:
        """Append an answer and its time."""
        self.generations.append(generation)
        self.wall_s += wall_s

    @property
    def num_tokens(self) -> int:
        """Tokens emitted by verify cycles."""
        return sum(sum(generation.accept_counts) for generation in self.generations)

    @property
    def num_cycles(self) -> int:
        """Verify cycles."""
        return sum(generation.num_cycles for generation in self.generations)

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed as `BenchReport.plain_tokens_per_s` defines it; 0 if there was no cycle."""
        decode_s = sum(generation.decode_s for generation in self.generations)
        return self.num_tokens / decode_s if decode_s else 0.0

    @property
    def prompt_tokens_per_s(self) -> float:
        """Speed of the prefill as `BenchReport.prompt_tokens_per_s` defines it."""
        num_prompt = sum(generation.num_prompt_tokens for generation in self.generations)
        return num_prompt / sum(generation.prefill_s for generation in self.generations)


@dataclass
class Repeat:
    """Answers of all decoders in one repeat."""

    asks: list[Ask]
    plain: DecoderAnswers
    speculative: DecoderAnswers | None
    """None if there is no drafter."""
    peers: Mapping[str, list[PeerAnswer]]
    """Answers of other implementations, by name; a list that ends early belongs to a peer that failed."""

    @property
    def measured(self) -> DecoderAnswers:
        """Speculative answers, or the plain ones if there is no drafter."""
        return self.plain if self.speculative is None else self.speculative

    @property
    def ratio(self) -> float:
        """Speed of the measured decoder relative to plain decoding."""
        return self.measured.tokens_per_s / self.plain.tokens_per_s


class BenchDecoders:
    """Plain decoding, speculative decoding and peers on the same target.

    Args:
        cfg: Sampling options, answer length, context and number of repeats.
        target: The model.
        drafter: Drafter of speculative decoding; None measures plain decoding only.
        tree: Draft tree of speculative decoding.
        peers: Other implementations on the same weights.
    """

    def __init__(
        self, cfg: BenchConfig, target: Target, drafter: Drafter | None, tree: TreeConfig, peers: Peers
    ) -> None:
        self._cfg, self._target, self._drafter, self._tree, self._peers = cfg, target, drafter, tree, peers

    def warm_up(self, dialogues: Dialogues) -> None:
        """Run every decoder once without recording it, because first calls allocate memory and compile."""
        ask = next(dialogues.first_turns())
        for drafter in (None, self._drafter):
            self._generate(drafter, ask, _WARM_UP_TOKENS)
        self._peers.warm_up(ask.ids)

    def run_repeat(self, number: int, dialogues: Dialogues, metrics: Metrics) -> Repeat:
        """Answer every turn with every decoder.

        Args:
            number: Index of the repeat; plain decoding runs first in even repeats and last in odd ones.
            dialogues: Turns to answer; receives the plain answers.
            metrics: Receives progress and the speeds of this repeat.

        Raises:
            EdgeAIError: Every answer ended with its first token, so there is no speed to measure.
        """
        speculative = DecoderAnswers() if self._drafter else None
        repeat = Repeat([], DecoderAnswers(), speculative, {name: [] for name in self._peers.settings})
        num_done, num_total = number * dialogues.num_turns, self._cfg.repeats * dialogues.num_turns
        for ask in dialogues.turns():
            repeat.asks.append(ask)
            if number % 2:
                self._ask_peers(ask, repeat, metrics, reverse=True)
            self._answer(ask, repeat, plain_first=number % 2 == 0)
            if number % 2 == 0:
                self._ask_peers(ask, repeat, metrics, reverse=False)
            dialogues.answered(ask, repeat.plain.generations[-1].text)
            speeds = {"plain_tokens_per_s": repeat.plain.tokens_per_s}
            if speculative:
                speeds["speculative_tokens_per_s"] = speculative.tokens_per_s
            metrics.progress("bench", num_done + len(repeat.asks), num_total, unit="answers", **speeds)
        if not repeat.plain.tokens_per_s:
            raise EdgeAIError("every answer ended with its first token: nothing to measure", hint="give other prompts")
        values = {"plain_tokens_per_s": repeat.plain.tokens_per_s}
        if speculative:
            values |= {"speculative_tokens_per_s": speculative.tokens_per_s, "ratio": repeat.ratio}
        metrics.log(number + 1, values)
        return repeat

    def _answer(self, ask: Ask, repeat: Repeat, *, plain_first: bool) -> None:
        """Answer one turn plainly and speculatively."""
        pairs: list[tuple[DecoderAnswers, Drafter | None]] = [(repeat.plain, None)]
        if repeat.speculative is not None:
            pairs.append((repeat.speculative, self._drafter))
        for answers, drafter in pairs if plain_first else reversed(pairs):
            begin_s = time.perf_counter()
            generation = self._generate(drafter, ask, self._cfg.max_tokens)
            answers.add(generation, time.perf_counter() - begin_s)

    def _generate(self, drafter: Drafter | None, ask: Ask, max_tokens: int) -> Generation:
        return generate_ids(
            self._target,
            drafter,
            ask.ids,
            tree=self._tree,
            sampling=self._cfg.sampling,
            max_tokens=max_tokens,
            context=self._cfg.context,
        )

    def _ask_peers(self, ask: Ask, repeat: Repeat, metrics: Metrics, *, reverse: bool) -> None:
        """Answer one turn with every peer."""
        for name in reversed(list(repeat.peers)) if reverse else list(repeat.peers):
            if (answer := self._peers.answer(name, ask.ids, metrics.note)) is not None:
                repeat.peers[name].append(answer)
