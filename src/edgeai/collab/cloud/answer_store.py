"""A cache of the cloud's answers, so that several strategies share the computation."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from edgeai.collab.cloud.answer import Answerer, CloudAnswer


class AnswerStore:
    """Caches answers by image; an `Answerer` itself.

    Args:
        answerer: Computes answers that are not in the cache.
        max_bytes: Memory for answers; the least recently used answer is dropped first.
    """

    def __init__(self, answerer: Answerer, *, max_bytes: int = 64 << 20) -> None:
        self.answerer = answerer
        self._max_bytes = max_bytes
        self._known: OrderedDict[bytes, CloudAnswer] = OrderedDict()
        self.num_bytes = 0
        self.num_computed = 0

    def __call__(self, jpeg: bytes, size_px: tuple[int, int]) -> CloudAnswer:
        """Return the cached or computed answer."""
        key = hashlib.sha256(jpeg + b"%d %d" % size_px).digest()
        answer = self._known.pop(key, None)
        if answer is None:
            answer = self.answerer(jpeg, size_px)
            self.num_computed += 1
            self.num_bytes += len(answer.packed)
        self._known[key] = answer
        while self.num_bytes > self._max_bytes and len(self._known) > 1:
            self.num_bytes -= len(self._known.popitem(last=False)[1].packed)
        return answer
