"""Replayed cycles against those of decoding itself on the tiny model, and by hand."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from edgeai.core.run import Run
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generation import accept_len
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.eagle3 import Eagle3, HeadLayer
from edgeai.spec.evaluation.acceptance_replay import Passage, passages, replay
from edgeai.spec.training.train import run_train

TREES = [TreeConfig(nodes=5, depth=3, top_k=4), TreeConfig(nodes=20, depth=6, top_k=3)]
PROMPTS = ["Hello", "Tell me about number 3.", "a b c", "What is it?", "Write a list!", "12 + 7"]


@pytest.fixture(scope="module")
def trained(train_config, tmp_path_factory, tiny_target):
    """A head that is right now and then, as a drafter and as a layer."""
    cfg = train_config(epochs=4, val_every=1000)
    run = Run.create(cfg, out=tmp_path_factory.mktemp("head"), argv=[], device="cpu", device_why="test")
    run_train(cfg, run)
    head, _ = load_head(run.path, tiny_target)
    tiny_target = tiny_target.with_aux_layers(head.shape.aux_layers)
    return SimpleNamespace(
        drafter=Eagle3(head, tiny_target, name="x"), layer=HeadLayer(head, tiny_target), target=tiny_target
    )


def decoded(trained, text, tree, temperature, max_tokens, context=160):
    """(prompt, what decoding did with it)."""
    prompt = trained.target.tokenizer.encode(text)
    answer = generate_ids(
        trained.target,
        trained.drafter,
        prompt,
        tree=tree,
        sampling=SamplingConfig(temperature=temperature, seed=len(text)),
        max_tokens=max_tokens,
        context=context,
    )
    return prompt, answer


def passage_of(target, prompt, answer, max_tokens):
    ids = [*prompt, *answer]
    features = target.prefill(ids[:-1], target.new_cache(len(ids))).features
    return Passage(ids, features, len(prompt), len(ids), max_tokens)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: f"{tree.nodes} nodes")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equals_decoding(trained, tree, temperature):
    """Six texts at once, cut at lengths that fall inside of paths, some of which end by themselves."""
    for max_tokens in (2, 17, 42):
        runs = [decoded(trained, text, tree, temperature, max_tokens) for text in PROMPTS]
        texts = [passage_of(trained.target, prompt, answer.ids, max_tokens) for prompt, answer in runs]
        expected = [answer.accept_counts for _, answer in runs]
        assert replay(trained.layer, trained.target, texts, tree) == expected
        if max_tokens == 42:
            assert accept_len(chain.from_iterable(expected)) > 1.3
            assert {answer.finish_reason for _, answer in runs} == {"stop", "length"}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: f"{tree.nodes} nodes")
def test_end_of_text_inside_a_path(trained, tree, monkeypatch):
    """Every token that decoding writes plays the end of text once; accepted, it is the last and has no bonus."""
    _, whole = decoded(trained, PROMPTS[1], tree, 0.0, 40)
    for token in sorted(set(whole.ids[1:]))[::2]:
        with monkeypatch.context() as patch:
            patch.setattr(trained.target.tokenizer, "eos_ids", frozenset({token}))
            prompt, answer = decoded(trained, PROMPTS[1], tree, 0.0, 40)
        text = passage_of(trained.target, prompt, answer.ids, 40)
        assert replay(trained.layer, trained.target, [text], tree) == [answer.accept_counts]
        assert answer.finish_reason == "stop"


def test_end_of_the_targets_positions(trained, monkeypatch):
    """The limit of the context is one of the answer too."""
    prompt, answer = decoded(trained, PROMPTS[0], TREES[1], 0.0, 400, context=30)
    monkeypatch.setattr(trained.target, "shape", SimpleNamespace(max_positions=30))
    text = passage_of(trained.target, prompt, answer.ids, 400)
    assert len(text.ids) == 30
    assert replay(trained.layer, trained.target, [text], TREES[1]) == [answer.accept_counts]


def test_nothing_to_replay(trained):
    """An answer of one token comes from the prefill: no cycle."""
    text = passage_of(trained.target, [5, 6, 7], [8], 1)
    assert replay(trained.layer, trained.target, [text], TREES[0]) == [()]


def test_passages_of_a_conversation():
    """The first token of a text has no feature before it; an answer longer than the limit was written with another."""
    talk = Conversation("a", tuple(range(20)), ((0, 1), (0, 4), (10, 20)), 0.0)
    found = passages(talk, torch.zeros(20, 3), 5)
    assert [(each.begin, each.end, each.max_tokens) for each in found] == [(1, 4, 5), (10, 20, 10)]
