import importlib.metadata
import json
import shutil
import sys

import pytest

from edgeai.cli import main
from edgeai.commands import doctor
from edgeai.commands.doctor import Check
from edgeai.core import device
from edgeai.spec.target.native import bandwidth, library
from edgeai.spec.target.native.compilation import Unavailable
from edgeai.spec.target.native.library import Library


def test_this_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "load_library", lambda: Library(None, 1, "avx2"))
    exit_code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in document["checks"]]
    assert exit_code == (0 if document["ready"] else 1)
    assert {"python", "torch", "device", "cores", "bfloat16", "native runtime", "memory", "pip"} <= set(names)
    assert document["assets"] == {"smollm2-135m-instruct": None}


def test_areas(capsys, monkeypatch):
    lines = ["torch; extra == 'spec'", "nosuchpackage>=1; extra == 'serve'", "torch; extra == 'core'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "check_memory", lambda: Check("memory", True, "much"))
    monkeypatch.setattr(doctor, "check_disk", lambda: Check("disk", True, "much"))
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "ok edgeai[spec] ready" in shown
    assert "- edgeai[serve] not installed: nosuchpackage; pip install 'edgeai[serve]'" in shown
    assert main(["doctor", "--json"]) == 0
    areas = {area["name"]: area for area in json.loads(capsys.readouterr().out)["areas"]}
    assert areas["serve"] == {"name": "serve", "missing": ["nosuchpackage"], "paste": "pip install 'edgeai[serve]'"}
    assert areas["spec"]["missing"] == []
    assert "core" not in areas


def test_source_folder_without_an_installation(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert [(check.name, check.ok) for check in doctor.check_packages()] == [("edgeai", False)]
    assert doctor.check_areas() == []


def test_native_runtime(capsys, monkeypatch):
    """Without a compiler the machine is ready all the same, and is told what to install."""
    monkeypatch.setattr(library, "load_library", lambda: Library(None, 1, "avx2"))
    monkeypatch.setattr(bandwidth, "read_bandwidth_bps", lambda size_bytes, threads: size_bytes * 123.0)
    monkeypatch.setattr(device, "num_cores", lambda: 2)
    found = "avx2 kernels, compiled on this machine; 2 threads read 100 MB of weights at 12.3 GB/s"
    assert doctor.check_native() == [Check("native runtime", True, found, is_needed=False)]

    def unavailable():
        raise Unavailable("there is no C++ compiler", "sudo apt install g++")

    monkeypatch.setattr(library, "load_library", unavailable)
    monkeypatch.setattr(doctor, "check_memory", lambda: Check("memory", True, "much"))
    monkeypatch.setattr(doctor, "check_disk", lambda: Check("disk", True, "much"))
    assert main(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    reason = "there is no C++ compiler; spec computes with torch instead, several times slower; sudo apt install g++"
    assert f"- native runtime {reason}" in shown
    assert main(["doctor", "--json"]) == 0
    (check,) = (c for c in json.loads(capsys.readouterr().out)["checks"] if c["name"] == "native runtime")
    assert (check["ok"], check["paste"]) == (False, "sudo apt install g++")


def test_machine_that_is_not_ready(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "check_torch", list)
    monkeypatch.setattr(doctor, "check_memory", lambda: Check("memory", True, "much"))
    monkeypatch.setattr(doctor, "check_disk", lambda: Check("disk", False, "full", "export EDGEAI_CACHE=/larger"))
    monkeypatch.setattr(doctor, "requirements", lambda extra: ("numpy", "nosuchpackage>=2"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "not ready; paste:",
        "pip install 'nosuchpackage>=2'",
        "export EDGEAI_CACHE=/larger",
    ]


@pytest.mark.parametrize(("free", "ok"), [(1_999_999_999, False), (2_000_000_000, True)])
def test_disk(monkeypatch, free, ok):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, free))
    assert doctor.check_disk().ok is ok


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 5), True), ((3, 14, 0), False)]
)
def test_python_versions(monkeypatch, version, ok):
    monkeypatch.setattr(sys, "version_info", version)
    assert doctor.check_python().ok is ok
