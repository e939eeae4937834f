"""Quality of the native runtime: divergence and top-1 agreement with the dequantized weights in float32.

    python tests/benchmarks/spec_native_quality.py [--prompts FILE] [--llama-server PATH]      # a few minutes

The texts are the prompts with the native runtime's greedy answers; predictions of the answers' tokens are compared,
teacher-forced. llama.cpp returns the probabilities of its top tokens only, one request a position: every few positions
are compared, and the other tokens count as one, which bounds the divergence from below. The native runtime is compared
in the same way beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeai.core import assets
from edgeai.core.metrics import Metrics
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.prompts import builtin_prompts, load_prompts, select
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.decoding.tree_tuning import WIDE
from edgeai.spec.evaluation.bench.machine import hardware
from edgeai.spec.evaluation.peers.llama_server import LlamaServer, free_port
from edgeai.spec.target.build import build_target
from edgeai.spec.target.conversion import to_decoder
from edgeai.spec.target.protocol import Target
from edgeai.spec.target.quality import compare_logits, text_logits
from edgeai.spec.target.torch_runtime import DecoderTarget

TOP = 200  # tokens whose probabilities llama.cpp returns
EVERY = 8  # positions


def float32_target(path: Path, target: Target) -> DecoderTarget:
    """The model of a GGUF file in torch with its exact dequantized weights."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32).eval()
    decoder, lm_head = to_decoder(model, "cpu")
    return DecoderTarget(
        decoder=decoder,
        lm_head=lm_head,
        tokenizer=target.tokenizer,
        name=str(path),
        fingerprint="",
        aux_layers=target.aux_layers,
    )


def answered(target: Target, prompts: list[str], max_tokens: int) -> list[tuple[list[int], int]]:
    """Texts of prompts and answers, each with the number of its prompt's tokens."""
    texts = []
    for prompt in prompts:
        ids = chat_ids(target.tokenizer, prompt)
        found = generate_ids(
            target, None, ids, tree=WIDE, sampling=SamplingConfig(), max_tokens=max_tokens, context=2048
        )
        texts.append(([*ids, *found.ids], len(ids)))
    return texts


def top_log_probs(port: int, ids: list[int]) -> dict[int, float]:
    """Log probabilities of llama.cpp's top tokens after a text."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    body = {"prompt": ids, "n_predict": 1, "n_probs": TOP, "temperature": 0.0, "cache_prompt": True}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    reply: Any = json.loads(connection.getresponse().read())
    connection.close()
    return {int(row["id"]): float(row["logprob"]) for row in reply["completion_probabilities"][0]["top_logprobs"]}


def merged_divergence(reference: Tensor, log_probs: dict[int, float]) -> float:
    """Divergence (nats) of one position in which the tokens without a given probability count as one."""
    ids = torch.tensor(list(log_probs))
    p, q = reference.double().log_softmax(-1)[ids], torch.tensor(list(log_probs.values()), dtype=torch.float64)
    rest_p, rest_q = (1 - p.exp().sum()).clamp(min=1e-12), (1 - q.exp().sum()).clamp(min=1e-12)
    return float((p.exp() * (p - q)).sum() + rest_p * (rest_p / rest_q).log())


class Means:
    """Mean divergence and agreement of one implementation."""

    def __init__(self) -> None:
        self._kl: list[float] = []
        self._equal: list[bool] = []

    def add(self, kl: float, *, is_equal: bool) -> None:
        self._kl.append(kl)
        self._equal.append(is_equal)

    def summary(self) -> dict[str, float]:
        count = len(self._kl)
        ordered = sorted(self._kl)
        return {
            "mean_kl_nats": sum(self._kl) / count,
            "p99_kl_nats": ordered[min(count - 1, count * 99 // 100)],
            "top1_agreement": sum(self._equal) / count,
            "num_positions": count,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="asset name or GGUF file")
    parser.add_argument("--prompts", default="", help="prompt file; the built-in prompts by default")
    parser.add_argument("--max-prompts", type=int, default=80)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--llama-server", default="", help="path of a llama-server binary to compare")
    parser.add_argument("--out", default="results/spec/native-quality.json")
    args = parser.parse_args()
    path = assets.fetch(args.model, Metrics(None)) if args.model in assets.ASSETS else Path(args.model)
    native = build_target(TargetConfig(model=str(path), runtime="native"), device="cpu", metrics=Metrics(None))
    found = select(load_prompts(args.prompts) if args.prompts else builtin_prompts(), args.max_prompts)
    texts = answered(native, [prompt.turns[0] for prompt in found], args.max_tokens)
    reference, port, server = float32_target(path, native), free_port(), None
    if args.llama_server:
        command = [args.llama_server, "-m", str(path), "--port", str(port), "-c", "4096", "-t", "2", "-ngl", "0"]
        server = LlamaServer("llama.cpp", [*command, "--parallel", "1", "--no-warmup"], port=port, model=path)
    whole, merged, theirs = Means(), Means(), Means()
    try:
        for ids, num_prompt in texts:
            answer = slice(num_prompt - 2, -1)
            exact, ours = (torch.cat(list(text_logits(target, ids)))[answer] for target in (reference, native))
            for kl, is_equal in zip(*compare_logits(exact, ours), strict=True):
                whole.add(float(kl), is_equal=bool(is_equal))
            for at in range(0, len(exact), EVERY) if server else ():
                log_probs = top_log_probs(port, ids[: num_prompt + at])
                best, mine = int(exact[at].argmax()), ours[at].log_softmax(-1)
                top = max(log_probs, key=log_probs.__getitem__)
                theirs.add(merged_divergence(exact[at], log_probs), is_equal=top == best)
                given = {token: float(mine[token]) for token in log_probs}
                merged.add(merged_divergence(exact[at], given), is_equal=int(mine.argmax()) == best)
    finally:
        if server:
            server.close()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    report: dict[str, Any] = {
        "model": path.name,
        "prompts": args.prompts or "built-in",
        "num_prompts": len(texts),
        "max_tokens": args.max_tokens,
        "reference": "the dequantized weights in float32, torch",
        "hardware": hardware(native.device),
        "commit": commit.stdout.strip(),
        "command": " ".join(Path(word).name if word == args.llama_server else word for word in sys.argv),
        "native": whole.summary(),
    }
    if server:
        report |= {
            f"native_top_{TOP}_every_{EVERY}": merged.summary(),
            f"llamacpp_top_{TOP}_every_{EVERY}": theirs.summary(),
        }
    Path(args.out).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
