"""Each area runs with the packages of its own extra, and says which one it needs where packages are missing."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from operator import itemgetter
from pathlib import Path

import pytest

from edgeai.core.requirements import name_of
from edgeai.spec.tiny import write_tiny_model

HIDE = Path(__file__).with_name("hide.py")
PROJECT = tomllib.loads((HIDE.parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
expand, closure = itemgetter("expand", "closure")(runpy.run_path(str(HIDE)))


def test_plain_install_is_the_union_of_the_areas():
    areas = ("core", "spec", "serve", "collab", "fedsplit", "flower")
    listed = {line for name in areas for line in EXTRAS[name] if not line.startswith("edgeai[")}
    assert sorted(listed) == sorted(PROJECT["dependencies"])


def test_all_holds_every_extra_for_users():
    def names(extra):
        nested = [re.fullmatch(r"edgeai\[(.*)\]", line) for line in EXTRAS[extra]]
        below = [name for match in nested if match for name in match[1].split(",")]
        return {extra}.union(*map(names, below))

    assert names("all") == set(EXTRAS) - {"dev", "docs"}


def run_lean(extra, *arguments, cwd):
    return subprocess.run(
        [sys.executable, HIDE, extra, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return folder


@pytest.mark.slow
class TestAreaAlone:
    def test_spec(self, model, tmp_path):
        tiny = ("-s", f"target.model={model}", "-s", "target.dtype=float32")
        done = run_lean("spec", "spec", "generate", *tiny, "-s", "draft.kind=ngram", "-q", "Hello", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()

    def test_collab(self, tmp_path):
        done = run_lean("collab", "collab", "run", "-c", "collab/smoke", "-q", "--json", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["num_frames"] == 60

    def test_fedsplit(self, tmp_path):
        done = run_lean("fedsplit", "fedsplit", "sim", "-c", "fedsplit/smoke", "-q", "--json", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(json.loads(done.stdout)["rounds"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("installed", "arguments", "extra"),
    [
        ("core", ["spec", "generate", "-s", "target.model={model}", "Hello"], "spec"),
        ("spec", ["spec", "serve", "-s", "target.model={model}", "-s", "draft.kind=ngram"], "serve"),
        ("core", ["collab", "run", "-c", "collab/smoke"], "collab"),
        ("core", ["fedsplit", "sim", "-c", "fedsplit/smoke"], "fedsplit"),
        ("fedsplit", ["fedsplit", "sim", "-c", "fedsplit/smoke", "-s", "backend.kind=flower"], "flower"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_missing_area_is_one_line(installed, arguments, extra, model, tmp_path):
    arguments = [argument.format(model=model) for argument in arguments]
    done = run_lean(installed, *arguments, "--json", cwd=tmp_path)
    absent = {name_of(line) for line in expand(extra)} - closure(expand(installed))
    names = ", ".join(sorted(absent))
    message, hint = f"{extra} needs {names}, which are not installed", f"pip install 'edgeai[{extra}]'"
    lines = done.stderr.splitlines()
    assert lines[-2:] == [f"edgeai: {message}", f"  hint: {hint}"], done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"error": {"message": message, "hint": hint, "exit_code": 1}}
    assert done.returncode == 1


@pytest.mark.slow
def test_help_and_doctor_with_the_core_alone(tmp_path):
    for area in ("spec", "collab", "fedsplit"):
        assert run_lean("core", area, "--help", cwd=tmp_path).returncode == 0
    document = json.loads(run_lean("spec", "doctor", "--json", cwd=tmp_path).stdout)
    ready = {area["name"] for area in document["areas"] if not area["missing"]}
    assert ready == {"spec"}
    assert {check["name"] for check in document["checks"] if not check["ok"]} <= {"memory", "disk for the cache"}
