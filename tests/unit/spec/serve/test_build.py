"""Reserved memory of an engine, and a tree policy from real timings."""

from __future__ import annotations

import pytest

from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import NgramDraft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.serve.build import build_engine, build_parts
from edgeai.spec.serve.engine.tree_policy import REASONS, AdaptiveTree


@pytest.fixture
def config(tiny_folder):
    """config(tree=..., slots=...): prompt lookup on the tiny model."""

    def make(**changes):
        target = TargetConfig(model=str(tiny_folder), dtype="float32")
        return ServeConfig(**{"target": target, "draft": NgramDraft(), "context": 120, "name": "tiny", **changes})

    return make


def build(cfg):
    notes = []

    class Listener:
        on_progress = on_log = staticmethod(lambda *args, **kwargs: None)
        on_note = staticmethod(notes.append)

    return build_parts(cfg, device="cpu", metrics=Metrics(None, listener=Listener())), notes


def test_planned_memory_equals_reserved_memory(config):
    cfg = config(tree=TreeConfig(nodes=5, depth=2, top_k=3), slots=6)
    parts, _ = build(cfg)
    engine = build_engine(cfg, parts)
    cache = engine._cache
    assert sum(part.nbytes for part in (*cache.k, *cache.v)) == parts.plan.kv_bytes
    assert len(cache.lengths) == 6


def test_a_small_budget_reduces_the_number_of_slots(config):
    tree = TreeConfig(nodes=5, depth=2, top_k=3)
    per_slot = build(config(tree=tree, slots=1))[0].plan.kv_bytes
    parts, _ = build(config(tree=tree, slots=9, kv_budget_mib=3.5 * per_slot / 2**20))
    assert (parts.plan.slots, parts.plan.slots_asked) == (3, 9)


@pytest.mark.slow
def test_auto_chooses_by_timings_and_serves_the_plain_text(config, tmp_path, monkeypatch, ask, finish):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    cfg = config(tree="auto", slots=4)
    parts, notes = build(cfg)
    assert isinstance(parts.policy, AdaptiveTree)
    told = [note.split(": ")[2] for note in notes if note.startswith("tree: auto: batch size")]
    assert told == ["batch size 1", "batch size 4"]
    for num in (1, 4):
        decision = parts.policy.choose(num, 0)
        assert decision.reason in REASONS
        assert decision.speedup > 0
    engine = build_engine(cfg, parts)
    prompts = [parts.target.tokenizer.encode(text) for text in ("abcabc", "hello there", "123123")]
    from edgeai.spec.serve.engine.jobs import GenerationJob

    asked = [ask(engine, GenerationJob(tuple(ids), 30, SamplingConfig())) for ids in prompts]
    finish(engine, *asked)
    for ids, heard in zip(prompts, asked, strict=True):
        expected = generate_ids(
            parts.target, None, ids, tree=TreeConfig(), sampling=SamplingConfig(), max_tokens=30, context=120
        ).ids
        assert heard.ids == expected
