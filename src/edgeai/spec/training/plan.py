"""The plan of `edgeai spec train --dry-run`: sizes, and an example with the tokens that count in the loss."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.core.metrics import Metrics
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.answers import check_turns
from edgeai.spec.data.batch_decoding import DecodeJob, decode_jobs
from edgeai.spec.data.conversation import Conversation, check_answers, load_conversations
from edgeai.spec.data.features import bytes_per_token
from edgeai.spec.data.prompts import Prompt, builtin_prompts
from edgeai.spec.data.training_prompts import given_prompts, opening_ids
from edgeai.spec.target.build import build_target
from edgeai.spec.target.protocol import Target, check_tokens
from edgeai.spec.training.gto.groups import root_ranges
from edgeai.spec.training.prepare import build_head, note_export, split, usable_conversations
from edgeai.spec.training.steps import plan_steps
from edgeai.spec.training.train_report import PreviewToken, TrainPlan, TreePlan

PREVIEW_TOKENS = 48


def plan(cfg: TrainConfig, *, device: str, metrics: Metrics) -> TrainPlan:
    """Plan a training run. Loads the target and generates one answer; writes only to the model cache.

    Raises:
        EdgeAIError: Training would fail with this error.
    """
    target = build_target(cfg.target, device=device, metrics=metrics, aux_layers=cfg.head.aux_layers)
    note_export(cfg.target.model, metrics)
    written = load_conversations(cfg.data.answers) if cfg.data.answers else []
    if cfg.data.answers:
        check_answers(cfg.data.answers, written, target)
    given = [] if cfg.data.answers else given_prompts(cfg.data, metrics)
    check_turns(target.tokenizer, given)
    if cfg.data.self_prompt and not cfg.data.answers:
        opening_ids(target.tokenizer)
    example = written[0] if written else _example(target, given[0] if given else builtin_prompts()[0])
    head, _ = build_head(cfg, target, [example])
    target = target.with_aux_layers(head.shape.aux_layers)
    num_self = 0 if cfg.data.answers else cfg.data.self_prompt
    steps = count_steps(cfg)
    num_tokens = sum(len(c.ids) for c in written) or (len(given) + num_self) * cfg.data.max_len
    return TrainPlan(
        target=target.name,
        dtype=str(target.dtype).removeprefix("torch."),
        runtime=target.runtime,
        aux_layers=target.aux_layers,
        num_parameters=head.num_parameters(),
        num_given_prompts=len(given),
        num_self_prompts=num_self,
        num_written_answers=len(written),
        max_feature_bytes=num_tokens * bytes_per_token(target) if cfg.data.features == "cached" else 0,
        num_token_steps=steps[0] if steps else None,
        num_gto_steps=steps[1] if steps else None,
        trees=None if cfg.phase == "tokens" else plan_trees(cfg, written or [_longest_text(cfg)]),
        example=tuple(preview(target, example)),
    )


def count_steps(cfg: TrainConfig) -> tuple[int, int] | None:
    """Return the optimizer steps of the token phase and of GTO; None if the text is not written yet.

    Raises:
        UsageError: The answers cannot be used.
    """
    if cfg.data.answers is None or not cfg.data.answers.exists():
        return None
    train, _ = split(usable_conversations(cfg.data.answers), cfg.data.val_frac)
    steps = plan_steps(cfg, train)
    num_gto = sum(step.is_gto for step in steps)
    return len(steps) - num_gto, num_gto


def plan_trees(cfg: TrainConfig, texts: Sequence[Conversation]) -> TreePlan:
    """Return the work of GTO on these texts."""
    gto = cfg.gto
    rooms = [sum(len(run) // gto.group_size for run in root_ranges(text, len(text.ids))) for text in texts]
    num_places = sum(min(room, gto.groups) for room in rooms) * gto.group_size / len(texts)
    num_nodes = num_places * (gto.tree.nodes + 1)
    length = sum(len(text.ids) for text in texts) / len(texts)
    return TreePlan(
        places=num_places,
        nodes=num_nodes,
        max_nodes=2 * num_nodes,
        work=gto.text_frac * (1 + num_nodes / length),
        max_work=gto.text_frac * (1 + 2 * num_nodes / length),
    )


def _longest_text(cfg: TrainConfig) -> Conversation:
    length = cfg.data.max_len
    return Conversation("longest", (0,) * length, ((length - cfg.data.max_answer_tokens, length),), 0.0)


def preview(target: Target, conversation: Conversation) -> list[PreviewToken]:
    """Return the tokens of a conversation as text; those written by the target count in the loss."""
    inside = {t for begin, end in conversation.answers for t in range(begin, end)}
    decode = target.tokenizer.decode
    return [PreviewToken(decode([t], keep_special=True), i in inside) for i, t in enumerate(conversation.ids)]


def _example(target: Target, prompt: Prompt) -> Conversation:
    """Return one prompt answered greedily."""
    text = target.tokenizer.render(prompt.messages([]), open_answer=True)
    ids = tuple(target.tokenizer.encode_chat(text))
    check_tokens(target, ids)
    answer: list[int] = []
    job = DecodeJob(0, ids, PREVIEW_TOKENS, 0.0, (0,))
    decode_jobs(target, [job], batch=1, on_done=lambda _, new: answer.extend(new))
    return Conversation("example", (*ids, *answer), ((len(ids), len(ids) + len(answer)),), 0.0)
