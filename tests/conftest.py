"""Tiny random models, a byte tokenizer and drafters that need no training."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.draft.head import DraftHead, HeadShape
from edgeai.spec.draft.tree import DraftTree, build_tree
from edgeai.spec.target.conversion import to_decoder
from edgeai.spec.target.protocol import Message, merged_template_values
from edgeai.spec.target.torch_runtime import DecoderTarget


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data") and not os.environ.get("EDGEAI_DATA"):
        pytest.skip("needs data sets: set EDGEAI_DATA to the folder that holds them")


FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
EOS = 0


class ByteTokenizer:
    """One token per ASCII character; token 0 ends the text."""

    eos_ids = frozenset({EOS})
    chat_template: str | None = None
    definition: str | None = None

    def encode(self, text: str) -> list[int]:
        return [ord(char) % 128 for char in text]

    def encode_raw(self, text: str) -> list[int]:
        return self.encode(text)

    def encode_chat(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        return "".join(chr(token) for token in ids if keep_special or token != EOS)

    def entry(self, token: int) -> str | None:
        return chr(token)

    def with_template_values(self, values: Mapping[str, Any]) -> ByteTokenizer:
        merged_template_values({}, values)
        return self

    def render(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        text = "".join(f"{m['role'][0]}:{m['content']}\n" for m in messages)
        return text + "a:" if open_answer else text


def _hf_model(family: str, *, vocab_size: int, seed: int) -> Any:
    """A random transformers model whose next-token distribution has a few likely tokens."""
    import transformers

    torch.manual_seed(seed)
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 160,
        "tie_word_embeddings": False,
        "initializer_range": 0.15,
        "attn_implementation": "eager",
    }
    config, model = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }[family]
    extra = {"head_dim": 24} if family in ("qwen3", "mistral") else {}
    hf = model(config(**sizes, **extra)).float().eval()
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" in name or "bias" in name:  # these start as ones and zeros, where a mix-up would not show
                parameter.add_(torch.randn_like(parameter) * 0.2)
        hf.lm_head.weight.mul_(2.0)
    return hf


@pytest.fixture(scope="session")
def make_hf() -> Callable[..., Any]:
    """make_hf(family, vocab_size=128, seed=0): a tiny random transformers model, float32."""
    return lambda family="llama", *, vocab_size=128, seed=0: _hf_model(family, vocab_size=vocab_size, seed=seed)


@pytest.fixture(scope="session")
def make_target() -> Callable[..., DecoderTarget]:
    """make_target(hf): the same weights behind the `Target` protocol."""

    def make(hf: Any, *, dtype: torch.dtype = torch.float32) -> DecoderTarget:
        decoder, lm_head = to_decoder(hf.to(dtype), "cpu")
        return DecoderTarget(
            decoder=decoder,
            lm_head=lm_head,
            tokenizer=ByteTokenizer(),
            name="tiny",
            fingerprint="tiny",
            aux_layers=(1, 2, 3),
        )

    return make


@pytest.fixture(scope="session")
def target(make_hf: Callable[..., Any], make_target: Callable[..., DecoderTarget]) -> DecoderTarget:
    """A tiny random Llama: 4 layers, width 64, grouped queries, 128 tokens, 160 positions."""
    return make_target(make_hf())


@pytest.fixture(scope="session")
def small_vocab_target(make_hf: Callable[..., Any], make_target: Callable[..., DecoderTarget]) -> DecoderTarget:
    """Twelve tokens only, so that even an untrained head is often right; none of them ends the text."""
    model = make_target(make_hf(vocab_size=12, seed=3))
    model.tokenizer.eos_ids = frozenset()
    return model


@pytest.fixture(scope="session")
def make_head() -> Callable[..., DraftHead]:
    """make_head(target, draft_vocab=64, **switches): a random head of the target's shape."""

    def make(target: DecoderTarget, *, draft_vocab: int = 64, seed: int = 0, **switches: bool) -> DraftHead:
        generator = torch.Generator().manual_seed(seed)
        shape = target.shape
        kept = torch.randperm(shape.vocab_size, generator=generator)[:draft_vocab].sort().values
        head = DraftHead(
            HeadShape(
                hidden_size=shape.hidden_size,
                target_hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_heads=shape.num_heads,
                num_kv_heads=shape.num_kv_heads,
                head_dim=shape.head_dim,
                rms_norm_eps=shape.rms_norm_eps,
                vocab_size=shape.vocab_size,
                draft_vocab_size=draft_vocab,
                aux_layers=target.aux_layers,
                fc_norm=switches.get("fc_norm", True),
                norm_output=switches.get("norm_output", True),
                norm_before_residual=switches.get("norm_before_residual", False),
            ),
            kept - torch.arange(draft_vocab),
        )
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1.0 + 0.2 * noise if "norm" in name else 0.2 * noise)
        return head.eval()

    return make


class ScriptedDrafter:
    """Knows the answer: draws random trees in which the true continuation appears to a random depth.

    Args:
        answer: What plain decoding generates.
        vocab_size: Other tokens are drawn from it.
        seed: Shapes of the trees.
    """

    name = "scripted"
    aux_layers = ()
    vocabulary = None

    def __init__(self, answer: Sequence[int], vocab_size: int, seed: int) -> None:
        self._answer = list(answer)
        self._vocab_size = vocab_size
        self._random = random.Random(seed)
        self._position = 0

    def start(self, ids: Sequence[int], features: Tensor) -> None:
        assert features.shape[0] == len(ids)
        self._position = 0

    def accept(self, tokens: Sequence[int], features: Tensor) -> None:
        assert features.shape[0] == len(tokens)
        assert list(tokens) == self._answer[self._position : self._position + len(tokens)]
        self._position += len(tokens)

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        assert root == self._answer[self._position]
        truth = self._answer[self._position + 1 :]
        tokens, parents, depths = [root], [-1], [0]
        on_path, used = 0, set[tuple[int, int]]()
        while len(tokens) <= tree.nodes:
            go_on = self._random.random() < 0.5 and depths[on_path] < min(tree.depth, len(truth))
            parent = on_path if go_on else self._random.randrange(len(tokens))
            token = truth[depths[parent]] if go_on else self._random.randrange(self._vocab_size)
            if (parent, token) in used or depths[parent] == tree.depth:
                if len(used) >= self._vocab_size:  # one level of everything: no room for more
                    break
                continue
            used.add((parent, token))
            tokens.append(token)
            parents.append(parent)
            depths.append(depths[parent] + 1)
            on_path = len(tokens) - 1 if go_on else on_path
        return build_tree(tokens, parents, [-float(depth) for depth in depths])


@pytest.fixture(scope="session")
def make_scripted() -> type[ScriptedDrafter]:
    """make_scripted(answer, vocab_size, seed): a drafter that is right to a random depth in every cycle."""
    return ScriptedDrafter
