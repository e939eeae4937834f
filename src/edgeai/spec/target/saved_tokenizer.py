"""Tokenizers of converted models, read in a fraction of the time that importing transformers takes.

transformers' tokenizers are a `tokenizers.Tokenizer` and a Jinja template. Both are saved beside each other once they
were found to give what transformers gives for a set of texts and chats; otherwise transformers stays in charge.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import tokenizers

from edgeai.core.files import write_whole
from edgeai.spec.target.protocol import (
    ChatTemplateError,
    Message,
    Tokenizer,
    Tools,
    added_once,
    merged_template_values,
)

_RECORD = "edgeai.json"
_VERSION = 4
_TEXTS = (
    "",
    " ",
    "Hello, world!",
    "  two  spaces, a tab\t and\nlines\n\n\n",
    "def f(x):\n    return x ** 2  # 1234567890",
    "Grüße, 你好, здравствуйте, こんにちは 🙂👩‍👩‍👧 \u200b e\u0301",
    "It's John's, we'll, I'd; 'quoted' \"double\" <b>html</b> & more...",
)
_CHATS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "Hello"),),
    (("user", " spaced \n"), ("assistant", "Yes <|im_end|>?"), ("user", "你好 & <b>")),
    (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi."), ("user", "Bye")),
)
_TOOL = {
    "name": "get_weather",
    "description": "Weather in <a> city & 'now'",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_CALL = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}
_TOOL_CHAT: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "sunny", "tool_call_id": "call12345", "name": "get_weather"},
)
_TOOLS = ({"type": "function", "function": _TOOL},)


class SavedTokenizer:
    """`Tokenizer` without transformers.

    Args:
        backend: Vocabulary and merges.
        template: Chat template; None joins the texts, as for base models.
        named_tokens: Special tokens by their names in the template, such as `bos_token`.
        eos_ids: Tokens that end an answer.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        template: str | None,
        named_tokens: Mapping[str, str],
        eos_ids: frozenset[int],
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend, self._source, self._named_tokens = backend, template, named_tokens
        self._template_values: dict[str, Any] = {}
        self.eos_ids = eos_ids

    @property
    def chat_template(self) -> str | None:
        """See `Tokenizer`."""
        return self._source or None

    @property
    def definition(self) -> str | None:
        """See `Tokenizer`."""
        return str(self._backend.to_str())

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_raw(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return added_once(self.encode(text), list(self._backend.encode(text, add_special_tokens=True).ids))

    def encode_chat(self, text: str) -> list[int]:
        """See `Tokenizer`."""
        return self.encode(text) if self._source else self.encode_raw(text)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        """See `Tokenizer`."""
        return str(self._backend.decode(list(ids), skip_special_tokens=not keep_special))

    def entry(self, token: int) -> str | None:
        """See `Tokenizer`."""
        found = self._backend.id_to_token(token)
        return None if found is None else str(found)

    def render(self, messages: Sequence[Message], *, open_answer: bool, tools: Tools | None = None) -> str:
        """See `Tokenizer`. For a base model without a template the texts are joined."""
        if not self._source:
            return "\n\n".join(m["content"] for m in messages) + ("\n\n" if open_answer else "")
        values: dict[str, Any] = {
            "tools": list(tools) if tools else None,
            "documents": None,
            **self._named_tokens,
            **self._template_values,
        }
        try:
            return self._template(messages=[dict(m) for m in messages], add_generation_prompt=open_answer, **values)
        except Exception as error:  # templates come with the models and may raise anything
            raise ChatTemplateError(error) from error

    def with_template_values(self, values: Mapping[str, Any]) -> Self:
        """See `Tokenizer`."""
        other = copy.copy(self)
        other._template_values = merged_template_values(self._template_values, values)
        return other

    @cached_property
    def _template(self) -> Callable[..., str]:
        import jinja2.ext
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # templates come with the models

        def raise_exception(message: str) -> None:
            raise jinja2.TemplateError(message)

        def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
            return json.dumps(value, ensure_ascii=ensure_ascii, **options)

        extensions = [jinja2.ext.loopcontrols]
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
        environment.filters["tojson"] = tojson
        environment.globals["raise_exception"] = raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return environment.from_string(self._source or "").render


def read_saved(folder: Path) -> SavedTokenizer | None:
    """Return the tokenizer saved in a folder; None if transformers has to read it."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if record["version"] != _VERSION or not record["is_equal"]:
            return None
        return _from_record(folder, record)
    except Exception:  # no record, or one that was damaged: the Rust library raises plain Exceptions
        return None


def save(folder: Path, tokenizer: Tokenizer, theirs: Any) -> None:
    """Record how to read a tokenizer without transformers, if that gives the same.

    Args:
        folder: Folder with its tokenizer.json, written by transformers.
        tokenizer: The tokenizer in use.
        theirs: The same as an object of transformers.
    """
    record = {
        "version": _VERSION,
        "chat_template": theirs.chat_template,
        "named_tokens": theirs.special_tokens_map,
        "eos_ids": sorted(tokenizer.eos_ids),
    }
    try:
        is_equal = _agree(_from_record(folder, record), tokenizer, sorted(theirs.all_special_tokens))
        write_whole(folder / _RECORD, json.dumps({**record, "is_equal": is_equal}))
    except Exception:  # a tokenizer without tokenizer.json, or a read-only cache: transformers reads it every time
        return


def _from_record(folder: Path, record: Mapping[str, Any]) -> SavedTokenizer:
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    template, named = record["chat_template"], dict(record["named_tokens"])
    return SavedTokenizer(backend, template, named, frozenset(record["eos_ids"]))


def _agree(ours: Tokenizer, theirs: Tokenizer, special: Sequence[str]) -> bool:
    """Whether two tokenizers give the same ids, texts and chats."""
    plain = [[{"role": role, "content": text} for role, text in chat] for chat in _CHATS]
    chats: list[tuple[Sequence[Message], bool, Tools | None]] = [
        (chat, is_open, None) for chat in plain for is_open in (True, False)
    ]
    chats += [(list(_TOOL_CHAT[:length]), True, _TOOLS) for length in (1, 3)]
    texts = [*_TEXTS, " ".join(special), "".join(f"a{token} b" for token in special)]
    texts += [_rendered(theirs, *chat) for chat in chats]
    for text in texts:
        ids = theirs.encode(text)
        if ours.encode(text) != ids or ours.encode_raw(text) != theirs.encode_raw(text):
            return False
        for keep in (True, False):
            parts = (ids, ids[1:], ids[:2])
            if any(ours.decode(part, keep_special=keep) != theirs.decode(part, keep_special=keep) for part in parts):
                return False
    return all(_rendered(ours, *chat) == _rendered(theirs, *chat) for chat in chats)


def _rendered(tokenizer: Tokenizer, chat: Sequence[Message], is_open: bool, tools: Tools | None) -> str:
    """A chat as text, or the template's objection to it."""
    try:
        return tokenizer.render(chat, open_answer=is_open, tools=tools)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
