"""The EAGLE-3 draft head on the native runtime: packed weights, and trees of several sequences in one call.

Pair j of a text is (token j + 1, target feature j) at position j, as in `eagle3.py`; csrc/head_pass.h computes them.

Shapes: A new pairs of a sequence, F target features, N nodes of a tree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.head_checks import check_fit
from edgeai.spec.draft.tree import DraftTree
from edgeai.spec.target.native import structures
from edgeai.spec.target.native.cache import PackedCache
from edgeai.spec.target.native.target import NativeTarget

Array = np.ndarray
Packing = Literal["Q8_0", "Q4_1", "F32"]
"""GGUF type of a head's matrices."""
_CHUNK = 64  # pairs added at a time; bounds the buffers


@dataclass(frozen=True)
class NewPairs:
    """New pairs of one sequence."""

    row: int
    """Sequence in the cache."""
    tokens: Sequence[int]  # [A]
    features: Tensor  # [A, F]


def unsupported(shape: HeadShape) -> str | None:
    """Return why the native runtime cannot run a head of this shape; None if it can."""
    sizes = {
        "feature": len(shape.aux_layers) * shape.target_hidden_size,
        "hidden": shape.hidden_size,
        "intermediate": shape.intermediate_size,
        "attention": shape.num_heads * shape.head_dim,
    }
    for name, size in sizes.items():
        if size % 32:
            return f"its {name} size {size} is not a multiple of 32"
    return f"its head width {shape.head_dim} is not a multiple of 16" if shape.head_dim % 16 else None


class NativeHead:
    """A draft head with packed weights.

    Args:
        head: Trained head of a supported shape.
        target: Target whose embedding, rotary tables and threads are used.
        packing: GGUF type of the matrices.

    Raises:
        EdgeAIError: The head's shape does not match the target.
    """

    def __init__(self, head: DraftHead, target: NativeTarget, *, packing: Packing = "Q8_0") -> None:
        check_fit(head, target)
        assert unsupported(head.shape) is None
        self.shape = head.shape
        self.target_ids = head.draft_to_target
        self._engine, self._model, self._kept = target.engine, target.packed, list[Array]()
        self._structure = self._pack(head, target, packing)

    def new_cache(self, capacity: int, batch: int = 1) -> PackedCache:
        """Reserve memory for `batch` sequences of up to `capacity` pairs and nodes."""
        return PackedCache(self.shape.num_kv_heads, self.shape.head_dim, capacity, batch)

    def cache_bytes(self, capacity: int) -> int:
        """Return the memory of one sequence of up to `capacity` pairs and nodes."""
        return PackedCache.bytes_per_sequence(self.shape.num_kv_heads, self.shape.head_dim, capacity)

    def add(self, cache: PackedCache, pairs: NewPairs) -> None:
        """Add new pairs of one sequence."""
        for begin in range(0, len(pairs.tokens), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            self._run(cache, [NewPairs(pairs.row, pairs.tokens[part], pairs.features[part])], None, 0)

    def propose(self, cache: PackedCache, pairs: Sequence[NewPairs], tree: TreeConfig) -> list[DraftTree]:
        """Add new pairs and draft a tree below the last token of each sequence.

        Args:
            cache: Keys and values, with room for `tree.depth` times `tree.top_k` nodes after the pairs.
            pairs: New pairs of different sequences, at least one of each.
            tree: Size of the trees.
        """
        width = min(tree.top_k, self.shape.draft_vocab_size)
        nodes = min(tree.nodes, width + (tree.depth - 1) * width * width)
        return self._run(cache, pairs, tree.model_copy(update={"top_k": width}), nodes)

    def _run(
        self, cache: PackedCache, pairs: Sequence[NewPairs], tree: TreeConfig | None, nodes: int
    ) -> list[DraftTree]:
        depth = tree.depth if tree else 0
        if self.shape.rope is None:  # the target's tables move when they grow
            self._model.reserve_positions(max(cache.lengths[new.row] + len(new.tokens) for new in pairs) + depth)
            self._structure.cos, self._structure.sin = self._model.structure.cos, self._model.structure.sin
        sequences = (structures.NewPairs * len(pairs))()
        first = 0
        for sequence, new in zip(sequences, pairs, strict=True):
            count, length = len(new.tokens), cache.lengths[new.row]
            sequence.row, sequence.stable, sequence.first, sequence.count = new.row, length, first, count
            cache.lengths[new.row] = length + count
            first += count
        tokens = np.array([token for new in pairs for token in new.tokens], np.int64)
        features = torch.cat([new.features for new in pairs]).float().numpy()
        batch, size = len(pairs), 1 + nodes
        # tokens, parents, depths
        integers, ancestors = np.empty((3, batch, size), np.int64), np.empty((batch, size, size), np.bool_)
        scores = np.empty((batch, size), np.float32)
        call = structures.Draft(
            ctypes.pointer(self._structure),
            ctypes.pointer(cache.structure),
            sequences,
            batch,
            first,
            depth,
            tree.top_k if tree else 0,
            nodes,
            *(array.ctypes.data for array in (tokens, features, *integers, ancestors, scores)),
        )
        self._engine.draft(call)
        if tree is None:
            return []
        arrays = tuple(map(torch.from_numpy, (*integers, ancestors, scores)))
        return [DraftTree(*(array[at] for array in arrays)) for at in range(batch)]

    def _pack(self, head: DraftHead, target: NativeTarget, packing: Packing) -> structures.Head:
        shape, layer, attention, mlp = head.shape, head.midlayer, head.midlayer.self_attn, head.midlayer.mlp
        cos = sin = None
        if shape.rope is not None:
            tables = shape.rope.tables(shape.head_dim, target.shape.max_positions, torch.float32)
            cos, sin = (self._keep(table[:, shape.head_dim // 2 :]) for table in tables)  # the first half is -sin
        fc_norm = torch.stack([norm.get_parameter("weight") for norm in head.fc_norm]) if shape.fc_norm else None
        linears = (
            *(head.fc, attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
            *(mlp.gate_proj, mlp.up_proj, mlp.down_proj, head.lm_head),
        )
        return structures.Head(
            shape.hidden_size,
            shape.intermediate_size,
            len(shape.aux_layers),
            shape.draft_vocab_size,
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            shape.norm_output,
            shape.norm_before_residual,
            shape.rms_norm_eps,
            cos,
            sin,
            None if fc_norm is None else self._keep(fc_norm.float()),
            *(
                self._keep(norm.weight.float())
                for norm in (layer.input_layernorm, layer.hidden_norm, layer.post_attention_layernorm, head.norm)
            ),
            self._keep(head.draft_to_target),
            *(self._matrix(linear.weight, packing) for linear in linears),
            self._model.embedding_matrix,
        )

    def _keep(self, values: Tensor | Array) -> int:
        """Return the address of values, which live as long as the head."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return int(array.ctypes.data)

    def _matrix(self, weight: Tensor, packing: Packing) -> structures.Matrix:
        from gguf import GGMLQuantizationType, quants

        kind, (n, k) = GGMLQuantizationType[packing], weight.shape
        handle = self._engine.library.handle
        packed = np.zeros(handle.edgeai_packed_bytes(handle.edgeai_kind(int(kind)), n, k), np.uint8)
        raw = np.ascontiguousarray(quants.quantize(weight.detach().float().cpu().numpy(), kind))
        handle.edgeai_pack(int(kind), ctypes.c_void_p(raw.ctypes.data), n, k, ctypes.c_void_p(packed.ctypes.data))
        return structures.Matrix(handle.edgeai_kind(int(kind)), n, k, self._keep(packed), None)
