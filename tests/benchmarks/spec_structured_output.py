"""Structured output on a real model: validity, equality to plain decoding, speed, and accept_len in five ways.

    python tests/benchmarks/spec_structured_output.py --out results/spec/structured-output.json

Every JSON schema of the suite of `tests/unit/spec/serve/engine/schemas.py`, or a part of them, is answered greedily:
without a constraint (plain, and with the draft head), and constrained (plain; with the head, its tree pruned; the same
with the tokens that the grammar forces; and with the forced tokens alone). Answers are stored below --work as they
come, and the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import torch
from torch import Tensor

from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.constraints.constraint import Constraint, Grammar
from edgeai.spec.constraints.grammar import GrammarCompiler, GrammarSource
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.decoding.tree_tuning import tune
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.draft.tree import DraftTree, root_only
from edgeai.spec.evaluation.bench.machine import hardware
from edgeai.spec.target.build import build_target
from edgeai.spec.target.protocol import Target

sys.path.append(str(Path(__file__).parents[1] / "unit" / "spec" / "serve" / "engine"))
from schemas import SCHEMAS

MAX_TOKENS = 200
FREE = ("free plain", "free head")
CONSTRAINED = ("plain", "head", "head and forced", "forced")


class Unforced:
    """A grammar whose forced tokens are not known to the drafting."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    def start(self) -> Constraint:
        constraint = self._grammar.start()
        constraint.forced = list  # type: ignore[method-assign]
        return constraint


class NothingDrafted:
    """A drafter without drafts."""

    name, aux_layers, vocabulary = "none", (), None

    def start(self, ids: Sequence[int], features: Tensor) -> None: ...

    def propose(self, root: int, tree: TreeConfig) -> DraftTree:
        return root_only(root)

    def accept(self, tokens: Sequence[int], features: Tensor) -> None: ...


def answers(target: Target, head: Drafter, tree: TreeConfig, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the answers to one schema by the way of decoding."""
    compiler = GrammarCompiler(target.tokenizer, target.shape.vocab_size)
    grammar = compiler.compile(GrammarSource("json_schema", json.dumps(schema)))
    question = f"Write an example as JSON that follows this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
    ids = chat_ids(target.tokenizer, question)
    ways: dict[str, tuple[Drafter | None, Grammar | None]] = {
        "free plain": (None, None),
        "free head": (head, None),
        "plain": (None, grammar),
        "head": (head, Unforced(grammar)),
        "head and forced": (head, grammar),
        "forced": (NothingDrafted(), grammar),
    }
    found = {}
    for way, (drafter, chosen) in ways.items():
        answer = generate_ids(
            target,
            drafter,
            ids,
            tree=tree,
            sampling=SamplingConfig(),
            max_tokens=MAX_TOKENS,
            context=2048,
            grammar=chosen,
        )
        found[way] = {
            "ids": answer.ids,
            "text": answer.text,
            "is_finished": answer.finish_reason == "stop",
            "is_valid": answer.finish_reason == "stop" and is_valid(answer.text, schema),
            "num_emitted": sum(answer.accept_counts),
            "num_cycles": answer.num_cycles,
            "decode_s": answer.decode_s,
        }
    return found


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is JSON that is valid by a schema, formats included."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(value)


def summary(rows: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return sums over the answers by the way of decoding."""
    found = {}
    for way in (*FREE, *CONSTRAINED):
        parts = [row[way] for row in rows]
        reference = "free plain" if way in FREE else "plain"
        cycles = sum(part["num_cycles"] for part in parts)
        emitted = sum(part["num_emitted"] for part in parts)
        found[way] = {
            "num_answers": len(parts),
            "num_finished": sum(part["is_finished"] for part in parts),
            "num_valid": sum(part["is_valid"] for part in parts),
            "num_equal_to_plain": sum(row[way]["ids"] == row[reference]["ids"] for row in rows),
            "num_tokens": sum(len(part["ids"]) for part in parts),
            "accept_len": emitted / cycles,
            "tokens_per_s": emitted / sum(part["decode_s"] for part in parts),
        }
    return found


def main() -> None:
    """Answer all schemas and write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="auto", help="float32 runs on torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--every", type=int, default=1, help="of the 200 schemas, take every n-th")
    parser.add_argument("--work", type=Path, default=Path("runs/structured-output.jsonl"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    metrics = Metrics(None)
    target = build_target(TargetConfig(model=args.model, dtype=args.dtype), device=args.device, metrics=metrics)
    head = build_drafter(Eagle3Draft(), target, metrics)
    assert head is not None
    target = target.with_aux_layers(head.aux_layers)
    args.work.parent.mkdir(parents=True, exist_ok=True)
    lines = args.work.read_text().splitlines() if args.work.exists() else []
    if lines:
        tree = TreeConfig(**json.loads(lines[0]))
    else:
        tree = tune(target, head, sampling=SamplingConfig(), metrics=metrics).best
    rows = [json.loads(line) for line in lines[1:]]
    with args.work.open("a") as file:
        if not lines:
            file.write(json.dumps(tree.model_dump()) + "\n")
        for schema in SCHEMAS[:: args.every][len(rows) :]:
            rows.append(answers(target, head, tree, schema))
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            print(f"{len(rows)} schemas", file=sys.stderr)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    document = {
        "model": target.name,
        "runtime": target.runtime,
        "dtype": str(target.dtype).removeprefix("torch."),
        "tree": tree.model_dump(),
        "max_tokens": MAX_TOKENS,
        "hardware": hardware(target.device),
        "llguidance": importlib.metadata.version("llguidance"),
        "commit": commit,
        "command": " ".join(["tests/benchmarks/spec_structured_output.py", *sys.argv[1:]]),
        "ways": summary(rows),
    }
    args.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["ways"], indent=2))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
