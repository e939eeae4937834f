"""User turns of a bench with their history, the same for every decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeai.core.errors import UsageError
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.decoding.decode import check_room
from edgeai.spec.target.protocol import Target, check_tokens


@dataclass(frozen=True)
class Ask:
    """One user turn with its history."""

    prompt: str
    turn: int
    ids: tuple[int, ...]
    """Token ids with the chat template applied."""
    task: str = ""
    """Kind of task; empty if the prompt file names none."""

    @property
    def key(self) -> tuple[str, int]:
        """Prompt and turn."""
        return self.prompt, self.turn


class Dialogues:
    """All turns of all prompts. Later turns follow the first answers of plain decoding, so that all decoders get the
    same.

    Args:
        cfg: Number of turns and context.
        target: Target whose tokenizer and limits are used.
        prompts: Prompts of the bench.

    Raises:
        UsageError: A first turn does not fit the context.
    """

    def __init__(self, cfg: BenchConfig, target: Target, prompts: Sequence[Prompt]) -> None:
        self._tokenizer, self._prompts, self._max_turns = target.tokenizer, prompts, cfg.max_turns
        self._context = min(cfg.context, target.shape.max_positions)
        self._answers: dict[tuple[str, int], str] = {}
        for ask in self.first_turns():
            check_tokens(target, ask.ids)
            try:
                check_room(target, len(ask.ids), cfg.context)
            except UsageError as error:
                raise UsageError(f"{ask.prompt}: {error.message}", hint=error.hint) from None

    @property
    def num_turns(self) -> int:
        """Number of turns to answer, unless a dialogue exceeds the context."""
        return sum(min(len(prompt.turns), self._max_turns) for prompt in self._prompts)

    def first_turns(self) -> Iterator[Ask]:
        """Return the first turn of every prompt."""
        return (self._ask(prompt, 0) for prompt in self._prompts)

    def turns(self) -> Iterator[Ask]:
        """Yield every turn; each must be answered before the next. A dialogue that exceeds the context ends."""
        for prompt in self._prompts:
            for turn in range(min(len(prompt.turns), self._max_turns)):
                ask = self._ask(prompt, turn)
                if len(ask.ids) >= self._context:
                    break
                yield ask

    def answered(self, ask: Ask, text: str) -> None:
        """Record an answer of plain decoding; the first one is kept."""
        self._answers.setdefault(ask.key, text)

    def _ask(self, prompt: Prompt, turn: int) -> Ask:
        messages = prompt.messages([self._answers[prompt.id, earlier] for earlier in range(turn)])
        ids = self._tokenizer.encode_chat(self._tokenizer.render(messages, open_answer=True))
        return Ask(prompt.id, turn, tuple(ids), prompt.task)
