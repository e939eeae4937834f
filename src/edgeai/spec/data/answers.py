"""Training answers: written by the target itself, and kept in a file.

A draft head learns the distribution of its target, so text from other sources is the wrong training data. Answers are
decoded in a continuous batch and appended to a JSONL file as they finish, which later runs reuse.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.train import DataConfig
from edgeai.spec.data.batch_decoding import DecodeJob, decode_jobs
from edgeai.spec.data.conversation import Conversation, load_conversations
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.data.training_prompts import given_prompts, self_prompts
from edgeai.spec.target.protocol import Target, Tokenizer, check_tokens

_ANSWER = "\u2063answer\u2063"  # placeholder for an answer while a template is rendered


def write_conversations(
    target: Target, config: DataConfig, *, path: Path, seed: int, metrics: Metrics
) -> list[Conversation]:
    """Collect prompts, let the target answer them, and append the conversations to a file.

    Conversations already in the file are not generated again, so that an interrupted run can be continued.

    Args:
        target: Target that writes the answers and, if configured, prompts.
        config: Source of the prompts and sampling of the answers.
        path: JSONL file to append to.
        seed: Seed of the run; each conversation's generator is seeded with it and the conversation's number.
        metrics: Receiver of progress.

    Returns:
        All conversations in a fixed order.

    Raises:
        UsageError: There is no usable prompt, `data.max_len` exceeds the target's limit, or a prompt has turns that
            cannot follow each other.
        EdgeAIError: The disk is full; conversations written so far are kept.
    """
    if config.max_len > target.shape.max_positions:
        raise UsageError(
            f"data.max_len {config.max_len} exceeds the {target.shape.max_positions} tokens that {target.name} allows",
            hint=f"set data.max_len to {target.shape.max_positions} or less",
        )
    prompts = given_prompts(config, metrics)
    check_turns(target.tokenizer, prompts)
    if config.self_prompt:
        prompts += self_prompts(target, config, path.with_name("prompts.jsonl"), seed, metrics)
    done = {c.id: c for c in (load_conversations(path) if path.exists() else [])}
    store = _Store(path, done, total=len(prompts), metrics=metrics)
    _write_missing(target, config, prompts, store, seed)
    conversations = [store.done[p.id] for p in prompts if store.done[p.id].answers]
    if not conversations:
        raise UsageError(
            "no prompt leaves room for an answer",
            hint=f"raise data.max_len ({config.max_len}) or lower data.max_answer_tokens ({config.max_answer_tokens})",
        )
    return conversations


def check_turns(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> None:
    """Check that the chat template keeps earlier answers, if there are prompts of several turns.

    Raises:
        UsageError: It drops them, so that no further turn can follow.
    """
    for prompt in prompts:
        if len(prompt.turns) > 1:
            _render(tokenizer, prompt, 1)
            return


def _render(tokenizer: Tokenizer, prompt: Prompt, turn: int) -> str:
    """Return the template up to the start of the answer of this turn, with placeholders for earlier answers."""
    rendered = tokenizer.render(prompt.messages([_ANSWER] * turn), open_answer=True)
    if turn and _ANSWER not in rendered:
        raise UsageError(
            f"{prompt.id}: the chat template drops earlier answers, so that turn {turn + 1} cannot follow them",
            hint="give prompts of one turn",
        )
    return rendered


class _Store:
    """Appends finished conversations to the JSONL file and reports progress."""

    def __init__(self, path: Path, done: dict[str, Conversation], *, total: int, metrics: Metrics) -> None:
        self.path, self.done, self.total, self.metrics = path, done, total, metrics
        self.num_tokens = sum(c.num_answer_tokens for c in done.values())
        if (
            path.exists()
        ):  # drop an incomplete last line before appending; in place, so that a kill does not lose the others
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def add(self, conversation: Conversation) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(conversation.to_json() + "\n")
        except OSError as error:
            raise EdgeAIError(
                f"cannot write {self.path}: {error.strerror}", hint="free some space, then continue with --resume"
            ) from error
        self.done[conversation.id] = conversation
        self.num_tokens += conversation.num_answer_tokens
        self.metrics.progress("answers", len(self.done), self.total, unit="conversations", tokens=self.num_tokens)


def _write_missing(target: Target, config: DataConfig, prompts: Sequence[Prompt], store: _Store, seed: int) -> None:
    """Let the target answer the prompts that are not in the store, turn by turn."""
    todo = [(number, prompt) for number, prompt in enumerate(prompts) if prompt.id not in store.done]
    open_turns = {
        number: Conversation(prompt.id, (), (), config.temperatures[number % len(config.temperatures)])
        for number, prompt in todo
    }
    texts = dict(todo)

    def on_done(job: DecodeJob, new: list[int]) -> None:
        conversation = open_turns[job.key]
        span = (len(job.prompt), len(job.prompt) + len(new))
        grown = replace(conversation, ids=(*job.prompt, *new), answers=(*conversation.answers, span))
        open_turns[job.key] = grown
        if len(texts[job.key].turns) == len(grown.answers):
            store.add(open_turns.pop(job.key))

    turn = 0
    while open_turns:
        jobs = []
        for number, conversation in list(open_turns.items()):
            prompt_ids = _next_prompt(target.tokenizer, conversation, texts[number], turn)
            if len(prompt_ids) + config.max_answer_tokens > config.max_len:
                store.add(open_turns.pop(number))
                continue
            check_tokens(target, prompt_ids)
            draw = (seed, number, turn)
            jobs.append(DecodeJob(number, prompt_ids, config.max_answer_tokens, conversation.temperature, draw))
        decode_jobs(target, jobs, batch=config.batch, on_done=on_done)
        turn += 1


def _next_prompt(tokenizer: Tokenizer, conversation: Conversation, prompt: Prompt, turn: int) -> tuple[int, ...]:
    """Return the token ids up to the start of the answer of this turn.

    Earlier answers keep the ids written by the target, because tokenizing their text again might split it differently.
    Only the part of the template after the last of them is rendered.
    """
    rendered = _render(tokenizer, prompt, turn)
    if turn == 0:
        return tuple(tokenizer.encode_chat(rendered))
    after = tokenizer.encode(rendered.rsplit(_ANSWER, 1)[1])
    last = conversation.ids[-1]
    if last in tokenizer.eos_ids and after[:1] == [last]:  # the target wrote the end token itself
        after = after[1:]
    return (*conversation.ids, *after)
