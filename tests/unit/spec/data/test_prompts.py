"""Every prompt format, and the one-line errors that name file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeai.core.errors import UsageError
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_mt_bench(tmp_path: Path) -> None:
    record = {"question_id": 81, "category": "writing", "turns": ["First?", "Then?"], "reference": ["x"]}
    path = write(tmp_path, "mt.jsonl", json.dumps(record) + "\n\n")
    assert load_prompts(path) == [Prompt("mt.jsonl:1", "mt.jsonl", ("First?", "Then?"))]


def test_gsm8k(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"{n} + {n}?", "answer": str(2 * n)}) for n in (1, 2)]
    prompts = load_prompts(write(tmp_path, "gsm8k.jsonl", "\n".join(lines)))
    assert prompts == [
        Prompt("gsm8k.jsonl:1", "gsm8k.jsonl", ("1 + 1?",)),
        Prompt("gsm8k.jsonl:2", "gsm8k.jsonl", ("2 + 2?",)),
    ]


def test_sharegpt_keeps_user_turns_only(tmp_path: Path) -> None:
    asked = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]
    openai = [{"role": "system", "content": "s"}, {"role": "user", "content": "d"}]
    nobody_asks = {"id": "q", "conversations": [{"from": "gpt", "value": "b"}]}
    records = [{"id": "p", "conversations": asked}, nobody_asks, {"messages": openai}]
    prompts = load_prompts(write(tmp_path, "chat.json", json.dumps(records, indent=1)))
    assert prompts == [
        Prompt("chat.json:1", "chat.json", ("a", "c")),
        Prompt("chat.json:3", "chat.json", ("d",)),
    ]


def test_text_lines_even_when_they_look_like_json(tmp_path: Path) -> None:
    prompts = load_prompts(write(tmp_path, "p.txt", "{hello}\n\n  What is 2 + 2? \n"))
    assert [(p.id, p.turns) for p in prompts] == [("p.txt:1", ("{hello}",)), ("p.txt:3", ("What is 2 + 2?",))]


def test_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", json.dumps({"question": "a\u2028b"}, ensure_ascii=False))
    assert load_prompts(path)[0].turns == ("a\u2028b",)


def test_path_below_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    write(tmp_path / "prompts", "p.txt", "hi\n")
    monkeypatch.setenv("EDGEAI_DATA", str(tmp_path))
    assert load_prompts("prompts/p.txt")[0].turns == ("hi",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.jsonl", "", "{path} contains no prompts"),
        ("empty.txt", " \n", "{path} contains no prompts"),
        ("empty.json", "[]", "{path} contains no prompts"),
        ("bad.jsonl", '{"question": "a"}\n{"question": \n', "{path}:2: not valid JSON: Expecting value"),
        ("bad.json", '[\n{"question": "a"},,]', "{path}:2: not valid JSON: Expecting value"),
        ("field.jsonl", '{"text": "a", "label": 1}', "{path}:1: no known field among label, text"),
        ("array.json", '[{"question": "a"}, 3]', "{path}: entry 2: expected an object, found int"),
        ("turns.jsonl", '{"turns": []}', "{path}:1: turns is empty"),
        ("turns.jsonl", '{"turns": "hi"}', "{path}:1: turns is not a list"),
        ("turns.jsonl", '{"turns": ["hi", 3]}', "{path}:1: turns contains a value that is not text"),
        ("blank.jsonl", '{"question": " "}', "{path}:1: question contains a value that is not text"),
        (
            "chat.jsonl",
            '{"conversations": [{"value": "a"}]}',
            "{path}:1: conversations is not a list of objects with 'from' and 'value'",
        ),
        (
            "chat.jsonl",
            '{"messages": [{"role": "user"}]}',
            "{path}:1: messages.content contains a value that is not text",
        ),
    ],
)
def test_bad_files_get_one_line_and_a_hint(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert caught.value.message == message.format(path=path)
    assert caught.value.hint.startswith("each line needs one of: turns (MT-Bench)")


def test_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert caught.value.message == f"cannot read {path}: it is not UTF-8 text"


def test_select_spreads_evenly_and_never_repeats() -> None:
    prompts = [Prompt(str(n), "s", ("x",)) for n in range(10)]
    assert [p.id for p in select(prompts, 4)] == ["0", "2", "5", "7"]
    assert select(prompts, 99) == prompts


def test_builtin_prompts_are_varied() -> None:
    prompts = builtin_prompts()
    assert len(prompts) == 24
    assert len({p.turns for p in prompts}) == 24
    assert {p.source for p in prompts} == {"built-in"}
