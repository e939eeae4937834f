"""A peer of `spec bench`, and the group of peers that one bench runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeai.core.errors import EdgeAIError


@dataclass(frozen=True)
class PeerAnswer:
    """Answer of a peer."""

    ids: tuple[int, ...]
    """Generated tokens, including an end-of-text token."""
    num_timed: int
    """Tokens delivered after the first delivery, which includes the prefill."""
    decode_s: float
    """Time after the first delivery."""
    num_prompt_tokens: int
    """Tokens of the prompt."""
    prefill_s: float
    """Time to the first delivery."""


class Peer(Protocol):
    """Another implementation with the target's weights, or one of its modes."""

    @property
    def name(self) -> str:
        """Name in the report."""

    @property
    def settings(self) -> str:
        """Version and options in use, for the report."""

    def answer(self, prompt_ids: Sequence[int]) -> PeerAnswer:
        """Answer a prompt greedily.

        Raises:
            EdgeAIError: The peer failed.
        """

    def close(self) -> None:
        """Release processes and memory."""


class Peers:
    """The peers of one bench. A peer that fails while the bench runs is left out from then on.

    Args:
        peers: Peers with different names.
    """

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = {peer.name: peer for peer in peers}
        self.failures: dict[str, str] = {}
        """Reason by name of the peers that failed."""

    @property
    def settings(self) -> dict[str, str]:
        """Settings by name, in the order of the report."""
        return {name: peer.settings for name, peer in self._peers.items()}

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    def warm_up(self, prompt_ids: Sequence[int]) -> None:
        """Run every peer once, because first calls allocate memory.

        Raises:
            EdgeAIError: A peer failed.
        """
        for peer in self._peers.values():
            peer.answer(prompt_ids)

    def answer(self, name: str, prompt_ids: Sequence[int], on_failure: Callable[[str], None]) -> PeerAnswer | None:
        """Return the answer of one peer; None if it failed now or before.

        Args:
            name: Name of the peer.
            prompt_ids: Prompt with its chat template applied.
            on_failure: Receives one line when the peer fails.
        """
        if name in self.failures:
            return None
        try:
            return self._peers[name].answer(prompt_ids)
        except EdgeAIError as error:
            self.failures[name] = error.message
            on_failure(f"{name} failed and is left out: {error.message}")
            return None

    def close(self) -> None:
        """Release processes and memory of all peers."""
        for peer in self._peers.values():
            peer.close()
