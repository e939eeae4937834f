"""The Python example of the README runs as shown."""

import re
from pathlib import Path

import pytest

from edgeai.spec.tiny import write_tiny_model

ROOT = Path(__file__).parents[2]


def example() -> str:
    found = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


def printed(code: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    exec(compile(code, "README.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_links_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_example_runs_on_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_model(tmp_path)
    code = example().replace("smollm2-135m-instruct", str(tmp_path))
    code = code.replace("max_tokens=64", 'max_tokens=64, draft="ngram"')  # no head is shipped for the tiny model
    lines = printed(code, capsys)
    upload_rate, p50_s = map(float, lines[-2].split())
    assert 0 <= upload_rate <= 1
    assert p50_s > 0
    assert re.fullmatch(r"0\.\d+ \{'activations': \d+.*\} \d+\.\d+", lines[-1])


@pytest.mark.network
def test_example_runs_verbatim(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sky" in " ".join(printed(example(), capsys)).lower()
