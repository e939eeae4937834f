"""Training text: the target itself writes every answer, and on request the prompts too.

A draft head learns the distribution of its target, so text by anyone else teaches it the wrong thing. Answers are
decoded in a continuous batch, appended to a JSONL file as they finish, and taken from there by a later run.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.train import DataConfig
from edgeai.spec.data.prompts import Prompt, load_prompts, select
from edgeai.spec.target.protocol import Target, Tokenizer

MIN_PROMPT_CHARS = 8
_SENTINEL = "\u2063user\u2063"
_ANSWER = "\u2063answer\u2063"  # stands for an answer while a template is rendered
PROMPT_TEMPERATURE = 0.8  # at 1.0 a small model's prompts drift into noise, lower ones repeat each other


@dataclass(frozen=True)
class Conversation:
    """One training sequence."""

    id: str
    ids: tuple[int, ...]
    """Token ids of the whole conversation, template included."""
    answers: tuple[tuple[int, int], ...]
    """Half-open ranges of `ids` that the target wrote: only these count in the loss."""
    temperature: float

    def to_json(self) -> str:
        """One JSONL line."""
        record = {"id": self.id, "temperature": self.temperature, "answers": self.answers, "ids": self.ids}
        return json.dumps(record, separators=(",", ":"))

    @property
    def num_answer_tokens(self) -> int:
        """Tokens the target wrote."""
        return sum(end - begin for begin, end in self.answers)


@dataclass(frozen=True)
class Job:
    """One sequence to be continued."""

    key: int
    prompt: tuple[int, ...]
    max_new: int
    temperature: float
    seed: tuple[int, ...]


def decode_jobs(target: Target, jobs: Sequence[Job], *, batch: int, on_done: Callable[[Job, list[int]], None]) -> None:
    """Continue many sequences at once; a finished one hands its place to the next.

    Each sequence draws from its own generator, so its text does not depend on who shares the batch (up to rounding).

    Args:
        target: Writes the text.
        jobs: Taken shortest first.
        batch: Sequences decoded together.
        on_done: Called with the job and its new tokens (the end token included if there was one).
    """
    if not jobs:
        return
    # neighbours of equal length waste least attention
    waiting = sorted(jobs, key=lambda job: len(job.prompt) + job.max_new)
    capacity = max(len(job.prompt) + job.max_new for job in waiting) + 1
    batch = min(batch, len(waiting))
    cache = target.new_cache(capacity, batch)
    slots: list[Job | None] = [None] * batch
    written: list[list[int]] = [[] for _ in range(batch)]
    draws = [np.random.default_rng(0)] * batch
    tokens = torch.zeros(batch, dtype=torch.long, device=target.device)

    while waiting or any(slots):
        logits_of: dict[int, Tensor] = {}
        for row in range(batch):
            if slots[row] is None and waiting:
                job = waiting.pop(0)
                slots[row], written[row], draws[row] = job, [], np.random.default_rng(job.seed)
                cache.lengths[row] = 0
                logits_of[row] = target.prefill(job.prompt, cache, row).logits[0]
        if logits_of:
            _choose(list(logits_of), torch.stack(list(logits_of.values())), slots, draws, tokens, written)
        active = _finish(target.tokenizer, slots, written, on_done)
        if not waiting and 2 * sum(active) <= len(slots):
            rows = [row for row, is_active in enumerate(active) if is_active]
            cache.shrink(rows)
            slots, written, draws = [slots[r] for r in rows], [written[r] for r in rows], [draws[r] for r in rows]
            tokens, active, batch = tokens[rows], [True] * len(rows), len(rows)
        if any(active):
            logits = target.decode(tokens, cache, active)
            rows = [row for row, is_active in enumerate(active) if is_active]
            _choose(rows, logits[rows], slots, draws, tokens, written)
            _finish(target.tokenizer, slots, written, on_done)


def _choose(
    rows: Sequence[int],
    logits: Tensor,
    slots: Sequence[Job | None],
    draws: Sequence[np.random.Generator],
    tokens: Tensor,
    written: list[list[int]],
) -> None:
    """Pick the next token of these rows: argmax at temperature 0, else by inverse CDF from one uniform draw a row."""
    temperatures = torch.tensor([job.temperature for row in rows if (job := slots[row])], device=logits.device)
    chosen = logits.argmax(-1)
    warm = temperatures > 0
    if bool(warm.any()):
        uniform = torch.tensor([draws[row].random() for row, is_warm in zip(rows, warm, strict=True) if is_warm])
        cdf = (logits[warm] / temperatures[warm, None]).softmax(-1).cumsum(-1)
        point = uniform.to(logits.device, cdf.dtype)[:, None] * cdf[:, -1:]
        chosen[warm] = torch.searchsorted(cdf, point).squeeze(1).clamp_(max=logits.shape[-1] - 1)
    tokens[list(rows)] = chosen
    for row, token in zip(rows, chosen.tolist(), strict=True):
        written[row].append(token)


def _finish(
    tokenizer: Tokenizer,
    slots: list[Job | None],
    written: list[list[int]],
    on_done: Callable[[Job, list[int]], None],
) -> list[bool]:
    """Hand out finished sequences and free their rows; returns which rows go on."""
    for row, job in enumerate(slots):
        if job and (len(written[row]) >= job.max_new or written[row][-1] in tokenizer.eos_ids):
            slots[row] = None
            on_done(job, written[row])
    return [job is not None for job in slots]


# --------------------------------------------------------------------------------------------------------------------
# From prompts to conversations


def write_conversations(
    target: Target, config: DataConfig, *, path: Path, seed: int, metrics: Metrics
) -> list[Conversation]:
    """Collect prompts, let the target answer them, and keep the result in `path`.

    Conversations already in the file are not written again, so an interrupted run goes on where it was.

    Args:
        target: Writes prompts (if asked to) and answers.
        config: Where prompts come from and how answers are sampled.
        path: JSONL file, appended to.
        seed: Together with a conversation's number it decides every draw.
        metrics: Receives progress.

    Returns:
        All conversations in a fixed order.

    Raises:
        UsageError: There is not one usable prompt, or `data.max_len` is more than the target takes.
        EdgeAIError: The disk is full; what was written stays.
    """
    if config.max_len > target.shape.max_positions:
        raise UsageError(
            f"data.max_len {config.max_len} is more than the {target.shape.max_positions} tokens {target.name} takes",
            hint=f"set data.max_len to {target.shape.max_positions} or less",
        )
    prompts = given_prompts(config)
    if config.self_prompt:
        prompts += _self_prompts(target, config, path.with_name("prompts.jsonl"), seed, metrics)
    done = {c.id: c for c in (load_conversations(path) if path.exists() else [])}
    store = _Store(path, done, total=len(prompts), metrics=metrics)
    todo = [(number, prompt) for number, prompt in enumerate(prompts) if prompt.id not in done]
    open_turns = {
        number: Conversation(prompt.id, (), (), config.temperatures[number % len(config.temperatures)])
        for number, prompt in todo
    }
    texts = dict(todo)
    turn = 0
    while open_turns:
        jobs = []
        for number, conversation in list(open_turns.items()):
            prompt_ids = _next_prompt(target.tokenizer, conversation, texts[number].turns, turn)
            if len(prompt_ids) + config.max_answer_tokens > config.max_len:
                store.add(open_turns.pop(number))
                continue
            draw = (seed, number, turn)
            jobs.append(Job(number, prompt_ids, config.max_answer_tokens, conversation.temperature, draw))

        def on_done(job: Job, new: list[int]) -> None:
            conversation = open_turns[job.key]
            span = (len(job.prompt), len(job.prompt) + len(new))
            grown = replace(conversation, ids=(*job.prompt, *new), answers=(*conversation.answers, span))
            open_turns[job.key] = grown
            if len(texts[job.key].turns) == len(grown.answers):
                store.add(open_turns.pop(job.key))

        decode_jobs(target, jobs, batch=config.batch, on_done=on_done)
        turn += 1
    conversations = [store.done[p.id] for p in prompts if store.done[p.id].answers]
    if not conversations:
        raise UsageError(
            "no prompt leaves room for an answer",
            hint=f"raise data.max_len ({config.max_len}) or lower data.max_answer_tokens ({config.max_answer_tokens})",
        )
    return conversations


def load_conversations(path: Path) -> list[Conversation]:
    """Read a file of `write_conversations`, gzipped or not. A torn last line (the writer was killed) is dropped.

    Raises:
        UsageError: Missing file, or a line that is no conversation.
    """
    if not path.is_file():
        raise UsageError(f"no such answers file: {path}", hint="leave data.answers empty to let the target write them")
    found = []
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UsageError(f"cannot read {path}: {error}", hint="write the file with `edgeai spec train`") from error
    lines = data.decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(_from_record(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}:{number}: no conversation: {error}", hint="write the file with `edgeai spec train`"
            ) from error
    return found


def _from_record(record: Any) -> Conversation:
    ids = tuple(map(int, record["ids"]))
    spans = tuple((int(begin), int(end)) for begin, end in record["answers"])
    if not all(0 <= begin < end <= len(ids) for begin, end in spans):
        raise ValueError(f"an answer lies outside of the {len(ids)} tokens")
    return Conversation(str(record["id"]), ids, spans, float(record["temperature"]))


def check_fit(path: Path, conversations: Sequence[Conversation], target: Target) -> None:
    """Refuse text that this target cannot have written.

    Raises:
        UsageError: A conversation is too long for the target or holds tokens that it does not have.
    """
    hint = "give answers written by this target, or leave data.answers empty to let it write them"
    for conversation in conversations:
        length, highest = len(conversation.ids), max(conversation.ids, default=0)
        if length > target.shape.max_positions:
            raise UsageError(
                f"{path}: {conversation.id} has {length} tokens, {target.name} takes {target.shape.max_positions}",
                hint=hint,
            )
        if highest >= target.shape.vocab_size:
            raise UsageError(
                f"{path}: {conversation.id} holds token {highest}, {target.name} has {target.shape.vocab_size} tokens",
                hint=hint,
            )


class _Store:
    """Appends finished conversations to the JSONL file and reports progress."""

    def __init__(self, path: Path, done: dict[str, Conversation], *, total: int, metrics: Metrics) -> None:
        self.path, self.done, self.total, self.metrics = path, done, total, metrics
        self.num_tokens = sum(c.num_answer_tokens for c in done.values())
        if path.exists():  # drop a torn last line before appending, in place: a kill must not lose the others
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


def given_prompts(config: DataConfig) -> list[Prompt]:
    """Prompts of the files a config names."""
    prompts: list[Prompt] = []
    used: set[str] = set()
    for name in config.prompts:
        found = load_prompts(name)
        source = found[0].source
        while source in used:  # files of one name in several folders
            source += "+"
        used.add(source)
        prompts += (replace(p, id=f"{source}:{p.id}") for p in select(found, config.max_prompts or len(found)))
    return prompts


def _self_prompts(target: Target, config: DataConfig, path: Path, seed: int, metrics: Metrics) -> list[Prompt]:
    """Let the target write user turns; unfinished, tiny and repeated ones are dropped."""
    if path.exists():
        return list(load_prompts(path))
    opening = tuple(target.tokenizer.encode(open_user_turn(target.tokenizer)))
    room = config.max_len - config.max_answer_tokens - len(opening) - 8
    if room < 8:
        raise UsageError(
            f"data.max_len {config.max_len} leaves no room for prompts beside answers of {config.max_answer_tokens}",
            hint="raise data.max_len or lower data.max_answer_tokens",
        )
    texts: dict[int, str] = {}

    def on_done(job: Job, new: list[int]) -> None:
        finished = new[-1] in target.tokenizer.eos_ids
        texts[job.key] = target.tokenizer.decode(new).strip() if finished else ""
        metrics.progress("prompts", len(texts), config.self_prompt, unit="prompts")

    jobs = [
        Job(number, opening, room, PROMPT_TEMPERATURE, (seed, number, 1 << 20)) for number in range(config.self_prompt)
    ]
    decode_jobs(target, jobs, batch=config.batch, on_done=on_done)
    unique = dict.fromkeys(texts[number] for number in range(config.self_prompt))
    kept = [text for text in unique if len(text) >= MIN_PROMPT_CHARS]
    if not kept:
        raise UsageError(
            "the target wrote no usable prompt of its own",
            hint="give data.prompts, or raise data.self_prompt; models without a chat template seldom manage",
        )
    lines = [json.dumps({"question_id": f"self-{number}", "turns": [text]}) for number, text in enumerate(kept)]
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)
    return list(load_prompts(path))


def _next_prompt(tokenizer: Tokenizer, conversation: Conversation, turns: Sequence[str], turn: int) -> tuple[int, ...]:
    """Token ids up to the opened answer of this turn.

    Earlier answers keep the very ids that the target wrote: tokenising their text again might cut them differently.
    Only what the template puts behind the last of them is rendered.
    """
    messages: list[dict[str, str]] = []
    for text in turns[:turn]:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": _ANSWER}]
    messages.append({"role": "user", "content": turns[turn]})
    rendered = tokenizer.render(messages, open_answer=True)
    if turn == 0:
        return tuple(tokenizer.encode(rendered))
    after = tokenizer.encode(rendered.rsplit(_ANSWER, 1)[1])
    last = conversation.ids[-1]
    if last in tokenizer.eos_ids and after[0] == last:  # the target closed its answer itself
        after = after[1:]
    return (*conversation.ids, *after)


def open_user_turn(tokenizer: Tokenizer) -> str:
    """The chat template up to where the user's text begins: from here the target writes a prompt of its own."""
    text = tokenizer.render([{"role": "user", "content": _SENTINEL}], open_answer=False)
    return text.split(_SENTINEL)[0]
