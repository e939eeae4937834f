"""Executes the code blocks of a tutorial, and compares or rewrites the output blocks that follow them.

`python tests/docs/tutorial_runner.py docs/tutorials/spec.md` writes the output of this machine into the page.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One executed block."""

    code: str
    shown: str | None
    """The output block that follows; None if there is none."""
    stdout: str


def run_steps(page: Path, folder: Path) -> list[Step]:
    """Returns every block of a page with its output, executed in order in one folder."""
    text = page.read_text(encoding="utf-8")
    return [Step(code, shown, _execute(kind, code, folder)) for kind, code, shown in _blocks(text)]


def rewrite(page: Path) -> None:
    """Replaces the output blocks of a page by the output of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        steps = iter(run_steps(page, Path(folder)))

    def renewed(match: re.Match[str]) -> str:
        step = next(steps)
        block = f"```{match[1]}\n{match[2]}```\n"
        return block if match[3] is None else f"{block}\n```text\n{step.stdout}```\n"

    page.write_text(BLOCK.sub(renewed, page.read_text(encoding="utf-8")), encoding="utf-8")


def _blocks(text: str) -> list[tuple[str, str, str | None]]:
    return [(match[1], match[2], match[3]) for match in BLOCK.finditer(text)]


def _execute(kind: str, code: str, folder: Path) -> str:
    python = [sys.executable, "-m"]
    command = [sys.executable, "-c", code] if kind == "python" else shlex.split(code.replace("\\\n", ""))
    if command[0] == "edgeai":
        command = [*python, *command]
    elif command[0] == "python":
        command = [sys.executable, *command[1:]]
    # outside the repository, so that nothing but the installed package is found
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n" * bool(done.stdout)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        rewrite(Path(name))
