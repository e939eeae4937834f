"""Builds the wheel, installs it into an empty environment outside the source tree, and runs one command per area.

    python tests/packaging/check_wheel.py

`make wheel-test` calls it. It takes minutes, most of them for unpacking torch, and needs the package index or pip's
cache.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA_SUFFIXES = {".cpp", ".h", ".html", ".jinja", ".json", ".md", ".safetensors", ".txt", ".typed", ".yaml"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="edgeai-wheel-") as folder:
        wheel = build_wheel(Path(folder))
        check_contents(wheel)
        check_lean_install(wheel, Path(folder) / "lean")
        python = new_environment(Path(folder) / "full")
        run([python, *PIP_INSTALL, "-c", ROOT / "constraints.txt", wheel])
        run([python, "-m", "pip", "check"])
        use(python, Path(folder) / "elsewhere")
    step("the wheel works")


PIP_INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def build_wheel(folder: Path) -> Path:
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "-w",
            folder,
            ROOT,
        ]
    )
    (wheel,) = folder.glob("edgeai-*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Every tracked data file of the package and every config is in the wheel, and nothing that git does not know."""
    listed = subprocess.run(
        ["git", "ls-files", "src/edgeai", "configs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = set()
    for name in listed.stdout.splitlines():
        path = Path(name)
        if path.suffix in DATA_SUFFIXES | {".py"}:
            expected.add(str(Path("edgeai") / path if path.parts[0] == "configs" else path.relative_to("src")))
        else:
            sys.exit(
                f"no rule for the data file {name}: add its suffix to DATA_SUFFIXES, and see that the wheel holds it"
            )
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    libraries = {name for name in found if fnmatch(name, "edgeai/spec/target/native/edgeai-*.so")}
    assert len(libraries) == bool(shutil.which("c++")), f"native runtimes in the wheel: {libraries}"
    found -= libraries
    problems = [f"not in the wheel: {name}" for name in sorted(expected - found)]
    problems += [f"in the wheel, but not in git: {name}" for name in sorted(found - expected)]
    if problems:
        sys.exit("\n".join(problems))
    for suffix in DATA_SUFFIXES:
        if not any(name.endswith(suffix) for name in found):
            sys.exit(f"the wheel holds no {suffix} file: the check is not worth much")
    step(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size / 1e6:.0f} MB, as in git")


def check_lean_install(wheel: Path, folder: Path) -> None:
    """Without any dependency, the requirements of one area can be printed."""
    python = new_environment(folder)
    run([python, *PIP_INSTALL, "--no-deps", wheel])
    lines = output([python, "-m", "edgeai.core.requirements", "spec"], folder).splitlines()
    names = {line.split(">")[0].split("<")[0] for line in lines}
    assert {"torch", "transformers", "typer"} <= names, lines
    assert not {"flwr", "fastapi", "scikit-image", "segment-anything"} & names, lines
    step(f"edgeai[spec] alone: {len(lines)} requirements")


def use(python: Path, folder: Path) -> None:
    """One command per area, outside the source tree."""
    folder.mkdir()
    edgeai = python.with_name("edgeai")
    where = output([python, "-c", "import edgeai; print(edgeai.__file__)"], folder).strip()
    assert where.startswith(str(python.parents[1])), where
    document = json.loads(output([edgeai, "doctor", "--json"], folder, may_fail=True))
    assert not [check for check in document["checks"] if not check["ok"] and check["name"] not in LOCAL_CHECKS], (
        document
    )
    if shutil.which("c++"):
        (native,) = (check for check in document["checks"] if check["name"] == "native runtime")
        assert ", part of the package;" in native["found"], native
    missing = {area["name"] for area in document["areas"] if area["missing"]}
    assert missing == {"ray", "vision", "llamacpp", "structured"}, missing
    step("edgeai doctor")
    output([python, "-m", "edgeai.spec.tiny", "model"], folder)
    target = ["-s", "target.model=model", "-s", "target.dtype=float32", "-s", "max_tokens=16", "-s", "tree.nodes=4"]
    answer = json.loads(
        output([edgeai, "spec", "generate", *target, "-s", "draft.kind=ngram", "--json", "Hello"], folder)
    )
    assert answer["num_tokens"] > 0, answer
    step("edgeai spec generate")
    report = json.loads(output([edgeai, "collab", "run", "-c", "collab/smoke", "--out", "drive", "--json"], folder))
    assert report["num_frames"] == 60, report
    step("edgeai collab run")
    report = json.loads(output([edgeai, "fedsplit", "sim", "-c", "fedsplit/smoke", "--out", "sim", "--json"], folder))
    assert len(report["rounds"]) == 2, report
    step("edgeai fedsplit sim")
    for name in ("drive", "sim"):
        output([edgeai, "runs", "report", name], folder)
        assert (folder / name / "report.html").stat().st_size > 10_000
    step("edgeai runs report")
    program = "from edgeai import collab; print(collab.run('collab/smoke').num_frames)"
    assert output([python, "-c", program], folder) == "60\n"
    step("from edgeai import collab")


LOCAL_CHECKS = {"memory", "disk for the cache"}
"""Checks of this machine, which say nothing about the wheel."""


def new_environment(folder: Path) -> Path:
    run([sys.executable, "-m", "venv", folder])
    return folder / "bin" / "python"


def run(command: list) -> None:
    if subprocess.run([str(part) for part in command], env=ENVIRONMENT).returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")


def output(command: list, folder: Path, *, may_fail: bool = False) -> str:
    """What a command prints on stdout."""
    done = subprocess.run([str(part) for part in command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode and not may_fail:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
BEGIN_S = time.monotonic()


def step(text: str) -> None:
    print(f"{time.monotonic() - BEGIN_S:5.0f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
