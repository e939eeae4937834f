"""`edgeai spec serve`, `spec chat` and `spec load`: serve a model, chat with it, and load-test the server."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edgeai.commands.render.plans import show_plan
from edgeai.commands.render.reports import show_report
from edgeai.commands.render.text import print_json
from edgeai.commands.shared.options import (
    ConfigOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OutOption,
    QuietOption,
    SetOption,
    VerboseOption,
)
from edgeai.commands.shared.progress import listening
from edgeai.commands.shared.run import running
from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.chat import ChatConfig
from edgeai.spec.config.load import LoadConfig
from edgeai.spec.config.serve import ServeConfig

if TYPE_CHECKING:
    from edgeai.spec.serve.chat.backend import AnswerEnd, ChatBackend
    from edgeai.spec.serve.reports import ServePlan

ApiKeyOption = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="EDGEAI_API_KEY",
        metavar="KEY",
        help="API key that clients must send; never stored.",
        show_default=False,
    ),
]
_RUN_COLORS = (2, 6, 4, 5, 1)
"""Terminal colors of one, two, ... draft tokens accepted in a row."""


def serve(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Short for -s host=ADDRESS.", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Short for -s port=N.", show_default=False)] = None,
    api_key: ApiKeyOption = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Serve a model: OpenAI API, chat page and metrics, with speculative decoding where it is faster.

    SIGTERM or Ctrl-C finishes the open requests and exits.
    """
    short = [f"host={json.dumps(host)}"] if host is not None else []
    short += [f"port={port}"] if port is not None else []
    cfg = load_config(ServeConfig, config, [*short, *(set_ or ())])
    if dry_run:
        plan = _plan(cfg, device, quiet)
        if as_json:
            print_json({"plan": plan.to_json()})
        else:
            show_plan(plan, as_json=False)
        return
    from edgeai.spec.serve.http.server import run_serve  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_serve(cfg, run, api_key=api_key)
        run.finish("done", report.to_json())
    show_report("spec serve", run.path, report.to_json(), as_json=as_json)


def chat(
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Short for -s url=URL: a running server.", show_default=False),
    ] = None,
    api_key: ApiKeyOption = "",
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Chat with a model in the terminal and highlight accepted draft tokens.

    /on and /off switch speculation, /new starts a new conversation, /quit exits.
    """
    short = [f"url={json.dumps(url)}"] if url is not None else []
    cfg = load_config(ChatConfig, config, [*short, *(set_ or ())])
    from edgeai.spec.serve.chat.open_backend import open_backend  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        backend = open_backend(cfg, run, api_key=api_key)
        try:
            turns = _converse(backend, quiet=quiet, as_json=as_json)
        finally:
            backend.close()
        run.finish("done")
    if as_json:
        print_json({"run": run.path, "turns": turns})


def load(
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Load-test a server on this machine with 1, 4 and 16 clients, with and without speculation.

    Exit 1 if an answer was wrong.
    """
    cfg = load_config(LoadConfig, config, set_ or ())
    from edgeai.spec.serve.load.load_test import run_load  # imports torch

    with running(cfg, out=out, device=device, quiet=quiet, verbose=verbose) as run:
        report = run_load(cfg, run)
        run.finish("done" if report.is_ok else "failed", report.to_json())
    show_report("spec load", run.path, report.to_json(), as_json=as_json)
    if not report.is_ok:
        raise typer.Exit(1)


def _converse(backend: "ChatBackend", *, quiet: bool, as_json: bool) -> list[dict[str, object]]:
    """Read questions and print answers until the user quits; return the turns."""
    messages: list[dict[str, str]] = []
    turns: list[dict[str, object]] = []
    speculates = True
    for line in _lines(backend.name):
        if line == "/quit":
            break
        if line in ("/on", "/off", "/new"):
            messages = [] if line == "/new" else messages
            speculates = speculates if line == "/new" else line == "/on"
            continue
        messages.append({"role": "user", "content": line})
        try:
            text, ended = _say(backend, messages, speculates, shows=not as_json)
        except EdgeAIError as error:
            messages.pop()
            print(f"edgeai: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""), file=sys.stderr)
            continue
        messages.append({"role": "assistant", "content": text})
        turns.append({"user": line, "assistant": text, **(asdict(ended) if ended else {})})
        if ended and not quiet:
            facts = f"{ended.num_tokens} tokens, {ended.tokens_per_s:.0f} tokens/s, accept_len {ended.accept_len:.2f}"
            print(f"[{facts}]", file=sys.stderr)
    return turns


def _lines(name: str) -> Iterator[str]:
    """Yield the lines that the user types, until Ctrl-D."""
    while True:
        if sys.stdin.isatty():
            print(f"{name}> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _say(
    backend: "ChatBackend", messages: list[dict[str, str]], speculates: bool, *, shows: bool
) -> tuple[str, "AnswerEnd | None"]:
    """Return one answer, printed as it is generated. Ctrl-C stops the answer, not the conversation."""
    from edgeai.spec.serve.engine.events import Text

    text, ended = [], None
    answer = backend.answer(messages, speculates=speculates)
    try:
        for part in answer:
            if not isinstance(part, Text):
                ended = part
                continue
            for piece in part.pieces:
                text.append(piece.text)
                if shows:
                    print(_tinted(piece.text, part.num_accepted if piece.is_draft else 0), end="", flush=True)
    except KeyboardInterrupt:
        answer.close()
    if shows:
        print()
    return "".join(text), ended


def _tinted(text: str, run: int) -> str:
    """Return drafted text in the color of its run on a terminal."""
    if not run or not sys.stdout.isatty():
        return text
    color = _RUN_COLORS[min(run, len(_RUN_COLORS)) - 1]
    return f"\x1b[3{color}m{text}\x1b[0m"


def _plan(cfg: ServeConfig, device: str, quiet: bool) -> "ServePlan":
    from edgeai.core.device import choose_device  # imports torch
    from edgeai.spec.serve.build import plan_serve

    with listening(quiet=quiet) as listener:
        return plan_serve(cfg, device=choose_device(device).torch_device, metrics=Metrics(None, listener=listener))
