"""The commands of a machine without a C++ compiler: they compute with torch, and say what to install."""

import os
import subprocess
import sys

import pytest

from edgeai.core import assets
from edgeai.core.metrics import Metrics
from edgeai.spec.target.native import compilation, library

REASON = "there is no C++ compiler (looked for c++, g++ and clang++)"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif((library.SHIPPED / compilation.library_name()).exists(), reason="the package holds the library")
def test_commands_without_a_compiler_on_the_path(tmp_path):
    assets.fetch("smollm2-135m-instruct", Metrics(None))
    for name in ("empty", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "cache" / "assets").symlink_to(assets.cache_dir() / "assets")
    environment = {**os.environ, "PATH": str(tmp_path / "empty"), "EDGEAI_CACHE": str(tmp_path / "cache")}

    def run(*arguments):
        command = [sys.executable, "-m", "edgeai", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    paste = compilation.INSTALL_COMMANDS.get(compilation.platform.system(), "")
    shown = " ".join(run("doctor").stdout.split())
    assert f"- native runtime {REASON}; spec computes with torch instead, several times slower; {paste}" in shown
    overrides = ("draft.kind=ngram", "tree.nodes=2", "max_tokens=8")
    settings = [part for override in overrides for part in ("-s", override)]
    done = run("spec", "generate", *settings, "--out", tmp_path / "run", "Hello")
    assert done.returncode == 0, done.stderr
    assert f"target.runtime: auto: torch, because {REASON}; for the native runtime: {paste}" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    refused = run("spec", "generate", *settings, "-s", "target.runtime=native", "--out", tmp_path / "other", "Hello")
    assert refused.returncode == 2
    error, hint = refused.stderr.strip().splitlines()[-2:]
    assert error.endswith(f"here: {REASON}")
    assert hint.endswith(f"-s target.runtime=torch, or install what is missing: {paste}")
