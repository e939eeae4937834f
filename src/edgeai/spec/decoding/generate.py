"""`edgeai spec generate`: answer prompts with plain or speculative decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.generate import GenerateConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constraint import ConstraintError, Grammar
from edgeai.spec.constraints.grammar import GrammarCompiler, GrammarSource
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.decoding.decode import check_room, generate_ids
from edgeai.spec.decoding.generation import GenerateReport, TreeChoice
from edgeai.spec.decoding.tree_tuning import WIDE, tune
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.drafter import Drafter
from edgeai.spec.target.build import build_target
from edgeai.spec.target.protocol import Target, Tokenizer, check_tokens

OnText = Callable[[int, str], None]


def run_generate(
    cfg: GenerateConfig, run: Run, prompts: Sequence[str | Prompt], *, on_text: OnText | None = None
) -> GenerateReport:
    """Answer every prompt as the user's turn of a chat.

    Args:
        cfg: Configuration of the run.
        run: Run with its device and metrics.
        prompts: User turns, one chat each; a prompt of a file brings its system prompt, its first turn is used.
        on_text: Callback for the number of the prompt and each new piece of text.

    Raises:
        EdgeAIError: The model or the head cannot be loaded.
        UsageError: A prompt does not fit the context, or the JSON schema cannot be read or compiled; this is checked
            before anything is generated.
    """
    schema = _read_schema(cfg.json_schema) if cfg.json_schema else None
    target = build_target(cfg.target, device=run.device, metrics=run.metrics)
    drafter = build_drafter(cfg.draft, target, run.metrics)
    return answer_prompts(cfg, target, drafter, prompts, metrics=run.metrics, on_text=on_text, json_schema=schema)


def answer_prompts(
    cfg: GenerateConfig,
    target: Target,
    drafter: Drafter | None,
    prompts: Sequence[str | Prompt],
    *,
    metrics: Metrics,
    on_text: OnText | None = None,
    json_schema: str | None = None,
) -> GenerateReport:
    """Answer every prompt with a loaded target and drafter.

    Args:
        cfg: Tree, sampling and limits; its target, draft and JSON schema are not read.
        target: Loaded target.
        drafter: Loaded drafter; None for plain decoding.
        prompts: User turns, one chat each; a prompt of a file brings its system prompt, its first turn is used.
        metrics: Receiver of progress.
        on_text: Called with the number of the prompt and each new piece of text.
        json_schema: JSON schema that every answer follows; None for free text.

    Raises:
        UsageError: A prompt does not fit the context, or the JSON schema cannot be compiled; this is checked before
            anything is generated.
    """
    grammar = _compile_schema(target, json_schema) if json_schema is not None else None
    encoded = [chat_ids(target.tokenizer, prompt, cfg.system) for prompt in prompts]
    for ids in encoded:
        check_tokens(target, ids)
        check_room(target, len(ids), cfg.context)
    drafter, tree, choice = settle_tree(cfg.tree, target, drafter, cfg.sampling, metrics)
    answers = []
    for number, ids in enumerate(encoded):
        metrics.progress("answering", number, len(encoded), unit="prompt")
        answer = generate_ids(
            target,
            drafter,
            ids,
            tree=tree,
            sampling=cfg.sampling,
            max_tokens=cfg.max_tokens,
            context=cfg.context,
            on_tokens=_TextStream(target.tokenizer, number, on_text) if on_text else None,
            grammar=grammar,
        )
        answers.append(answer)
    metrics.progress("answering", len(encoded), len(encoded), unit="prompt")
    return GenerateReport(
        prompts=tuple(prompt if isinstance(prompt, str) else prompt.turns[0] for prompt in prompts),
        answers=tuple(answers),
        runtime=target.runtime,
        drafter=drafter.name if drafter else "none",
        tree=tree if drafter else None,
        choice=choice,
    )


def _read_schema(path: Path) -> str:
    """Return the text of a file with a JSON schema.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"json_schema: cannot read {path}: {reason}", hint="give a file with a JSON schema") from error


def _compile_schema(target: Target, text: str) -> Grammar:
    try:
        return GrammarCompiler(target.tokenizer, target.shape.vocab_size).compile(GrammarSource("json_schema", text))
    except ConstraintError as error:
        raise UsageError(f"json_schema: {error.message}", hint="correct the JSON schema") from error


def chat_ids(tokenizer: Tokenizer, prompt: str | Prompt, system: str = "") -> list[int]:
    """Return the token ids of a one-turn chat up to the start of the answer.

    Args:
        tokenizer: Tokenizer with the chat template.
        prompt: User turn, or a prompt of a file, of which the first turn is used.
        system: System prompt of a chat that has none of its own; empty keeps the template's default.
    """
    if isinstance(prompt, str):
        prompt = Prompt("", "", (prompt,))
    messages = replace(prompt, system=prompt.system or system).messages([])
    return tokenizer.encode_chat(tokenizer.render(messages, open_answer=True))


def settle_tree(
    tree: TreeConfig | Literal["auto"],
    target: Target,
    drafter: Drafter | None,
    sampling: SamplingConfig,
    metrics: Metrics,
) -> tuple[Drafter | None, TreeConfig, TreeChoice | None]:
    """Choose the tree for `auto`, or plain decoding if no tree is faster.

    Returns:
        The drafter (None for plain decoding), its tree, and the outcome of `auto`.
    """
    if drafter is None:
        return None, WIDE, None
    if tree != "auto":
        return drafter, tree, None
    choice = tune(target, drafter, sampling=sampling, metrics=metrics)
    return (drafter, choice.tree, choice) if choice.tree else (None, WIDE, choice)


class _TextStream:
    """Converts new tokens to text and holds back text that may still change, such as a partial character."""

    def __init__(self, tokenizer: Tokenizer, number: int, on_text: OnText) -> None:
        self._tokenizer = tokenizer
        self._number = number
        self._on_text = on_text
        self._ids: list[int] = []
        self._shown = ""

    def __call__(self, tokens: Sequence[int]) -> None:
        self._ids.extend(tokens)
        text = self._tokenizer.decode(self._ids)
        if text.endswith("\ufffd") or len(text) <= len(self._shown):
            return
        self._on_text(self._number, text[len(self._shown) :])
        self._shown = text
