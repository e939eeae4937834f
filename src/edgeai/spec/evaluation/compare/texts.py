"""Texts of `spec compare`: the target's answers to the prompts, written once and used for all heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeai.core.files import write_whole
from edgeai.core.metrics import Metrics
from edgeai.spec.config.compare import CompareConfig
from edgeai.spec.data.batch_decoding import DecodeJob, decode_jobs
from edgeai.spec.data.conversation import Conversation, load_conversations
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select
from edgeai.spec.decoding.decode import check_room
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.target.protocol import Target


@dataclass(frozen=True)
class TextSet:
    """The target's answers to the prompts of one benchmark at one temperature."""

    benchmark: str
    temperature: float
    num_samples: int
    """Answers per prompt."""
    answers: tuple[Conversation, ...]
    """Answers in the order of the prompts, samples of one prompt next to each other."""


def benchmarks(cfg: CompareConfig, *, on_skip: Callable[[str], None] | None = None) -> dict[str, list[Prompt]]:
    """Return the prompts of each benchmark, by name; `on_skip` is told about skipped turns."""
    found = {name: load_prompts(file, on_skip=on_skip) for name, file in cfg.prompts.items()} or {
        "built-in": builtin_prompts()
    }
    return {name: select(prompts, cfg.max_prompts) for name, prompts in found.items()}


def num_samples(cfg: CompareConfig, temperature: float) -> int:
    """Return the number of answers per prompt; one at temperature 0, where all samples would be equal."""
    return cfg.samples if temperature > 0 else 1


def write_texts(
    cfg: CompareConfig,
    target: Target,
    prompts_of: Mapping[str, Sequence[Prompt]],
    path: Path,
    metrics: Metrics,
) -> list[TextSet]:
    """Return the target's answers, read from a file if it holds all of them, else decoded and written to it.

    Args:
        cfg: Temperatures, samples and answer length.
        target: The model.
        prompts_of: Prompts of each benchmark, by name.
        path: JSONL file of the answers.
        metrics: Receives progress.

    Raises:
        UsageError: A prompt does not fit the context.
    """
    jobs: dict[str, DecodeJob] = {}
    for bench, (name, prompts) in enumerate(prompts_of.items()):
        for temperature in cfg.temperatures:
            for number, prompt in enumerate(prompts):
                ids = tuple(chat_ids(target.tokenizer, prompt))
                max_new = min(cfg.max_tokens, check_room(target, len(ids), target.shape.max_positions))
                for sample, key in enumerate(_text_ids(cfg, name, prompt, temperature)):
                    jobs[key] = DecodeJob(len(jobs), ids, max_new, temperature, (bench, number, sample))
    texts = _read_texts(path, jobs)
    if texts is None:
        texts = _decode_texts(target, jobs, path, cfg.train.data.batch, metrics)
    sets = []
    for name, prompts in prompts_of.items():
        for temperature in cfg.temperatures:
            answers = [texts[key] for prompt in prompts for key in _text_ids(cfg, name, prompt, temperature)]
            sets.append(TextSet(name, temperature, num_samples(cfg, temperature), tuple(answers)))
    return sets


def _text_ids(cfg: CompareConfig, benchmark: str, prompt: Prompt, temperature: float) -> list[str]:
    """Return the ids of the answers to one prompt, one per sample."""
    samples = range(num_samples(cfg, temperature))
    return [f"{benchmark} {prompt.id} at {temperature:g}, sample {sample}" for sample in samples]


def _read_texts(path: Path, jobs: Mapping[str, DecodeJob]) -> dict[str, Conversation] | None:
    """Return the texts of a file; None if it lacks a job's text or holds the text of another prompt."""
    found = {text.id: text for text in load_conversations(path)} if path.exists() else {}
    is_complete = all(key in found and found[key].ids[: len(job.prompt)] == job.prompt for key, job in jobs.items())
    return found if is_complete else None


def _decode_texts(
    target: Target, jobs: Mapping[str, DecodeJob], path: Path, batch: int, metrics: Metrics
) -> dict[str, Conversation]:
    keys = list(jobs)
    texts: dict[str, Conversation] = {}

    def on_done(job: DecodeJob, new: list[int]) -> None:
        span = (len(job.prompt), len(job.prompt) + len(new))
        text = Conversation(keys[job.key], (*job.prompt, *new), (span,), job.temperature)
        texts[text.id] = text
        metrics.progress("texts", len(texts), len(jobs), unit="texts")

    decode_jobs(target, list(jobs.values()), batch=batch, on_done=on_done)
    write_whole(path, "".join(texts[key].to_json() + "\n" for key in keys))
    return texts
