"""Chat templates with tools in the three formats, shorter than those of real models."""

from __future__ import annotations

import pytest

_TURNS = """
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}
{{- m.tool_call_id }}{{ m.name }}{{ m.content }}
{%- if m.tool_calls %}CALLS{% endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
OPEN{% endif %}"""
_CALL = '{{ {"name": call.function.name, "KEY": call.function.arguments} | tojson }}'


def _template(header, begin, between, end, *, key="arguments", is_open=""):
    calls = f"{{% for call in m.tool_calls %}}{_CALL}{{% if not loop.last %}}{between}{{% endif %}}{{% endfor %}}"
    turns = _TURNS.replace("CALLS", begin + calls + end).replace("KEY", key).replace("OPEN", is_open)
    return "{%- if tools %}" + header + "{{ tools | map(attribute='function.name') | join(' ') }}\n{% endif %}" + turns


@pytest.fixture(scope="session")
def templates():
    """Templates by name; "plain" has no tools, and "thinking" opens the reasoning in the prompt."""
    return {
        "hermes": _template("Use <tool_call>:", "<tool_call>", "</tool_call><tool_call>", "</tool_call>"),
        "llama3": _template('<|start_header_id|>"parameters": ', "", "; ", "", key="parameters"),
        "mistral": _template("[AVAILABLE_TOOLS]", "[TOOL_CALLS] [", ", ", "]").replace("think>", "r>"),
        "thinking": _template("<tool_call>", "<tool_call>", "", "</tool_call>", is_open="<think>\n"),
        "plain": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    }
