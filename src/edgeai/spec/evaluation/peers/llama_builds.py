"""Builds of llama.cpp: the xllamacpp package, and llama-server binaries; each starts servers with given options."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeai.core.errors import UsageError
from edgeai.spec.evaluation.peers.llama_server import LlamaServer, free_port

WHEEL = "wheel"
_PROBE_S = 30


@dataclass(frozen=True)
class Options:
    """Options of a server."""

    model: Path
    """GGUF file of the target."""
    threads: int
    """Threads for decoding and for prompts."""
    context: int
    """Tokens of prompt and answer."""
    flash_attention: bool
    speculation: str = ""
    """Kind of speculative decoding in llama.cpp's words, such as "ngram-simple"; empty decodes plainly."""
    speculation_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values by option, by group, such as {"ngram_simple": {"size_n": 3}}."""
    head: str = ""
    """GGUF file of a draft head; empty for none."""


class WheelBuild:
    """The xllamacpp package in the environment of this process.

    Raises:
        UsageError: The package is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            hint = "install it: pip install 'edgeai[llamacpp]', or set llamacpp.servers to a llama-server binary"
            raise UsageError("the llama.cpp peer needs the package xllamacpp, which is not installed", hint=hint)
        self.name = "llama.cpp wheel"

    @property
    def version(self) -> str:
        """Name and version of the package."""
        try:
            return f"xllamacpp {importlib.metadata.version('xllamacpp')}"
        except importlib.metadata.PackageNotFoundError:
            return "xllamacpp"

    def cpu_features(self) -> str:
        """Return the instruction sets that the build uses here."""
        return _features([sys.executable, "-c", "import xllamacpp; print(xllamacpp.get_system_info())"])

    def start(self, name: str, options: Options) -> LlamaServer:
        """Start a server and wait until it has loaded the model.

        Args:
            name: Name in error messages.
            options: Options of the server.

        Raises:
            EdgeAIError: The server ended or does not become ready.
        """
        port = free_port()
        argument = json.dumps(asdict(options) | {"model": str(options.model), "port": port})
        program = Path(__file__).with_name("wheel_server.py")
        # -P: the folder of the program holds modules of edgeai, which are not to be found by their bare names
        command = [sys.executable, "-P", str(program), argument]
        return LlamaServer(name, command, port=port, model=options.model)


class BinaryBuild:
    """A llama-server binary.

    Args:
        program: Path of the binary, or its name on the PATH.
        number: Number in the name, where several binaries are compared; 0 for the only one.

    Raises:
        UsageError: There is no such program, or it is not llama-server.
    """

    def __init__(self, program: str, number: int = 0) -> None:
        found = shutil.which(Path(program).expanduser())
        if found is None:
            hint = "give the path of a llama-server binary in llamacpp.servers, or wheel"
            raise UsageError(f"{program} is not a program", hint=hint)
        self._program = found
        self.version = _version(program, found)
        self.name = f"llama-server {number}" if number else "llama-server"

    def cpu_features(self) -> str:
        """Return the instruction sets that the build uses here."""
        # a verbose server reports them before it refuses the empty model
        return _features([self._program, "--verbosity", "4", "-m", os.devnull])

    def start(self, name: str, options: Options) -> LlamaServer:
        """Start a server and wait until it has loaded the model.

        Args:
            name: Name in error messages.
            options: Options of the server.

        Raises:
            EdgeAIError: The server ended or does not become ready.
        """
        port = free_port()
        command = [self._program, *_arguments(options), "--host", "127.0.0.1", "--port", str(port)]
        return LlamaServer(name, command, port=port, model=options.model)


Build = WheelBuild | BinaryBuild


def _arguments(options: Options) -> list[str]:
    threads = str(options.threads)
    arguments = ["-m", str(options.model), "-c", str(options.context), "-np", "1", "-t", threads, "-tb", threads]
    arguments += ["-fa", "on" if options.flash_attention else "off", "--cache-ram", "0"]
    if options.speculation:
        arguments += ["--spec-type", options.speculation]
        for group, values in options.speculation_options.items():
            for key, value in values.items():
                arguments += [f"--spec-{group}-{key}".replace("_", "-"), str(value)]
    if options.head:
        arguments += ["-md", options.head, "-td", threads, "-tbd", threads]
    return arguments


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, stdin=subprocess.DEVNULL, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def _features(command: Sequence[str]) -> str:
    """Return the features in llama.cpp's line about the system; a remark if the command does not print one."""
    try:
        found = re.search(r"CPU : ([^\n]*)", _output(command))
    except (OSError, subprocess.TimeoutExpired):
        found = None
    return " ".join(re.findall(r"(\w+) = 1", found.group(1))) if found else "CPU features unknown"


def _version(given: str, program: str) -> str:
    """Return the version line of llama-server, and check that the program is one."""
    hint = "set llamacpp.servers to a llama-server binary"
    try:
        text = _output([program, "--version"])
    except OSError as error:
        raise UsageError(f"cannot run {given}: {error.strerror}", hint=hint) from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{given} is not a llama-server: --version does not end", hint=hint) from error
    version = re.search(r"version: *([^\n]+)", text)
    built = re.search(r"built with ([^\n]+)", text)
    if version is None or built is None:
        raise UsageError(f"{given} is not a llama-server: --version does not name a version and a compiler", hint=hint)
    return f"version {version.group(1).strip()}, built with {built.group(1).strip()}"
