"""What `edgeai spec train --dry-run` shows: sizes, and one example with the tokens that count in the loss marked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeai.core.metrics import Metrics
from edgeai.spec.answers import Conversation, Job, check_fit, decode_jobs, given_prompts, load_conversations
from edgeai.spec.features import bytes_per_token
from edgeai.spec.prepare import build_head
from edgeai.spec.prompts import builtin_prompts
from edgeai.spec.schema import TrainConfig
from edgeai.spec.target import DecoderTarget, load_target

PREVIEW_TOKENS = 48


@dataclass(frozen=True)
class PreviewToken:
    """One token of the example."""

    text: str
    in_loss: bool


@dataclass(frozen=True)
class TrainPlan:
    """What a training run would do."""

    target: str
    dtype: str
    aux_layers: tuple[int, ...]
    num_parameters: int
    num_given_prompts: int
    num_self_prompts: int
    """Upper bound: repeated and unfinished ones are dropped."""
    num_written_answers: int
    """Conversations taken from `data.answers`."""
    max_feature_bytes: int
    """Upper bound of the disk space for cached features; 0 when computed online."""
    example: tuple[PreviewToken, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def plan(cfg: TrainConfig, *, device: str, metrics: Metrics) -> TrainPlan:
    """Work out a plan. Loads the target and lets it answer one prompt; writes nothing but the model cache.

    Raises:
        EdgeAIError: As training would.
    """
    target = load_target(cfg.target, device=device, metrics=metrics, aux_layers=cfg.head.aux_layers)
    written = load_conversations(cfg.data.answers) if cfg.data.answers else []
    if cfg.data.answers:
        check_fit(cfg.data.answers, written, target)
    given = [] if cfg.data.answers else given_prompts(cfg.data)
    example = written[0] if written else _example(target, given[0].turns[0] if given else builtin_prompts()[0].turns[0])
    head, _ = build_head(cfg, target, [example])
    num_self = 0 if cfg.data.answers else cfg.data.self_prompt
    num_tokens = sum(len(c.ids) for c in written) or (len(given) + num_self) * cfg.data.max_len
    return TrainPlan(
        target=target.name,
        dtype=str(target.dtype).removeprefix("torch."),
        aux_layers=target.aux_layers,
        num_parameters=head.num_parameters(),
        num_given_prompts=len(given),
        num_self_prompts=num_self,
        num_written_answers=len(written),
        max_feature_bytes=num_tokens * bytes_per_token(target) if cfg.data.features == "cached" else 0,
        example=tuple(preview(target, example)),
    )


def preview(target: DecoderTarget, conversation: Conversation) -> list[PreviewToken]:
    """Tokens of a conversation as text; those the target wrote count in the loss."""
    inside = {t for begin, end in conversation.answers for t in range(begin, end)}
    decode = target.tokenizer.decode
    return [PreviewToken(decode([t], keep_special=True), i in inside) for i, t in enumerate(conversation.ids)]


def _example(target: DecoderTarget, prompt: str) -> Conversation:
    """One prompt answered greedily."""
    text = target.tokenizer.render([{"role": "user", "content": prompt}], open_answer=True)
    ids = tuple(target.tokenizer.encode(text))
    answer: list[int] = []
    job = Job(0, ids, PREVIEW_TOKENS, 0.0, (0,))
    decode_jobs(target, [job], batch=1, on_done=lambda _, new: answer.extend(new))
    return Conversation("example", (*ids, *answer), ((len(ids), len(ids) + len(answer)),), 0.0)
