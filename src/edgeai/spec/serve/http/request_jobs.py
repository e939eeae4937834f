"""Conversion of HTTP requests to engine jobs: chat template, token ids, sampling options and checks."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from edgeai.core.errors import UsageError
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.serve import ReasoningParser, ToolParser
from edgeai.spec.constraints.after_reasoning import AfterReasoning
from edgeai.spec.constraints.constraint import ConstraintError, Grammar
from edgeai.spec.constraints.grammar import GrammarCompiler, MissingLibrary
from edgeai.spec.serve.answers.reasoning import REASONING_MARKS, opens_reasoning
from edgeai.spec.serve.answers.tool_formats import ToolFormat, choose_format
from edgeai.spec.serve.engine.jobs import GenerationJob
from edgeai.spec.serve.http.errors import ApiError
from edgeai.spec.serve.http.messages.message_schema import messages_for_template
from edgeai.spec.serve.http.request_schema import MAX_CHOICES, ChatRequest, CompletionRequest, GenerationRequest
from edgeai.spec.target.protocol import ChatTemplateError, Target, Tokenizer

_NUM_LAST = 16  # tokens; enough for the opening tag and white space after it


@dataclass(frozen=True)
class ServedModel:
    """Name, tokenizer and limits of the served model."""

    name: str
    fingerprint: str
    tokenizer: Tokenizer
    vocab_size: int
    context: int
    """Most tokens of prompt and answer."""
    tool_format: ToolFormat | None = None
    """Format of the model's tool calls; None refuses tools."""
    splits_reasoning: bool = False
    """True splits off the text between <think> and </think>."""

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Compiler of grammars for this model."""
        return GrammarCompiler(self.tokenizer, self.vocab_size)

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Return True if the answer to a prompt begins inside the reasoning."""
        return opens_reasoning(self.tokenizer.decode(prompt_ids[-_NUM_LAST:], keep_special=True))

    @cached_property
    def marker_names(self) -> dict[int, str]:
        """Texts of the special tokens that mark tool calls and reasoning and have no text of their own, by token."""
        marks = self.tool_format.markers if self.tool_format else ()
        found = {}
        for mark in (*marks, *REASONING_MARKS):
            ids = self.tokenizer.encode(mark)
            if len(ids) == 1 and not self.tokenizer.decode(ids):
                found[ids[0]] = mark
        return found


def served_model(
    target: Target,
    *,
    name: str,
    context: int,
    tool_parser: ToolParser = "auto",
    reasoning_parser: ReasoningParser = "auto",
) -> ServedModel:
    """Describe a target; auto chooses the parsers by its chat template.

    Args:
        target: The model.
        name: Its name in the API.
        context: Most tokens of prompt and answer.
        tool_parser: Format of tool calls.
        reasoning_parser: Format of the reasoning.
    """
    template = target.tokenizer.chat_template
    has_tags = all(mark in (template or "") for mark in REASONING_MARKS)
    return ServedModel(
        name,
        target.fingerprint,
        target.tokenizer,
        target.shape.vocab_size,
        context,
        tool_format=choose_format(tool_parser, template),
        splits_reasoning=reasoning_parser == "think" or (reasoning_parser == "auto" and has_tags),
    )


def chat_jobs(
    served: ServedModel, body: ChatRequest, *, param: str = "messages", format_param: str | None = None
) -> list[GenerationJob]:
    """Return one job for each of the `n` answers.

    Args:
        served: The served model.
        body: The request.
        param: Name of the messages in the request, for errors.
        format_param: Name of the field with the format of the answer, for errors; None for the names of `body`.

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
    grammar = _grammar(served, body, param=format_param)
    if grammar and served.splits_reasoning:
        grammar = _after_reasoning(served, grammar, is_open=served.opens_reasoning(ids))
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
    grammar = _grammar(served, body)
    for prompt in body.prompts:
        ids = served.tokenizer.encode_raw(prompt) if isinstance(prompt, str) else prompt
        jobs += _choices(served, body, ids, body.max_tokens, body.num_logprobs, grammar, param="prompt")
    return jobs


def _check_tools(served: ServedModel, body: ChatRequest, param: str) -> None:
    """Check that the chat template has what the request needs: templates silently drop what they do not know.

    Raises:
        ApiError: It lacks tools or calls, or a call would have to be forced.
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
    if body.functions and body.tool_choice not in (None, "auto"):
        raise ApiError(
            400,
            "tool_choice: only 'auto' and 'none' are supported by this server",
            param="tool_choice",
            code="unsupported_parameter",
        )


def _grammar(served: ServedModel, body: GenerationRequest, *, param: str | None = None) -> Grammar | None:
    """Compile the grammar of a request; None for free text.

    Raises:
        ApiError: The grammar cannot be compiled, or is combined with tools.
    """
    if body.grammar_source is None:
        return None
    name, source = body.grammar_source
    name = param or name
    if isinstance(body, ChatRequest) and body.functions:
        raise ApiError(
            400,
            f"{name}: cannot be combined with tools that the model may call; set tool_choice to 'none'",
            param=name,
            code="unsupported_parameter",
        )
    try:
        return served.grammars.compile(source)
    except MissingLibrary as error:
        raise ApiError(400, f"{name}: {error.message}", param=name, code="unsupported_parameter") from error
    except ConstraintError as error:
        raise ApiError(400, f"{name}: {error.message}", param=name, code="invalid_value") from error


def _after_reasoning(served: ServedModel, grammar: Grammar, *, is_open: bool) -> Grammar:
    """Let a grammar begin after the reasoning.

    Raises:
        ApiError: The answer begins inside the reasoning, whose end is not one token.
    """
    marks = [served.tokenizer.encode(mark) for mark in REASONING_MARKS]
    if all(len(ids) == 1 for ids in marks):
        (begin_id,), (end_id,) = marks
        return AfterReasoning(grammar, begin_id, end_id, served.tokenizer.eos_ids, is_open)
    if is_open:
        raise ApiError(
            400,
            "structured output is not supported after reasoning whose end is not one token of the model",
            param="response_format",
            code="unsupported_parameter",
        )
    return grammar


def check_model(served: ServedModel, name: str) -> None:
    """Check that a request names the served model.

    Raises:
        ApiError: The request names another model.
    """
    if name != served.name:
        raise ApiError(404, f"no such model; this server serves '{served.name}'", param="model", code="model_not_found")


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
