"""A tiny random Llama with a byte tokenizer, written as a model folder: `python -m edgeai.spec.tiny FOLDER`.

For smoke tests without downloads. Its text is noise, but all steps of training and decoding are real.

Every printable character has three likely successors, and the random layers choose among them depending on the context:
texts vary and end at random, and a head learns to predict about half of the tokens in seconds.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgeai.core.errors import UsageError

HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE = 64, 8, 4, 2, 128
SPECIAL = ("<|im_start|>", "<|im_end|>")
SUCCESSOR_SCALES = (0.15, 0.13, 0.11)  # close enough for the context to change the order
NUM_ENDINGS, ENDING_SCALE = 5, 0.13  # characters that may end a text
SPACE, NEWLINE = "Ġ", "Ċ"  # in the alphabet of byte-level tokenizers
PRINTABLE = string.ascii_letters + string.digits + string.punctuation + SPACE + NEWLINE
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_model(folder: Path, *, seed: int = 0) -> None:
    """Write config, weights and tokenizer of a random Llama with 8 layers, width 64 and 258 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "bos_token": "<|im_start|>",
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "max_position_embeddings": 512,
            "vocab_size": len(vocab),
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "eos_token_id": vocab["<|im_end|>"],
            "bos_token_id": vocab["<|im_start|>"],
            "torch_dtype": "float32",
        },
    )
    save_file(_weights(vocab, seed), folder / "model.safetensors", metadata={"format": "pt"})


def _weights(vocab: Mapping[str, int], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kv_width = HIDDEN * KV_HEADS // HEADS

    def normal(*size: int, std: float = 0.08) -> torch.Tensor:
        return torch.randn(*size, generator=generator) * std

    def shuffled(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[torch.randperm(len(tokens), generator=generator)]

    embedding = normal(len(vocab), HIDDEN, std=1.0)
    lm_head = normal(len(vocab), HIDDEN, std=0.03)
    printable = torch.tensor([vocab[char] for char in PRINTABLE])
    for scale in SUCCESSOR_SCALES:
        order = shuffled(printable)
        lm_head[order.roll(-1)] += scale * embedding[order]
    lm_head[vocab["<|im_end|>"]] += ENDING_SCALE * embedding[shuffled(printable)[:NUM_ENDINGS]].sum(0)
    weights = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": torch.ones(HIDDEN),
        "lm_head.weight": lm_head,
    }
    for index in range(LAYERS):
        at = f"model.layers.{index}"
        weights |= {
            f"{at}.input_layernorm.weight": torch.ones(HIDDEN),
            f"{at}.post_attention_layernorm.weight": torch.ones(HIDDEN),
            f"{at}.self_attn.q_proj.weight": normal(HIDDEN, HIDDEN),
            f"{at}.self_attn.k_proj.weight": normal(kv_width, HIDDEN),
            f"{at}.self_attn.v_proj.weight": normal(kv_width, HIDDEN),
            f"{at}.self_attn.o_proj.weight": normal(HIDDEN, HIDDEN),
            f"{at}.mlp.gate_proj.weight": normal(INTERMEDIATE, HIDDEN),
            f"{at}.mlp.up_proj.weight": normal(INTERMEDIATE, HIDDEN),
            f"{at}.mlp.down_proj.weight": normal(HIDDEN, INTERMEDIATE),
        }
    return weights


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise UsageError("usage: python -m edgeai.spec.tiny FOLDER")
    write_tiny_model(Path(sys.argv[1]))
