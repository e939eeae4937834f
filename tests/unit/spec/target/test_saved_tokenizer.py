"""Tokenizers read without transformers give what transformers gives, or are not used."""

import json
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from edgeai.core.errors import UsageError
from edgeai.spec.data.prompts import builtin_prompts
from edgeai.spec.target.loading import ChatTokenizer
from edgeai.spec.target.protocol import ChatTemplateError
from edgeai.spec.target.saved_tokenizer import SavedTokenizer, read_saved, save
from edgeai.spec.tiny import write_tiny_model


@pytest.fixture
def folder(tmp_path):
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def saved(folder):
    """The tokenizer by transformers, and as read from its record."""
    theirs = AutoTokenizer.from_pretrained(folder)
    chat = ChatTokenizer(theirs, frozenset({theirs.eos_token_id}))
    save(folder, chat, theirs)
    return chat, read_saved(folder)


def test_prompts_chats_and_special_tokens_are_what_transformers_makes_of_them(folder):
    theirs, ours = saved(folder)
    assert isinstance(ours, SavedTokenizer)
    assert ours.eos_ids == theirs.eos_ids == {1}
    for prompt in builtin_prompts():
        for is_open in (True, False):
            chat = [{"role": "user", "content": turn} for turn in prompt.turns]
            text = ours.render(chat, open_answer=is_open)
            assert text == theirs.render(chat, open_answer=is_open)
            ids = ours.encode(text)
            assert ids == theirs.encode(text)
            assert ours.decode(ids) == theirs.decode(ids) != text
            assert ours.decode(ids, keep_special=True) == theirs.decode(ids, keep_special=True) == text


def test_a_base_model_joins_the_texts(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    theirs, ours = saved(folder)
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert ours.render(chat, open_answer=True) == theirs.render(chat, open_answer=True) == "a\n\nb\n\n"


def test_tools(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{{ m.tool_calls | tojson }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": "<é>"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    for tokenizer in saved(folder):
        text = tokenizer.render(
            [{"role": "assistant", "content": "", "tool_calls": [call]}], open_answer=True, tools=tools
        )
        assert text == json.dumps(tools) + json.dumps([call], ensure_ascii=False)
        assert tokenizer.chat_template == template


def test_values_for_the_chat_template(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = "{{ messages[0].content }} {{ 'off' if enable_thinking is false else 'on' }} {{ eos_token }}"
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    for tokenizer in saved(folder):
        first = tokenizer.with_template_values({"enable_thinking": False})
        second = first.with_template_values({"eos_token": "END"})
        texts = [t.render([{"role": "user", "content": "hi"}], open_answer=True) for t in (tokenizer, first, second)]
        assert texts == ["hi on <|im_end|>", "hi off <|im_end|>", "hi off END"]
        with pytest.raises(UsageError, match="chat_template_kwargs: 'tokenize' is set by the tokenizer"):
            tokenizer.with_template_values({"tokenize": True})


@pytest.mark.parametrize("template", ["{{ raise_exception('no\n system') }}", "{{ 1 / 0 }}", "{{ messages.x.y }}"])
def test_templates_that_fail_give_one_line(folder, template):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    sentences = set()
    for tokenizer in saved(folder):
        with pytest.raises(ChatTemplateError) as caught:
            tokenizer.render([{"role": "user", "content": "hi"}], open_answer=True)
        sentences.add(caught.value.message)
    (sentence,) = sentences
    assert sentence.startswith("the chat template refuses the messages: ")
    assert "raise_exception" not in template or sentence.endswith(": no system")


TEMPLATES = {
    "names": "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}{{ m | tojson }}{% endfor %}{{ eos_token }}",
    "blocks": "{% for m in messages %}\n  {% if loop.last %}\n  {{ m.content | trim }}\n  {% endif %}\n{% endfor %}\n",
    "objection": "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}ok",
    "break": "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}{{ tools is none }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_templates_use(folder, name):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATES[name]}))
    theirs, ours = saved(folder)
    chat = [{"role": "user", "content": " a<b "}, {"role": "assistant", "content": "c"}]
    assert ours.render(chat, open_answer=True) == theirs.render(chat, open_answer=True)


def test_a_tokenizer_that_differs_is_left_to_transformers(folder):
    """Here the chat template counts, which no other environment does."""
    theirs = AutoTokenizer.from_pretrained(folder)
    chat = ChatTokenizer(theirs, frozenset({1}))
    calls = []
    chat.render = lambda messages, open_answer: f"{len(calls)}{calls.append(1)}"
    save(folder, chat, theirs)
    assert read_saved(folder) is None


def test_a_damaged_record_is_left_to_transformers(folder):
    assert read_saved(folder) is None
    assert saved(folder)[1] is not None
    for damaged in ("", "[]", "{}", '{"version": 1, "is_equal": true}'):
        (folder / "edgeai.json").write_text(damaged)
        assert read_saved(folder) is None
    saved(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert read_saved(folder) is None


def test_reading_imports_no_transformers(folder):
    saved(folder)
    script = (
        "import sys; from pathlib import Path; from edgeai.spec.target.loading import gguf_tokenizer\n"
        "from edgeai.spec.target.saved_tokenizer import read_saved\n"
        f"read_saved(Path({str(folder)!r})).render([{{'role': 'user', 'content': 'a'}}], open_answer=True)\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
