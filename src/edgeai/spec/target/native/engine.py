"""Packed weights and forward passes of the native runtime, without torch.

Shapes: N new tokens, V vocabulary, H hidden, A feature layers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from edgeai.spec.target.native import structures
from edgeai.spec.target.native.cache import PackedCache
from edgeai.spec.target.native.library import Library

Array = np.ndarray


@dataclass(frozen=True)
class NewTokens:
    """New tokens of one sequence."""

    row: int
    """Sequence in the cache."""
    visible: int
    """Tokens of the sequence that all of them see."""
    start: int
    """Slot in the cache of the first one."""
    tokens: Array  # [n] int64
    depths: Array  # [n] positions counted from `visible`
    ancestors: Array  # [n, n] uint8, 1 = token i sees token j; parents before children
    logits: Sequence[int]
    """Tokens after which the next one is wanted."""


@dataclass(frozen=True)
class PassResult:
    """Results of one pass over N tokens, in the order of the segments."""

    logits: Array  # [tokens asked for, V] float32
    hidden: Array  # [N, H] float32, after the final norm
    features: Array  # [N, A * H] float32


class Engine:
    """Threads and buffers that run passes of one model.

    Args:
        library: The compiled library.
        threads: Number of threads.
    """

    def __init__(self, library: Library, threads: int) -> None:
        self.library = library
        self._handle = library.handle
        self._engine = ctypes.c_void_p(self._handle.edgeai_engine(library.variant, threads))

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._handle.edgeai_free(self._engine)

    def run(
        self,
        model: structures.Model,
        embedded: Array,
        segments: Sequence[NewTokens],
        cache: PackedCache,
        aux_layers: Sequence[int],
    ) -> PassResult:
        """Run new tokens and write their keys and values without committing them.

        Args:
            model: Packed weights.
            embedded: Embeddings of all new tokens, overwritten. [N, H] float32
            segments: New tokens by sequence.
            cache: Keys and values.
            aux_layers: Ascending layers whose input states are the features.
        """
        num_tokens = len(embedded)
        sizes = [len(part.tokens) for part in segments]
        firsts = list(accumulate(sizes[:-1], initial=0))
        positions = np.concatenate([part.visible + part.depths for part in segments], dtype=np.int32, casting="unsafe")
        rows = np.array(
            [first + at for first, part in zip(firsts, segments, strict=True) for at in part.logits], np.int32
        )
        layers = np.array(aux_layers, np.int32)
        ancestors = [np.ascontiguousarray(part.ancestors, np.uint8) for part in segments]
        described = (structures.Segment * len(segments))(
            *(
                structures.Segment(part.row, part.visible, part.start, first, size, seen.ctypes.data)
                for part, first, size, seen in zip(segments, firsts, sizes, ancestors, strict=True)
            )
        )
        result = PassResult(
            np.empty((len(rows), model.vocab), np.float32),
            np.empty((num_tokens, model.hidden), np.float32),
            np.empty((num_tokens, len(layers) * model.hidden), np.float32),
        )
        call = structures.Pass(
            ctypes.pointer(model),
            ctypes.pointer(cache.structure),
            described,
            len(segments),
            num_tokens,
            len(rows),
            len(layers),
            *(
                array.ctypes.data
                for array in (positions, rows, layers, embedded, result.logits, result.hidden, result.features)
            ),
        )
        self._handle.edgeai_run(self._engine, ctypes.byref(call))
        return result

    def keep(self, model: structures.Model, cache: PackedCache, row: int, path: Sequence[int]) -> None:
        """Commit a path of the tokens written last.

        Args:
            model: Packed weights.
            cache: Keys and values.
            row: Sequence in the cache.
            path: Ascending offsets from the committed end. [A]
        """
        offsets = np.asarray(path, dtype=np.int32)
        self._handle.edgeai_keep(
            ctypes.byref(model),
            ctypes.byref(cache.structure),
            row,
            cache.lengths[row],
            ctypes.c_void_p(offsets.ctypes.data),
            len(offsets),
        )
        cache.lengths[row] += len(offsets)

    def draft(self, call: structures.Draft) -> None:
        """Run the draft head. The arrays of the call must be large enough; the native code does not check them."""
        self._handle.edgeai_draft(self._engine, ctypes.byref(call))
