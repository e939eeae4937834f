"""From a request to jobs: templates, token ids, sampling, and everything that does not fit.

Also knows the served model's name and limits.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace

from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.serve.engine.jobs import Job
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.protocol import MAX_CHOICES, ChatRequest, CompletionRequest, Request
from edgeai.spec.target.target import Tokenizer


@dataclass(frozen=True)
class Served:
    """The model behind the server."""

    name: str
    fingerprint: str
    tokenizer: Tokenizer
    vocab_size: int
    context: int
    """Most tokens of prompt and answer."""


def chat_jobs(served: Served, body: ChatRequest) -> list[Job]:
    """One job for each of the `n` answers.

    Raises:
        ApiError: Another model, or the prompt does not fit.
    """
    check_model(served, body.model)
    messages = [
        {"role": "system" if message.role == "developer" else message.role, "content": message.text}
        for message in body.messages
    ]
    ids = served.tokenizer.encode(served.tokenizer.render(messages, open_answer=True))
    return _choices(
        served, body, ids, body.max_completion_tokens or body.max_tokens, body.num_logprobs, param="messages"
    )


def completion_jobs(served: Served, body: CompletionRequest) -> list[Job]:
    """`n` jobs for each prompt, in the order of the choices.

    Raises:
        ApiError: As `chat_jobs`; also token ids that the model does not have.
    """
    check_model(served, body.model)
    if not body.prompts:
        raise ApiError(400, "prompt: there is none", param="prompt", code="invalid_value")
    if len(body.prompts) * (body.n or 1) > MAX_CHOICES:
        raise ApiError(400, f"at most {MAX_CHOICES} answers to one request", param="prompt", code="invalid_value")
    jobs = []
    for prompt in body.prompts:
        ids = served.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        if any(not 0 <= token < served.vocab_size for token in ids):
            raise ApiError(
                400, f"prompt: token ids go from 0 to {served.vocab_size - 1}", param="prompt", code="invalid_value"
            )
        jobs += _choices(served, body, ids, body.max_tokens, body.num_logprobs, param="prompt")
    return jobs


def check_model(served: Served, name: str) -> None:
    """Refuse other models.

    Raises:
        ApiError: It is another.
    """
    if name != served.name:
        raise ApiError(
            404, f"there is no such model here; this server has '{served.name}'", param="model", code="model_not_found"
        )


def _choices(
    served: Served, body: Request, ids: list[int], max_tokens: int | None, num_logprobs: int | None, *, param: str
) -> list[Job]:
    if not ids:
        raise ApiError(400, f"{param}: no text", param=param, code="invalid_value")
    room = served.context - len(ids)
    if room < 1 or (max_tokens or 1) > room:
        asked = f" and {max_tokens} for the answer" if max_tokens else ""
        raise ApiError(
            400,
            f"the context holds {served.context} tokens; the prompt has {len(ids)}{asked}",
            param=param,
            code="context_length_exceeded",
        )
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    if any(token >= served.vocab_size for token in bias):
        raise ApiError(
            400, f"logit_bias: token ids go from 0 to {served.vocab_size - 1}", param="logit_bias", code="invalid_value"
        )
    seed = secrets.randbits(62) if body.seed is None else body.seed
    job = Job(
        prompt_ids=tuple(ids),
        max_tokens=max_tokens or room,
        sampling=SamplingConfig(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(body.top_k or 0, 0),
            min_p=body.min_p or 0.0,
            seed=seed,
        ),
        stop=body.stops,
        speculates=body.speculative != "off",
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=bias,
        num_logprobs=num_logprobs,
    )
    return [job, *(replace(job, sampling=_reseeded(job.sampling, choice)) for choice in range(1, body.n or 1))]


def _reseeded(sampling: SamplingConfig, choice: int) -> SamplingConfig:
    """Another stream of random numbers for every further answer; the first has the seed that was given."""
    digest = hashlib.sha256(f"{sampling.seed}:{choice}".encode()).digest()
    return sampling.model_copy(update={"seed": int.from_bytes(digest[:7], "big")})
