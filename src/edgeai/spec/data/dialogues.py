"""What a bench asks: user turns with their history, the same for every decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeai.core.errors import UsageError
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.decoding.decode import check_room
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class Ask:
    """One user turn, ready to be answered."""

    prompt: str
    turn: int
    ids: tuple[int, ...]

    @property
    def key(self) -> tuple[str, int]:
        return self.prompt, self.turn


class Dialogues:
    """All turns of all prompts. Later ones follow plain decoding's first answers: every decoder is asked the same."""

    def __init__(self, cfg: BenchConfig, target: Target, prompts: Sequence[Prompt]) -> None:
        self._tokenizer, self._prompts, self._max_turns = target.tokenizer, prompts, cfg.max_turns
        self._context = min(cfg.context, target.shape.max_positions)
        self._answers: dict[tuple[str, int], str] = {}
        for ask in self.first_turns():
            try:
                check_room(target, len(ask.ids), cfg.context)
            except UsageError as error:
                raise UsageError(f"{ask.prompt}: {error.message}", hint=error.hint) from None

    @property
    def num_turns(self) -> int:
        """Turns to be answered, unless a dialogue outgrows the context."""
        return sum(min(len(prompt.turns), self._max_turns) for prompt in self._prompts)

    def first_turns(self) -> Iterator[Ask]:
        """The first turn of every prompt."""
        return (self._ask(prompt, 0) for prompt in self._prompts)

    def turns(self) -> Iterator[Ask]:
        """Every turn, each to be answered before the next is asked for. A dialogue that outgrows the context ends."""
        for prompt in self._prompts:
            for turn in range(min(len(prompt.turns), self._max_turns)):
                ask = self._ask(prompt, turn)
                if len(ask.ids) >= self._context:
                    break
                yield ask

    def answered(self, ask: Ask, text: str) -> None:
        """Take down plain decoding's answer; the first one stays."""
        self._answers.setdefault(ask.key, text)

    def _ask(self, prompt: Prompt, turn: int) -> Ask:
        messages = []
        for earlier in range(turn):
            messages.append({"role": "user", "content": prompt.turns[earlier]})
            messages.append({"role": "assistant", "content": self._answers[prompt.id, earlier]})
        messages.append({"role": "user", "content": prompt.turns[turn]})
        ids = self._tokenizer.encode(self._tokenizer.render(messages, open_answer=True))
        return Ask(prompt.id, turn, tuple(ids))
