"""The target in torch on this process's device: `Target` implemented with the lean decoder of `decoder.py`.

Shapes: N new tokens of one sequence, B sequences, T tokens, P nodes of a pack, V vocabulary, H hidden, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeai.spec.config.target import Runtime
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.decoder import Decoder
from edgeai.spec.target.kv_cache import KVCache, commit_paths
from edgeai.spec.target.protocol import Forward, Segment, SegmentResult, Tokenizer, TreeScores
from edgeai.spec.target.segments import run_segments
from edgeai.spec.target.tree_scoring import Pack, pack_nodes, pack_trees, packs


class DecoderTarget:
    """See `Target`.

    Args:
        decoder: Weights and forward pass.
        lm_head: Output matrix [V, H].
        tokenizer: Tokenizer of the model.
        name: Name of the model as given by the user.
        fingerprint: Short hash of the weights.
        aux_layers: Layers whose input states are the features.
        former_fingerprint: The hash that earlier versions recorded in heads.
    """

    runtime: Runtime = "torch"

    def __init__(
        self,
        *,
        decoder: Decoder,
        lm_head: Tensor,
        tokenizer: Tokenizer,
        name: str,
        fingerprint: str,
        aux_layers: tuple[int, ...],
        former_fingerprint: str = "",
    ) -> None:
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint, self.former_fingerprint = fingerprint, former_fingerprint
        self._aux_layers = aux_layers
        self.shape = decoder.shape
        self.dtype = decoder.dtype
        self.device = decoder.device
        self.embedding = decoder.embedding
        self.lm_head = lm_head
        self.rotary = (decoder.cos, decoder.sin)

    @property
    def is_exact(self) -> bool:
        """See `Target`. In lower precision, kernels for one and for several rows round differently."""
        return self.dtype == torch.float32

    @property
    def aux_layers(self) -> tuple[int, ...]:
        """See `Target`."""
        return self._aux_layers

    def with_aux_layers(self, aux_layers: tuple[int, ...]) -> DecoderTarget:
        """See `Target`."""
        other = copy.copy(self)
        other._aux_layers = aux_layers
        return other

    def decoding(self) -> AbstractContextManager[None]:
        """See `Target`."""
        return nullcontext()

    def embed(self, ids: Tensor) -> Tensor:
        """See `Target`."""
        return F.embedding(ids, self.embedding)

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """See `Target`."""
        return self.decoder.new_cache(capacity, batch)

    def cache_bytes(self, capacity: int) -> int:
        """See `Target`."""
        s = self.shape
        return 2 * s.num_layers * s.num_kv_heads * s.head_dim * capacity * self.dtype.itemsize

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int], cache: KVCache, row: int = 0, *, chunk: int = 512) -> Forward:
        """See `Target`. Runs in chunks, so that the attention mask stays small for long prompts."""
        view = _row_view(cache, row)
        features = []
        hidden = None
        for begin in range(0, len(ids), chunk):
            part = torch.tensor([ids[begin : begin + chunk]], device=self.device)
            start = cache.lengths[row]
            num_new = part.shape[1]
            positions = torch.arange(start, start + num_new, device=self.device)[None]
            seen = torch.arange(start + num_new, device=self.device) <= positions[0, :, None]
            hidden, feats = self.decoder.forward(part, positions, seen[None], view, start, self._aux_layers)
            cache.lengths[row] += num_new
            features.append(feats[0])
        assert hidden is not None, "an empty prompt has no next token"
        return Forward(self.decoder.logits(hidden[0, -1:]), torch.cat(features))

    @torch.inference_mode()
    def verify(self, tokens: Tensor, depths: Tensor, ancestors: Tensor, cache: KVCache, row: int = 0) -> Forward:
        """See `Target`."""
        start = cache.lengths[row]
        num_new = tokens.shape[0]
        seen = None
        if num_new > 1:
            prefix = torch.ones(num_new, start, dtype=torch.bool, device=self.device)
            seen = torch.cat([prefix, ancestors], 1)[None]
        hidden, features = self.decoder.forward(
            tokens[None], depths[None] + start, seen, _row_view(cache, row), start, self._aux_layers
        )
        return Forward(self.decoder.logits(hidden[0]), features[0])

    def commit(self, cache: KVCache, path: Tensor, row: int = 0) -> None:
        """See `Target`."""
        cache.keep(row, path)

    def run_segments(self, segments: Sequence[Segment], cache: KVCache) -> list[SegmentResult]:
        """See `Target`."""
        return run_segments(self.decoder, segments, cache, self._aux_layers)

    def commit_paths(self, cache: KVCache, paths: Sequence[tuple[int, Sequence[int]]]) -> None:
        """See `Target`."""
        commit_paths(cache, paths)

    @torch.inference_mode()
    def decode(self, tokens: Tensor, cache: KVCache, active: Sequence[bool]) -> Tensor:
        """See `Target`."""
        starts = torch.tensor(cache.lengths, device=self.device)
        rows = torch.arange(int(starts.max()) + 1, device=self.device)
        seen = (rows <= starts[:, None])[:, None]  # [B, 1, L]
        hidden, _ = self.decoder.forward(tokens[:, None], starts[:, None], seen, cache, starts, ())
        for index, is_active in enumerate(active):
            cache.lengths[index] += int(is_active)
        return self.decoder.logits(hidden[:, 0])

    @torch.inference_mode()
    def features(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Target`. Real tokens never attend to the padding on their right."""
        batch, length = ids.shape
        positions = torch.arange(length, device=self.device)
        seen = (positions <= positions[:, None])[None]
        hidden, features = self.decoder.forward(
            ids, positions.expand(batch, -1), seen, self.decoder.new_cache(length, batch), 0, self._aux_layers
        )
        return features, hidden

    @torch.inference_mode()
    def features_and_choices(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Target`."""
        features, hidden = self.features(ids)
        # max is several times faster than argmax in bfloat16 on a CPU
        parts = hidden.flatten(0, 1).split(512)
        best = torch.cat([(part @ self.lm_head.t()).max(-1).indices for part in parts])
        return features, hidden, best.view(ids.shape)

    @torch.inference_mode()
    def score_trees(
        self, trees: Sequence[DraftTree], prefixes: Sequence[int], cache: KVCache, *, temperature: float = 1.0
    ) -> list[TreeScores]:
        """See `Target`."""
        start = cache.lengths[0]
        scores: list[TreeScores] = []
        for part in packs(trees, pack_nodes(self.device)):
            pack = pack_trees(trees[part], prefixes[part], start, self.device)
            hidden, _ = self.decoder.forward(pack.tokens[None], pack.positions[None], pack.seen[None], cache, start, ())
            log_probs, best = self._score_pack(pack, hidden[0], temperature)
            sizes = [tree.size for tree in trees[part]]
            scores += map(TreeScores, log_probs.split(sizes), best.split(sizes))
        return scores

    def _score_pack(self, pack: Pack, hidden: Tensor, temperature: float, *, rows: int = 256) -> tuple[Tensor, Tensor]:
        """Return the log probability of each node's token and the greedy choice after it [P], computed in blocks of
        rows.
        """
        is_draft = pack.parents != torch.arange(pack.parents.shape[0], device=self.device)
        log_probs = torch.zeros(hidden.shape[0], device=self.device)
        best = torch.empty_like(pack.tokens)
        for begin in range(0, hidden.shape[0], rows):
            logits = self.decoder.logits(hidden[begin : begin + rows]) / temperature
            best[begin : begin + rows] = logits.argmax(-1)
            slots = pack.parents - begin
            nodes = (is_draft & (slots >= 0) & (slots < rows)).nonzero()[:, 0]
            norms = logits.logsumexp(-1)
            log_probs[nodes] = logits[slots[nodes], pack.tokens[nodes]] - norms[slots[nodes]]
        return log_probs.cpu(), best.cpu()


def _row_view(cache: KVCache, row: int) -> KVCache:
    """Return the cache of one sequence as a view; the caller keeps the lengths."""
    if len(cache.lengths) == 1:
        return cache
    return KVCache([k[row : row + 1] for k in cache.k], [v[row : row + 1] for v in cache.v])
