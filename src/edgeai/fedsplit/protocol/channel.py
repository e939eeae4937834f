"""The two ends of one client's link: messages to wire form and back.

What goes up is packed by the codec `up`, what goes down by `down`: float tensors of at least two dimensions among
the activations and the gradients; labels, weights and everything else pass. A gradient answers the activations of
the same name that went the other way last: after top-k it is restricted to their indices, which both ends remember;
after FedLite the sender of the activations corrects it. All this is the same in both directions, so that a U-shaped
model, which sends activations down and gradients up too, needs nothing else.

Legend: b samples, q values a sample, k of them kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError
from edgeai.fedsplit.config.codec import CodecConfig
from edgeai.fedsplit.protocol.codec.codec import Packed
from edgeai.fedsplit.protocol.codec.lane import Lane
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.wire_form import WireReader, WireWriter


def build_ends(cfg: CodecConfig, seed: int, client: int) -> tuple[ChannelEnd, ChannelEnd]:
    """Both ends of a client's link.

    Args:
        cfg: Codecs of both directions.
        seed: Of the run.
        client: Number of the client; each has its own chances.

    Returns:
        The client's end, the server's end.
    """
    up, down = Lane(cfg.up, "up"), Lane(cfg.down, "down")
    return (
        ChannelEnd(out=up, back=down, error_feedback=cfg.error_feedback, seed_words=(seed, client, 0)),
        ChannelEnd(out=down, back=up, error_feedback=cfg.error_feedback, seed_words=(seed, client, 1)),
    )


class ChannelEnd:
    """One end of one client's link. It depends on nothing but its settings and the messages it has seen.

    Args:
        out: The direction in which this end sends.
        back: The direction in which it receives.
        error_feedback: Add what was lost of a gradient to the next of the same name. Rows are places in the batch.
        seed_words: Tell the chances of this end from all others.
    """

    def __init__(self, *, out: Lane, back: Lane, error_feedback: bool, seed_words: tuple[int, int, int]) -> None:
        self._out, self._back = out, back
        self._error_feedback, self._seed_words = error_feedback, seed_words
        self._is_plain = out.codec is None and back.codec is None
        self._num_packed = 0
        self._residual: dict[str, Tensor] = {}  # of gradients, [b, ...]
        self._sent_index: dict[str, Tensor] = {}  # of activations whose gradient is still to come, int64 [b, k]
        self._received_index: dict[str, Tensor] = {}  # of activations whose gradient is still to be sent
        self._correction: dict[str, Tensor] = {}  # lam * (z - z~) for a gradient still to come, [b, ...]

    @torch.no_grad()
    def pack(self, message: Message) -> Message:
        """To wire form; where nothing is to be packed, the message itself.

        Raises:
            UsageError: A codec does not fit a tensor's shape.
        """
        if self._is_plain or not (message.activations or message.gradients):
            return message
        writer, chance = WireWriter(message), self._chance()
        for name, x in message.activations.items():
            self._sent_index.pop(name, None)
            self._correction.pop(name, None)
            if self._out.codes(x):
                packed = self._pack_activations(name, x, chance)
                writer.put("activations", name, packed, shape=x.shape, is_restricted=False)
        for name, x in message.gradients.items():
            index = self._received_index.pop(name, None)
            if index is not None and index.shape[0] != x.shape[0]:
                index = None  # an aggregate over samples: it answers no single activation
            if self._out.codes(x, index):
                packed = self._pack_gradients(name, x, index, chance)
                writer.put("gradients", name, packed, shape=x.shape, is_restricted=index is not None)
        self._num_packed += 1
        return writer.wire()

    @torch.no_grad()
    def unpack(self, message: Message) -> Message:
        """From wire form; where nothing is to be done, the message itself.

        Raises:
            EdgeAIError: A gradient answers activations that this end has not sent.
        """
        if self._is_plain or not (message.activations or message.gradients):
            return message
        reader = WireReader(message)
        for name in message.activations:
            self._received_index.pop(name, None)
        for name, packed, _ in reader.packed("activations"):
            reader.put("activations", name, self._back.unpack(packed))
            if self._back.sparse is not None:
                self._received_index[name] = self._back.sparse.index_of(packed)
        arrived = dict(message.gradients)
        for name, packed, is_restricted in reader.packed("gradients"):
            arrived[name] = self._back.unpack(packed, self._index_sent(name) if is_restricted else None)
        for name, gradient in arrived.items():
            self._sent_index.pop(name, None)
            correction = self._correction.pop(name, None)
            if correction is not None and correction.shape == gradient.shape:
                gradient = gradient + correction
            reader.put("gradients", name, gradient)
        return reader.message()

    def state(self) -> dict[str, Any]:
        """What the next messages depend on: a number, and tensors by name."""
        return {
            "num_packed": self._num_packed,
            "residual": dict(self._residual),
            "sent_index": dict(self._sent_index),
            "received_index": dict(self._received_index),
            "correction": dict(self._correction),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._num_packed = int(state["num_packed"])
        self._residual = dict(state["residual"])
        self._sent_index = dict(state["sent_index"])
        self._received_index = dict(state["received_index"])
        self._correction = dict(state["correction"])

    def _chance(self) -> torch.Generator:
        """A generator for one message, seeded from the message's number: no generator has to be saved."""
        words = repr((*self._seed_words, self._num_packed)).encode()
        digest = hashlib.blake2b(words, digest_size=4).digest()  # torch's CPU generator takes no more than 32 bits
        return torch.Generator().manual_seed(int.from_bytes(digest, "little"))

    def _pack_activations(self, name: str, x: Tensor, chance: torch.Generator) -> Packed:
        if self._out.sparse is not None:
            self._sent_index[name], packed = self._out.pack_kept(x, chance)
            return packed
        packed = self._out.pack(x, chance)
        if self._out.lam > 0:
            self._correction[name] = self._out.lam * (x - self._out.unpack(packed))
        return packed

    def _pack_gradients(self, name: str, x: Tensor, index: Tensor | None, chance: torch.Generator) -> Packed:
        if not self._error_feedback:
            return self._out.pack(x, chance, index)
        before = self._residual.get(name, x.new_zeros(0, *x.shape[1:]))
        if before.shape[1:] != x.shape[1:]:  # the cut has moved
            before = x.new_zeros(0, *x.shape[1:])
        num_old = min(len(before), len(x))
        total = torch.cat([x[:num_old] + before[:num_old], x[num_old:]])
        packed = self._out.pack(total, chance, index)
        arrived = Packed(packed.payload, tuple(x.shape), packed.side)
        lost = total - self._out.unpack(arrived, index)
        self._residual[name] = torch.cat([lost, before[num_old:]])  # a short last batch leaves the other rows alone
        return packed

    def _index_sent(self, name: str) -> Tensor:
        if name not in self._sent_index:
            raise EdgeAIError(
                f'the gradient "{name}" answers activations that this end of the link has not sent',
                hint="both ends must be kept for the whole run, or saved and loaded together",
            )
        return self._sent_index[name]
