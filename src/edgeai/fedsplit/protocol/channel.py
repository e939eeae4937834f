"""The two ends of one client's link: encoding to and from wire form.

The codec `up` packs what is sent up, `down` what is sent down: float tensors of at least two dimensions among
activations and gradients. Labels, weights and all other tensors are sent unchanged. A gradient belongs to the last
activations of the same name in the other direction: after top-k it is restricted to their indices, which both ends
remember; after FedLite the sender of the activations corrects it. Both directions are symmetric, so that a U-shaped
model, which also sends activations down and gradients up, needs no special case.

Legend: b samples, q values per sample, k of them kept.
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
from edgeai.fedsplit.protocol.codec.direction import DirectionCodec
from edgeai.fedsplit.protocol.message import Message
from edgeai.fedsplit.protocol.wire_form import WireReader, WireWriter


def build_ends(cfg: CodecConfig, seed: int, client: int) -> tuple[ChannelEnd, ChannelEnd]:
    """Build both ends of a client's link.

    Args:
        cfg: Codecs of both directions.
        seed: Seed of the run.
        client: Number of the client; seeds the codecs' random draws.

    Returns:
        The client's end, the server's end.
    """
    up, down = DirectionCodec(cfg.up, "up"), DirectionCodec(cfg.down, "down")
    return (
        ChannelEnd(out=up, back=down, error_feedback=cfg.error_feedback, seed_words=(seed, client, 0)),
        ChannelEnd(out=down, back=up, error_feedback=cfg.error_feedback, seed_words=(seed, client, 1)),
    )


class ChannelEnd:
    """One end of one client's link. Its state depends only on its settings and the messages it has seen.

    Args:
        out: Codec of the direction in which this end sends.
        back: Codec of the direction in which it receives.
        error_feedback: Whether to add the codec error of a gradient to the next one of the same name, row by row.
        seed_words: Seed of this end's random draws.
    """

    def __init__(
        self, *, out: DirectionCodec, back: DirectionCodec, error_feedback: bool, seed_words: tuple[int, int, int]
    ) -> None:
        self._out, self._back = out, back
        self._error_feedback, self._seed_words = error_feedback, seed_words
        self._is_plain = out.codec is None and back.codec is None
        self._num_packed = 0
        self._residual: dict[str, Tensor] = {}  # of gradients, [b, ...]
        self._sent_index: dict[str, Tensor] = {}  # of activations still without a gradient, int64 [b, k]
        self._received_index: dict[str, Tensor] = {}  # of activations whose gradient has not been sent yet
        self._correction: dict[str, Tensor] = {}  # lam * (z - z~) for a gradient not received yet, [b, ...]

    @torch.no_grad()
    def pack(self, message: Message) -> Message:
        """Return the wire form of a message; the message itself if nothing needs packing.

        Raises:
            UsageError: A codec does not fit a tensor's shape.
        """
        if self._is_plain or not (message.activations or message.gradients):
            return message
        writer, generator = WireWriter(message), self._generator()
        for name, x in message.activations.items():
            self._sent_index.pop(name, None)
            self._correction.pop(name, None)
            if self._out.codes(x):
                packed = self._pack_activations(name, x, generator)
                writer.put("activations", name, packed, shape=x.shape, is_restricted=False)
        for name, x in message.gradients.items():
            index = self._received_index.pop(name, None)
            if index is not None and index.shape[0] != x.shape[0]:
                index = None  # aggregated over samples: it does not belong to these activations
            if self._out.codes(x, index):
                packed = self._pack_gradients(name, x, index, generator)
                writer.put("gradients", name, packed, shape=x.shape, is_restricted=index is not None)
        self._num_packed += 1
        return writer.wire()

    @torch.no_grad()
    def unpack(self, message: Message) -> Message:
        """Decode a message from wire form; return the message itself if nothing is packed.

        Raises:
            EdgeAIError: A gradient belongs to activations that this end has not sent.
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
        """Return the state that later messages depend on: a counter, and tensors by name."""
        return {
            "num_packed": self._num_packed,
            "residual": dict(self._residual),
            "sent_index": dict(self._sent_index),
            "received_index": dict(self._received_index),
            "correction": dict(self._correction),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._num_packed = int(state["num_packed"])
        self._residual = dict(state["residual"])
        self._sent_index = dict(state["sent_index"])
        self._received_index = dict(state["received_index"])
        self._correction = dict(state["correction"])

    def _generator(self) -> torch.Generator:
        """Return a generator seeded by the number of the message, so that no generator state has to be saved."""
        words = repr((*self._seed_words, self._num_packed)).encode()
        digest = hashlib.blake2b(words, digest_size=4).digest()  # torch's CPU generator takes at most 32 bits
        return torch.Generator().manual_seed(int.from_bytes(digest, "little"))

    def _pack_activations(self, name: str, x: Tensor, generator: torch.Generator) -> Packed:
        if self._out.sparse is not None:
            self._sent_index[name], packed = self._out.pack_kept(x, generator)
            return packed
        packed = self._out.pack(x, generator)
        if self._out.lam > 0:
            self._correction[name] = self._out.lam * (x - self._out.unpack(packed))
        return packed

    def _pack_gradients(self, name: str, x: Tensor, index: Tensor | None, generator: torch.Generator) -> Packed:
        if not self._error_feedback:
            return self._out.pack(x, generator, index)
        before = self._residual.get(name, x.new_zeros(0, *x.shape[1:]))
        if before.shape[1:] != x.shape[1:]:  # the cut has changed
            before = x.new_zeros(0, *x.shape[1:])
        num_old = min(len(before), len(x))
        total = torch.cat([x[:num_old] + before[:num_old], x[num_old:]])
        packed = self._out.pack(total, generator, index)
        arrived = Packed(packed.payload, tuple(x.shape), packed.side)
        lost = total - self._out.unpack(arrived, index)
        self._residual[name] = torch.cat([lost, before[num_old:]])  # a short last batch leaves the other rows unchanged
        return packed

    def _index_sent(self, name: str) -> Tensor:
        if name not in self._sent_index:
            raise EdgeAIError(
                f'the gradient "{name}" belongs to activations that this end of the link has not sent',
                hint="keep both ends for the whole run, or save and load them together",
            )
        return self._sent_index[name]
