"""A run ends with the right status, however its block ends."""

from typing import Literal

import pytest

from edgeai.commands.shared.run import running
from edgeai.core.config import Config
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), "interrupted"), (EdgeAIError("NaN"), "failed"), (ValueError("bug"), "failed")],
)
def test_error_passes_through_and_is_written_down(tmp_path, error, status):
    def work():
        with running(Cook(), out=tmp_path / "r", device="cpu", quiet=True):
            raise error

    with pytest.raises(type(error)):
        work()
    assert Run.open(tmp_path / "r").status == status


def test_done_with_report(tmp_path):
    with running(Cook(), out=tmp_path / "r", device="cpu", quiet=True) as run:
        assert run.status == "running"
        run.finish("done", {"n": 1})
    assert (Run.open(tmp_path / "r").status, Run.open(tmp_path / "r").report()) == ("done", {"n": 1})


def test_resume_keeps_the_folder(tmp_path):
    with running(Cook(), out=tmp_path / "r", device="cpu", quiet=True) as run:
        run.finish("interrupted")
    with running(Cook(), resume=tmp_path / "r", device="cpu", quiet=True) as run:
        assert run.path == tmp_path / "r"
        assert run.status == "running"
    assert Run.open(tmp_path / "r").status == "done"


def test_notes_and_progress_go_to_stderr(tmp_path, capsys):
    with running(Cook(), out=tmp_path / "r", device="cpu") as run:
        run.metrics.note("half way")
        run.metrics.progress("cook", 2, 2, unit="pots")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "half way\ncook: 2 pots/2 pots\n")
