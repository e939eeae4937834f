"""Request fields that clients send although they change nothing here: the one list of what is accepted and ignored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

LABELS = (
    "cache_control",
    "cache_prompt",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
"""Fields that label, cache or route a request; every value is accepted."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "continue_final_message": (False,),
    "documents": ([],),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "early_stopping": (False,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "ignore_eos": (False,),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "min_tokens": (0,),
    "mirostat": (0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "priority": (0,),
    "prompt_logprobs": (),
    "reasoning": ({"enabled": False},),
    "reasoning_effort": ("none",),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "suffix": ("",),
    "tfs_z": (1,),
    "thinking": (False, {"type": "disabled"}),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_a": (0,),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
    "xtc_probability": (0,),
}
"""Fields of features that this server or one of its endpoints lacks, with the values that ask for nothing; null asks
for nothing as well."""


NEUTRAL_IN_RESPONSES: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "include": ([], ["reasoning.encrypted_content"]),
    "max_tool_calls": (),
    "moderation": (),
    "previous_response_id": (),
    "prompt": (),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
"""The same for /v1/responses."""

REASONS = dict.fromkeys(
    ("conversation", "previous_response_id"),
    ", which stores no responses: send the whole conversation as 'input'",
)
"""What the refusal of a field says besides its name."""


def unsupported_field(
    data: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]], supported: Collection[str]
) -> str | None:
    """Return the first field that asks for a feature that the endpoint lacks; None if there is none.

    Args:
        data: The request.
        neutral: Fields of such features, with the values that ask for nothing.
        supported: Fields that the endpoint supports.
    """
    for name, values in neutral.items():
        if (
            name not in supported
            and data.get(name) is not None
            and not any(_equal(data[name], value) for value in values)
        ):
            return name
    best_of = data.get("best_of")
    return "best_of" if best_of is not None and best_of != (data.get("n") or 1) else None


def without_ignored(
    data: Mapping[str, Any], neutral: Mapping[str, tuple[Any, ...]], supported: Collection[str]
) -> dict[str, Any]:
    """Return the request without ignored fields, and with `stop: ""` and `max_tokens: -1` as null, their meaning.

    Args:
        data: The request.
        neutral: Fields of features that the endpoint lacks.
        supported: Fields that the endpoint supports.
    """
    ignored = {*neutral, *LABELS, "best_of"} - {*supported}
    found = {name: value for name, value in data.items() if name not in ignored}
    if found.get("stop") == "":
        found["stop"] = None
    for name in ("max_tokens", "max_completion_tokens"):
        if type(found.get(name)) is int and found[name] == -1:
            found[name] = None
    return found


def _equal(given: Any, value: Any) -> bool:
    """Compare JSON values; unlike in Python, a number does not equal a boolean."""
    return isinstance(given, bool) == isinstance(value, bool) and bool(given == value)
