"""The error boundary: turns an exception into an exit code, a line and a hint, or one JSON document.

Exit codes: 0 done, 1 failed or a check found a problem, 2 usage error, 130 interrupted.
"""

import errno
import sys
import traceback
from collections.abc import Sequence

import click
import typer

from edgeai.core.errors import EdgeAIError
from edgeai.core.files import json_text
from edgeai.core.requirements import missing_package_error

INTERRUPTED = 130


def new_app(help: str) -> typer.Typer:
    """Return a command group that prints its help when called without a verb."""
    return typer.Typer(
        help=help, no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False
    )


def run_app(app: typer.Typer, argv: Sequence[str]) -> int:
    """Run one command line.

    Args:
        app: Root command group.
        argv: Arguments after the program name.

    Returns:
        The exit code.
    """
    options = list(argv)[: list(argv).index("--")] if "--" in argv else argv
    as_json = "--json" in options
    try:
        result = typer.main.get_command(app).main(args=list(argv), prog_name="edgeai", standalone_mode=False)
    except EdgeAIError as error:
        return _fail(error.message, error.hint, error.exit_code, as_json)
    except ModuleNotFoundError as error:
        known = missing_package_error(error)
        return _fail(known.message, known.hint, known.exit_code, as_json) if known else _crash(as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 2
    except click.UsageError as error:
        context = error.ctx.command_path if error.ctx else "edgeai"
        return _fail(error.format_message(), f"{context} --help", 2, as_json)
    except click.ClickException as error:
        return _fail(error.format_message(), "", error.exit_code, as_json)
    except click.Abort:
        return _fail("interrupted", "", INTERRUPTED, as_json)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _crash(as_json)
        name = f" ({error.filename})" if error.filename else ""
        return _fail(f"no space left on the disk{name}", "free some space and run the command again", 1, as_json)
    except Exception:
        return _crash(as_json)
    if result == INTERRUPTED:  # what typer returns on Ctrl-C
        return _fail("interrupted", "", INTERRUPTED, as_json)
    return result if isinstance(result, int) else 0


def _fail(message: str, hint: str, exit_code: int, as_json: bool) -> int:
    if as_json:
        print(json_text({"error": {"message": message, "hint": hint, "exit_code": exit_code}}))
    print(f"edgeai: {message}", file=sys.stderr)
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)
    return exit_code


def _crash(as_json: bool) -> int:
    """Print the traceback of a bug."""
    traceback.print_exc()
    if as_json:
        kind, value, _ = sys.exc_info()
        name = kind.__name__ if kind else "error"
        print(json_text({"error": {"message": f"bug: {name}: {value}", "hint": "", "exit_code": 1}}))
    return 1
