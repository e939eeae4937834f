"""Conversion of HTTP requests to engine jobs: chat template, token ids, sampling options and checks."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import replace

from edgeai.core.errors import UsageError
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constraint import Grammar
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.jobs.answer_grammar import chat_grammar, completion_grammar
from edgeai.spec.serve.http.jobs.served_model import ServedModel, check_model
from edgeai.spec.serve.http.messages.message_schema import messages_for_template
from edgeai.spec.serve.http.request_schema import MAX_CHOICES, ChatRequest, CompletionRequest, GenerationRequest
from edgeai.spec.target.protocol import ChatTemplateError


def chat_jobs(
    served: ServedModel, body: ChatRequest, *, param: str = "messages", constraint_param: str | None = None
) -> list[GenerationJob]:
    """Return one job for each of the `n` answers.

    Args:
        served: The served model.
        body: The request.
        param: Name of the messages in the request, for errors.
        constraint_param: Name of the field that constrains the answer, for errors; None for the name in `body`.

    Raises:
        ApiError: The request names another model, the chat template refuses the messages, or the prompt does not fit
            the context.
    """
    check_model(served, body.model)
    _check_tools(served, body, param)
    messages = messages_for_template(body.messages)
    tools = [function.for_template() for function in body.functions]
    tokenizer = served.tokenizer
    if body.chat_template_kwargs:
        try:
            tokenizer = tokenizer.with_template_values(body.chat_template_kwargs)
        except UsageError as error:
            raise ApiError(400, error.message, param="chat_template_kwargs", code="invalid_value") from error
    try:
        ids = tokenizer.encode_chat(
            tokenizer.render(messages, open_answer=True, tools=tools)
            if tools
            else tokenizer.render(messages, open_answer=True)
        )
    except ChatTemplateError as error:
        raise ApiError(400, error.message, param=param, code="invalid_value") from error
    max_tokens = body.max_completion_tokens or body.max_tokens
    grammar = chat_grammar(served, body, ids, param=constraint_param or body.constraint_param)
    return _choices(served, body, ids, max_tokens, body.num_logprobs, grammar, param=param)


def completion_jobs(served: ServedModel, body: CompletionRequest) -> list[GenerationJob]:
    """Return `n` jobs for each prompt, in the order of the choices.

    Raises:
        ApiError: The request names another model, a prompt does not fit the context, or a token id is unknown.
    """
    check_model(served, body.model)
    if not body.prompts:
        raise ApiError(400, "prompt: empty list", param="prompt", code="invalid_value")
    if len(body.prompts) * (body.n or 1) > MAX_CHOICES:
        raise ApiError(400, f"at most {MAX_CHOICES} answers per request", param="prompt", code="invalid_value")
    jobs = []
    grammar = completion_grammar(served, body)
    for prompt in body.prompts:
        ids = served.tokenizer.encode_raw(prompt) if isinstance(prompt, str) else prompt
        jobs += _choices(served, body, ids, body.max_tokens, body.num_logprobs, grammar, param="prompt")
    return jobs


def _check_tools(served: ServedModel, body: ChatRequest, param: str) -> None:
    """Check that the chat template has what the request needs: templates silently drop what they do not know.

    Raises:
        ApiError: It lacks tools or calls.
    """
    if body.functions and served.tool_format is None:
        raise ApiError(
            400,
            "tools: this model's chat template has no tools in a known format; see the server's option tool_parser",
            param="tools",
            code="unsupported_parameter",
        )
    if any(message.has_tools for message in body.messages) and "tool_calls" not in (
        served.tokenizer.chat_template or ""
    ):
        raise ApiError(
            400,
            f"{param}: this model's chat template has no tool calls",
            param=param,
            code="unsupported_parameter",
        )


def _choices(
    served: ServedModel,
    body: GenerationRequest,
    ids: list[int],
    max_tokens: int | None,
    num_logprobs: int | None,
    grammar: Grammar | None,
    *,
    param: str,
) -> list[GenerationJob]:
    _check_tokens(served, ids, param=param)
    room = _room(served, ids, max_tokens, param=param)
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    _check_tokens(served, bias, param="logit_bias")
    stop_ids = frozenset(body.stop_token_ids or ())
    _check_tokens(served, stop_ids, param="stop_token_ids")
    job = GenerationJob(
        prompt_ids=tuple(ids),
        max_tokens=room if max_tokens is None else max_tokens,
        sampling=_sampling(body),
        stop=body.stops,
        stop_ids=stop_ids,
        speculates=body.speculative != "off",
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=bias,
        num_logprobs=num_logprobs,
        echoes=isinstance(body, CompletionRequest) and bool(body.echo),
        grammar=grammar,
    )
    return [job, *(replace(job, sampling=_reseeded(job.sampling, choice)) for choice in range(1, body.n or 1))]


def _check_tokens(served: ServedModel, ids: Iterable[int], *, param: str) -> None:
    """Check that the embedding has every token; a tokenizer may know more of them."""
    if any(not 0 <= token < served.vocab_size for token in ids):
        raise ApiError(
            400,
            f"{param}: token ids must be between 0 and {served.vocab_size - 1}",
            param=param,
            code="invalid_value",
        )


def _room(served: ServedModel, ids: list[int], max_tokens: int | None, *, param: str) -> int:
    """Return the number of tokens that the context leaves for the answer, after checking that it is enough."""
    if not ids:
        raise ApiError(400, f"{param}: empty text", param=param, code="invalid_value")
    room = served.context - len(ids)
    if room < (1 if max_tokens is None else max_tokens):
        # OpenAI's sentences, by which clients such as LiteLLM recognize the error
        requested = f"your {param} resulted in {len(ids)} tokens"
        if max_tokens:
            total = len(ids) + max_tokens
            requested = f"you requested {total} tokens ({len(ids)} in the {param}, {max_tokens} in the completion)"
        raise ApiError(
            400,
            f"This model's maximum context length is {served.context} tokens. However, {requested}. "
            f"Please reduce the length of the {param} or completion.",
            param=param,
            code="context_length_exceeded",
        )
    return room


def _sampling(body: GenerationRequest) -> SamplingConfig:
    """Return the sampling options with OpenAI's defaults; a request without a seed gets a random one."""
    return SamplingConfig(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(body.top_k or 0, 0),
        min_p=body.min_p or 0.0,
        seed=secrets.randbits(62) if body.seed is None else body.seed,
    )


def _reseeded(sampling: SamplingConfig, choice: int) -> SamplingConfig:
    """Derive the seed of a further answer; the first answer has the requested seed."""
    digest = hashlib.sha256(f"{sampling.seed}:{choice}".encode()).digest()
    return sampling.model_copy(update={"seed": int.from_bytes(digest[:7], "big")})
