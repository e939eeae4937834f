"""Prometheus metrics: requests, tokens, acceptance, times, and the choice of the draft tree.

The speculation counters have vLLM's names with another prefix.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edgeai.spec.serve.engine.events import Done, FinalEvent
from edgeai.spec.serve.engine.observer import CycleStats
from edgeai.spec.serve.engine.tree_policy import REASONS, Decision
from edgeai.spec.serve.reports import ServeReport

_FAST_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SLOW_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class ServerMetrics:
    """Observer of the engine with its own Prometheus registry.

    Args:
        kv_bytes: Memory reserved for keys and values.
        num_slots: Most requests decoded at once.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, *, kv_bytes: int, num_slots: int) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"edgeai_spec_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"edgeai_spec_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"edgeai_spec_{name}", text, labels, registry=registry, buckets=buckets)

        self._requests = counter("requests", "Ended requests by outcome", "outcome")
        self._rejected = counter("rejected", "Requests rejected with an error status", "status")
        self._tokens = counter("generation_tokens", "Tokens generated")
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens read")
        self._reused = counter("prefix_reused_tokens", "Prompt tokens reused from the KV cache")
        self._cycles = counter("cycles", "Target passes", "kind")
        self._drafts = counter("spec_decode_num_drafts", "Draft trees verified")
        self._draft_tokens = counter("spec_decode_num_draft_tokens", "Draft tokens verified")
        self._accepted = counter("spec_decode_num_accepted_tokens", "Draft tokens accepted")
        self._accepted_at = counter(
            "spec_decode_num_accepted_tokens_per_pos", "Draft trees with an accepted token at this depth", "position"
        )
        self._cycle_s = histogram("cycle_seconds", "Time of each part of a cycle", _FAST_S, "part")
        self._queue_s = histogram("queue_seconds", "Time in the queue", _SLOW_S)
        self._prefill_s = histogram("prefill_seconds", "Time from admission to the first token", _SLOW_S)
        self._decode_s = histogram("decode_seconds", "Time from the first to the last token", _SLOW_S)
        self._batch = histogram("batch_requests", "Requests per target pass", (1, 2, 4, 8, 12, 16, 24, 32, 64))
        self._active = gauge("active_requests", "Requests in slots")
        self._waiting = gauge("waiting_requests", "Requests in the queue")
        gauge("slots", "Most requests decoded at once").set(num_slots)
        gauge("kv_bytes", "Memory reserved for keys and values of the target and the draft head").set(kv_bytes)
        self._tree = gauge("tree", "Size of the latest draft tree; 0 for plain decoding", "part")
        self._speedup = gauge("tree_predicted_speedup", "Predicted speed of the best tree relative to plain decoding")
        self._expected = gauge("tree_predicted_accept_len", "Predicted tokens per cycle of the best tree")
        self._reason = gauge("tree_reason", "1 for the reason of the latest choice of tree, else 0", "reason", "why")
        self._choices = counter("tree_choices", "Cycles by size of the draft tree and reason", "nodes", "reason")
        self._last: Decision | None = None
        self._num_requests = self._num_tokens = self._num_prompt_tokens = self._num_drafts = self._num_accepted = 0

    def on_cycle(self, cycle: CycleStats) -> None:
        """See `Observer`."""
        self._num_tokens += cycle.num_tokens
        self._num_prompt_tokens += cycle.num_prompt_tokens
        self._num_drafts += len(cycle.num_accepted)
        self._num_accepted += sum(cycle.num_accepted)
        self._tokens.inc(cycle.num_tokens)
        self._prompt_tokens.inc(cycle.num_prompt_tokens)
        self._cycles.labels("speculative" if cycle.num_accepted else "plain").inc()
        self._drafts.inc(len(cycle.num_accepted))
        self._draft_tokens.inc(cycle.num_draft_tokens)
        self._accepted.inc(sum(cycle.num_accepted))
        for position in range(max(cycle.num_accepted, default=0)):
            self._accepted_at.labels(position).inc(sum(count > position for count in cycle.num_accepted))
        for part, seconds in (("draft", cycle.draft_s), ("verify", cycle.verify_s), ("rest", cycle.rest_s)):
            self._cycle_s.labels(part).observe(seconds)
        self._batch.observe(cycle.num_requests)
        self._show(cycle.decision)

    def on_end(self, event: FinalEvent) -> None:
        """See `Observer`."""
        outcome = event.reason if isinstance(event, Done) else type(event).__name__.lower()
        self._requests.labels(outcome).inc()
        self._num_requests += 1
        if isinstance(event, Done):
            self._reused.inc(event.num_reused)
            self._queue_s.observe(event.queue_s)
            self._prefill_s.observe(event.prefill_s)
            self._decode_s.observe(event.decode_s)

    def rejected(self, status: int) -> None:
        """Count a request that got an error response."""
        self._rejected.labels(status).inc()

    def render(self, *, num_active: int, num_waiting: int) -> bytes:
        """Return the metrics in Prometheus' text format.

        Args:
            num_active: Requests in slots.
            num_waiting: Requests in the queue.
        """
        self._active.set(num_active)
        self._waiting.set(num_waiting)
        return generate_latest(self._registry)

    def report(self, *, url: str, uptime_s: float) -> ServeReport:
        """Return the totals since start-up.

        Args:
            url: Address of the server.
            uptime_s: Time since start-up.
        """
        return ServeReport(
            url=url,
            uptime_s=uptime_s,
            num_requests=self._num_requests,
            num_tokens=self._num_tokens,
            num_prompt_tokens=self._num_prompt_tokens,
            accept_len=1.0 + self._num_accepted / self._num_drafts if self._num_drafts else 1.0,
        )

    def _show(self, decision: Decision) -> None:
        tree = decision.tree
        self._choices.labels(tree.nodes if tree else 0, decision.reason).inc()
        if decision == self._last:
            return
        self._last = decision
        for part in ("nodes", "depth", "top_k"):
            self._tree.labels(part).set(getattr(tree, part) if tree else 0)
        self._speedup.set(decision.speedup)
        self._expected.set(decision.accept_len)
        for reason, why in REASONS.items():
            self._reason.labels(reason, why).set(float(reason == decision.reason))
