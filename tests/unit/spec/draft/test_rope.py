"""A head's own rotary embedding, against transformers' functions for the same configs."""

from dataclasses import replace

import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.eagle3 import Eagle3, head_rotary
from edgeai.spec.draft.rope import Rope, rope_of

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    "config",
    [
        {"rope_theta": 10000.0},
        {"rope_theta": 500000.0, "rope_scaling": None},
        {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
        {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
    ],
    ids=["plain", "null", "linear", "llama3", "new keys"],
)
def test_frequencies_are_those_of_transformers(config):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    hf = LlamaConfig(hidden_size=512, num_attention_heads=4, max_position_embeddings=131072, **config)
    theirs = LlamaRotaryEmbedding(hf).inv_freq
    ours = rope_of(config, of="it")
    torch.testing.assert_close(ours.frequencies(128), theirs, rtol=1e-5, atol=0)  # two orders of the same products
    assert rope_of(ours.to_config(), of="it") == ours


def test_a_config_without_a_base_means_10000():
    assert rope_of({}, of="it") == Rope(10000.0)


def test_an_unknown_scaling():
    with pytest.raises(UsageError) as caught:
        rope_of({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, of="the head")
    assert caught.value.message == "the head scales its positions by 'yarn'; known are default, linear and llama3"


def test_equal_tables_are_seen_in_any_number_format(target):
    head_dim = target.shape.head_dim
    for dtype in (torch.float32, torch.bfloat16):
        tables = Rope(10000.0).tables(head_dim, 4096, dtype)
        assert Rope(10000.0).equals(tables)
        assert not Rope(10500.0).equals(tables)
        assert not Rope(10000.0, "linear", 2.0).equals(tables)


def test_a_head_turns_with_its_own_base_if_it_has_one(target, make_head):
    """The target's base is 10000: saying so changes nothing, another base changes what is drafted."""
    trees = []
    for rope in (None, Rope(10000.0), Rope(20.0)):
        head = make_head(target)
        head.shape = replace(head.shape, rope=rope)
        assert (head_rotary(head.shape, target)[0] is target.rotary[0]) == (rope is None)
        drafter = Eagle3(head, target, name="it")
        ids = list(range(5, 45))
        features, _ = target.features(torch.tensor([ids]))
        drafter.start(ids, features[0])
        trees.append(drafter.propose(7, TreeConfig(nodes=8, depth=3, top_k=4)).scores)
    torch.testing.assert_close(trees[0], trees[1], rtol=1e-4, atol=1e-4)  # the same table computed twice
    assert (trees[0] - trees[2]).abs().max() > 0.01
