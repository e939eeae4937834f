"""Every prompt format, and the one-line errors that name file and line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.spec.data.prompts import Prompt, builtin_prompts, load_prompts, select


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_mt_bench(tmp_path: Path) -> None:
    record = {"question_id": 81, "category": "writing", "turns": ["First?", "Then?"], "reference": ["x"]}
    path = write(tmp_path, "mt.jsonl", json.dumps(record) + "\n\n")
    assert load_prompts(path) == [Prompt("mt.jsonl:1", "mt.jsonl", ("First?", "Then?"), task="writing")]


def test_tasks_are_the_categories_of_records(tmp_path: Path) -> None:
    records = [{"prompt": "a", "category": " math "}, {"prompt": "b", "category": None}, {"prompt": "c"}, "d"]
    path = write(tmp_path, "p.jsonl", "\n".join(map(json.dumps, records)))
    assert [prompt.task for prompt in load_prompts(path)] == ["math", "", "", ""]


def test_gsm8k(tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"{n} + {n}?", "answer": str(2 * n)}) for n in (1, 2)]
    prompts = load_prompts(write(tmp_path, "gsm8k.jsonl", "\n".join(lines)))
    assert prompts == [
        Prompt("gsm8k.jsonl:1", "gsm8k.jsonl", ("1 + 1?",)),
        Prompt("gsm8k.jsonl:2", "gsm8k.jsonl", ("2 + 2?",)),
    ]


def test_conversations_keep_user_and_system_turns_only(tmp_path: Path) -> None:
    asked = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]
    openai = [{"role": "system", "content": "s"}, {"role": "user", "content": "d"}]
    nobody_asks = {"id": "q", "conversations": [{"from": "gpt", "value": "b"}]}
    records = [{"id": "p", "conversations": asked}, nobody_asks, {"messages": openai}]
    prompts = load_prompts(write(tmp_path, "chat.json", json.dumps(records, indent=1)))
    assert prompts == [
        Prompt("chat.json:1", "chat.json", ("a", "c")),
        Prompt("chat.json:3", "chat.json", ("d",), system="s"),
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


ALPACA = {"instruction": "Translate.", "input": "Hallo", "output": "Hello"}
DOLLY = {"instruction": "Who wrote it?", "context": "A wrote it.", "response": "A", "category": "closed_qa"}
OPENAI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("record", "turns", "system"),
    [
        ({"task_id": "HumanEval/0", "prompt": "def f():\n", "test": "exit(1)"}, ("def f():\n",), ""),
        ({"prompt": OPENAI, "chosen": []}, ("a",), "Be brief."),
        ({"prompt": "a", "prompt_id": "0", "messages": OPENAI}, ("a",), "Be brief."),
        ({"conversations": OPENAI}, ("a",), "Be brief."),
        ({"messages": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}]}, ("q",), "s"),
        ({"system": "s", "conversations": [{"from": "human", "value": "q"}]}, ("q",), "s"),
        ({"messages": [{"role": "developer", "content": "s"}, *OPENAI]}, ("a",), "s\n\nBe brief."),
        (ALPACA, ("Translate.\n\nHallo",), ""),
        ({**ALPACA, "input": ""}, ("Translate.",), ""),
        (DOLLY, ("Who wrote it?\n\nA wrote it.",), ""),
        ("just text", ("just text",), ""),
        # a table of several sources has all columns, filled with null
        ({"conversations": None, "messages": None, "instruction": "i", "input": None}, ("i",), ""),
        ({"messages": [{"role": "user", "content": "a", "from": None, "value": None}]}, ("a",), ""),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "data"])
def test_formats_of_the_field(tmp_path: Path, suffix: str, record: object, turns: tuple[str, ...], system: str) -> None:
    if suffix == "data" and isinstance(record, str):
        record = [record]  # a file of unknown suffix is JSON if it begins like it
    text = json.dumps([record] if suffix == "json" else record) + "\n"
    task = "closed_qa" if record is DOLLY else ""
    name = f"p.{suffix}"
    assert load_prompts(write(tmp_path, name, text)) == [Prompt(f"{name}:1", name, turns, system, task)]


def test_one_object_of_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "p.json", json.dumps({"messages": OPENAI}, indent=2))
    assert load_prompts(path) == [Prompt("p.json:1", "p.json", ("a",), "Be brief.")]


def test_parquet_gives_what_json_lines_give(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [
        {"conversations": OPENAI, "score": 1.0},
        {"conversations": None, "score": 0.0},
        {"conversations": [{"role": "user", "content": "b"}, {"role": "user", "content": None}], "score": 2.0},
    ]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "p.parquet", row_group_size=1)
    lines = write(tmp_path, "p.jsonl", "\n".join(map(json.dumps, records)))
    notes: list[str] = []
    found = load_prompts(tmp_path / "p.parquet", on_skip=notes.append)
    assert [(p.turns, p.system) for p in found] == [(p.turns, p.system) for p in load_prompts(lines)]
    assert [p.id for p in found] == ["p.parquet:1", "p.parquet:3"]
    assert notes == [
        f"{tmp_path / 'p.parquet'}: skipped 2 turns without usable text, first at row 2: conversations is null"
    ]


def test_parquet_without_a_known_column_or_damaged(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), path)
    with pytest.raises(UsageError, match=r"no known field among the columns label, text$"):
        load_prompts(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match=f"cannot read {path}: not a valid Parquet file: "):
        load_prompts(path)


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(EdgeAIError) as caught:
        load_prompts(path)
    assert caught.value.message == f"{path}: reading Parquet needs pyarrow, which is not installed"
    assert caught.value.hint == "pip install pyarrow, or convert the file to .jsonl"


def test_turns_without_text_are_skipped_and_counted(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    records = [
        {"turns": ["a"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "b"}, {"role": "user", "content": parts}]},
        {"messages": [{"role": "user"}, None]},
        {"turns": ["c", " ", 3]},
        {"question": "\ud83d"},
        {"prompt": ""},
        {"turns": []},
        {"messages": [*OPENAI, {"role": "system", "content": "late"}]},
        None,
    ]
    path = write(tmp_path, "p.jsonl", "\n".join(map(json.dumps, records)) + "\n")
    notes: list[str] = []
    found = load_prompts(path, on_skip=notes.append)
    assert [(p.id, p.turns) for p in found] == [
        ("p.jsonl:1", ("a",)),
        ("p.jsonl:3", ("b",)),
        ("p.jsonl:5", ("c",)),
        ("p.jsonl:9", ("a",)),
    ]
    assert notes == [
        f"{path}: skipped 11 turns without usable text, first at line 2: messages.content is null",
    ]


def test_file_of_skipped_turns_only(tmp_path: Path) -> None:
    path = write(tmp_path, "p.jsonl", '{"question": " "}\n')
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert caught.value.message == (
        f"{path} contains no prompts: skipped 1 turn without usable text, first at line 1: question is blank"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("empty.jsonl", "", "{path} contains no prompts"),
        ("empty.txt", " \n", "{path} contains no prompts"),
        ("empty.json", "[]", "{path} contains no prompts"),
        ("bad.jsonl", '{"question": "a"}\n{"question": \n', "{path}:2: not valid JSON: Expecting value"),
        ("bad.json", '[\n{"question": "a"},,]', "{path}:2: not valid JSON: Expecting value"),
        ("bad.json", '{\n"question": "a",,}', "{path}:2: not valid JSON: Expecting property name enclosed in "),
        ("deep.jsonl", "[" * 200_000, "{path}:1: not valid JSON: too deeply nested"),
        ("digits.jsonl", '{"a": 1}\n' + "9" * 5000, "{path}:1: no known field among a"),
        ("digits.jsonl", "9" * 5000, "{path}:1: not valid JSON: Exceeds the limit (4300 digits) for integer string"),
        ("field.jsonl", '{"text": "a", "label": 1}', "{path}:1: no known field among label, text"),
        ("array.json", '[{"question": "a"}, 3]', "{path}: entry 2: expected an object, found int"),
        ("turns.jsonl", '{"turns": "hi"}', "{path}:1: turns is not a list"),
        ("chat.jsonl", '{"messages": "hi"}', "{path}:1: messages is not a list of messages"),
        (
            "chat.jsonl",
            '{"conversations": [{"value": "a"}]}',
            "{path}:1: conversations is not a list of objects with 'role' and 'content', or 'from' and 'value'",
        ),
    ],
)
def test_bad_files_get_one_line_and_a_hint(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert caught.value.message.startswith(message.format(path=path))
    assert "\n" not in caught.value.message
    assert caught.value.hint.startswith("each record needs one of: turns (MT-Bench)")


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_encodings_other_than_utf8_are_named_by_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'\xef\xbb\xbf"first"\n"second"\n"caf\xe9"\n')
    with pytest.raises(UsageError) as caught:
        load_prompts(path)
    assert caught.value.message == f"{path}:3: the text is not UTF-8 (byte 0xe9)"
    assert caught.value.hint.startswith("convert it, for example: iconv -f WINDOWS-1252")
    path.write_text('"hello"\n', encoding="utf-16")
    with pytest.raises(UsageError, match=f"{path}:1: the text is UTF-16, not UTF-8$"):
        load_prompts(path)


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "a"}\r\n')
    assert load_prompts(path)[0].turns == ("a",)


def test_messages_repeat_the_system_prompt_and_the_answers() -> None:
    prompt = Prompt("p:1", "p", ("a", "b", "c"), system="s")
    roles = [(message["role"], message["content"]) for message in prompt.messages(["A", "B"])]
    assert roles == [
        ("system", "s"), ("user", "a"), ("assistant", "A"), ("user", "b"), ("assistant", "B"), ("user", "c")
    ]  # fmt: skip
    assert Prompt("p:1", "p", ("a",)).messages([]) == [{"role": "user", "content": "a"}]


def test_select_spreads_evenly_and_never_repeats() -> None:
    prompts = [Prompt(str(n), "s", ("x",)) for n in range(10)]
    assert [p.id for p in select(prompts, 4)] == ["0", "2", "5", "7"]
    assert select(prompts, 99) == prompts


def test_builtin_prompts_are_varied() -> None:
    prompts = builtin_prompts()
    assert len(prompts) == 24
    assert len({p.turns for p in prompts}) == 24
    assert {p.source for p in prompts} == {"built-in"}
