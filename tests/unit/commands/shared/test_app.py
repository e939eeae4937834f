"""The error boundary: exit codes, one line and a hint, and one JSON document whatever happens."""

import errno
import json

import pytest
import typer

from edgeai.cli import main
from edgeai.commands.shared.app import new_app, run_app
from edgeai.commands.shared.options import JsonOption
from edgeai.core.errors import EdgeAIError, UsageError

FAILURES = {
    "failed": (EdgeAIError("no network", hint="edgeai doctor"), 1, "no network", "edgeai doctor"),
    "asked-wrongly": (UsageError("no such file"), 2, "no such file", ""),
    "interrupted": (KeyboardInterrupt(), 130, "interrupted", ""),
    "full": (
        OSError(errno.ENOSPC, "No space left on device", "shard-1"),
        1,
        "no space left on the disk (shard-1)",
        "free some space and run the command again",
    ),
    "bug": (ZeroDivisionError("division by zero"), 1, "bug: ZeroDivisionError: division by zero", ""),
}


@pytest.fixture
def app():
    app = new_app("Test verbs.")

    def add(name, error):
        @app.command(name)
        def verb(as_json: JsonOption = False) -> None:
            raise error

    for name, (error, *_) in FAILURES.items():
        add(name, error)

    @app.command()
    def found_something() -> None:
        raise typer.Exit(1)

    return app


@pytest.mark.parametrize("name", FAILURES)
def test_json_document_on_failure_has_the_exit_code(app, capsys, name):
    _, exit_code, message, hint = FAILURES[name]
    assert run_app(app, [name, "--json"]) == exit_code
    document = json.loads(capsys.readouterr().out)
    assert document == {"error": {"message": message, "hint": hint, "exit_code": exit_code}}


@pytest.mark.parametrize("name", FAILURES)
def test_without_json_stdout_stays_empty(app, capsys, name):
    assert run_app(app, [name]) == FAILURES[name][1]
    assert capsys.readouterr().out == ""


def test_expected_error_is_one_line_and_a_hint(app, capsys):
    run_app(app, ["failed"])
    assert capsys.readouterr().err == "edgeai: no network\n  hint: edgeai doctor\n"


def test_bug_keeps_its_traceback(app, capsys):
    run_app(app, ["bug"])
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_check_that_found_something(app):
    assert run_app(app, ["found-something"]) == 1


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["runs", "show"], "Missing argument 'RUN'.", "edgeai runs show --help"),
        (["nothing"], "No such command 'nothing'.", "edgeai --help"),
        (["runs", "list", "--depth", "3"], "No such option '--depth'.", "edgeai runs list --help"),
    ],
)
def test_usage_errors(capsys, argv, message, hint):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"edgeai: {message}\n  hint: {hint}\n")
    assert main([*argv, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_json_after_double_dash_is_an_argument(capsys):
    assert main(["runs", "show", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    name, number = capsys.readouterr().out.split()
    assert name == "edgeai"
    assert len(number.split(".")) == 3


def test_group_alone_shows_its_help(capsys):
    assert main(["runs"]) == 2
    assert "List runs and show, compare and report their results." in capsys.readouterr().out
