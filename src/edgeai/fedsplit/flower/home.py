"""A deployment on this machine: the folder that says what `edgeai fedsplit up` started, and ends all of it.

Flower's programs start others, some of them in sessions of their own, and leave them behind when they are killed. Every
process of a home carries the home's mark in its environment; whoever carries it is ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import json_text, write_whole

_FILE = "up.json"
_MARK = "EDGEAI_FLOWER_HOME"
_PATIENCE_S = 90.0


@dataclass(frozen=True)
class Security:
    """What Flower offers, passed through."""

    certificate: Path | None = None
    """The SuperLink's, PEM."""
    key: Path | None = None
    root: Path | None = None
    """Of the authority that SuperNodes and `flwr run` trust."""
    node_keys: tuple[Path, ...] = ()
    """A private key for each SuperNode here: they prove who they are."""
    trusted: tuple[Path, ...] = ()
    """Public keys of SuperNodes elsewhere."""

    @property
    def is_insecure(self) -> bool:
        return self.certificate is None


@dataclass(frozen=True)
class Home:
    """A running deployment."""

    path: Path
    address: str
    """Of the SuperLink."""
    pids: dict[str, int] = field(default_factory=dict)
    host: str = "127.0.0.1"
    """Where the SuperLink listens."""
    num_nodes: int = 0
    node_ports: tuple[int, ...] = ()
    certificate: str | None = None
    key: str | None = None
    root: str | None = None
    node_keys: tuple[str, ...] = ()
    """Private, of the SuperNodes here."""
    trusted: tuple[str, ...] = ()
    """Public, of SuperNodes that may join."""

    @classmethod
    def open(cls, path: Path) -> Home:
        """Reads a home.

        Raises:
            UsageError: Nothing is up there.
        """
        path = path.absolute()
        try:
            found = json.loads((path / _FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise UsageError(f"no Flower deployment is up in {path}", hint="start one: edgeai fedsplit up") from None
        lists = {name: tuple(found[name]) for name in ("node_ports", "node_keys", "trusted")}
        return cls(**{**found, "path": Path(found["path"]), **lists})

    @property
    def has_superlink(self) -> bool:
        """Whether the SuperLink was started here too."""
        return "superlink" in self.pids

    @property
    def is_up(self) -> bool:
        """Whether the SuperLink is running, as far as can be seen from here."""
        return not self.has_superlink or self.pids["superlink"] in marked(self.path)

    @property
    def app(self) -> Path:
        """The Flower app that runs are submitted as."""
        return self.path / "app"

    def environment(self) -> dict[str, str]:
        """For Flower's programs."""
        return environment(self.path)

    def save(self) -> None:
        """Writes down what is up."""
        write_whole(self.path / _FILE, json_text({**asdict(self), "path": str(self.path)}) + "\n")


def environment(path: Path) -> dict[str, str]:
    """Of every process of a home."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(path / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
        _MARK: str(path),
    }


def start(
    path: Path,
    num_nodes: int,
    *,
    superlink: str | None = None,
    host: str = "127.0.0.1",
    security: Security | None = None,
    first: int = 0,
) -> Home:
    """Starts a SuperLink and SuperNodes, each the client of its number.

    Args:
        path: Folder of logs and state.
        num_nodes: SuperNodes.
        superlink: Address of one that is up elsewhere; only SuperNodes are started then.
        host: Where a SuperLink listens.
        security: TLS and keys; None leaves all open, which is for this machine only.
        first: Number of the first client.

    Raises:
        UsageError: Something is up there already, or would be open to other machines.
        EdgeAIError: It does not come up.
    """
    path, security = path.absolute(), security or Security()
    if superlink is None and security.is_insecure and host not in ("127.0.0.1", "localhost"):
        raise UsageError(
            f"a SuperLink on {host} without TLS is open to everyone", hint="give --self-signed, or --ssl-certfile ..."
        )
    if marked(path):
        raise UsageError(f"a Flower deployment is up in {path}", hint=f"end it first: edgeai fedsplit down {path}")
    (path / "flwr").mkdir(parents=True, exist_ok=True)
    port = _free_port()
    home = Home(
        path,
        superlink or f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}",
        host=host,
        num_nodes=num_nodes,
        node_ports=tuple(_free_port() for _ in range(num_nodes)),
        certificate=_text(security.certificate),
        key=_text(security.key),
        root=_text(security.root),
        node_keys=tuple(str(key.absolute()) for key in security.node_keys),
        trusted=tuple(str(key.absolute()) for key in security.trusted),
    )
    _write_app(home)
    try:
        if superlink is None:
            home.pids["superlink"] = _run(home, "superlink", superlink_command(home, port))
            _wait(lambda: _listens(home.host, port), home, "superlink")
            _register(home)
        for number in range(num_nodes):
            start_node(home, number, client=first + number)
        home.save()
    except BaseException:
        stop(path)
        raise
    return home


def start_node(home: Home, number: int, *, client: int) -> None:
    """Starts a SuperNode, or starts it again."""
    command = ["flower-supernode", "--superlink", home.address, "--port", str(home.node_ports[number])]
    command += ["--node-config", f"partition-id={client}"]
    command += ["--root-certificates", home.root] if home.root else ["--insecure"]
    if home.node_keys:
        command += ["--auth-supernode-private-key", home.node_keys[number]]
    home.pids[f"node{number}"] = _run(home, f"node{number}", command)


def superlink_command(home: Home, port: int) -> list[str]:
    """The SuperLink's command line."""
    command = [
        "flower-superlink",
        "--disable-runtime-dependency-installation",
        "--host",
        home.host,
        "--port",
        str(port),
    ]
    if home.certificate is None:
        return [*command, "--insecure"]
    command += ["--ssl-certfile", home.certificate, "--ssl-keyfile", str(home.key), "--ssl-ca-certfile", str(home.root)]
    return [*command, "--enable-supernode-auth"] if home.node_keys or home.trusted else command


def stop(path: Path) -> int:
    """Ends every process of a home; returns how many there were."""
    path = path.absolute()
    ended = set()
    for sent, wait_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and (found := marked(path)):
            for pid in found:
                if pid not in ended or sent is signal.SIGKILL:
                    ended.add(pid)
                    _kill(pid, sent)
            time.sleep(0.1)
    (path / _FILE).unlink(missing_ok=True)
    return len(ended)


def marked(path: Path) -> list[int]:
    """Living processes of a home, this one left out."""
    mark = f"{_MARK}={path.absolute()}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def _write_app(home: Home) -> None:
    from edgeai.fedsplit.flower.app_files import write_runner

    shutil.rmtree(home.app, ignore_errors=True)
    write_runner(home.app)
    lines = ["[superlink]", 'default = "here"', "[superlink.here]", f'address = "{home.address}"']
    lines.append(f'root-certificates = "{home.root}"' if home.root else "insecure = true")
    write_whole(home.path / "flwr" / "config.toml", "\n".join(lines) + "\n")


def _run(home: Home, name: str, command: Sequence[str]) -> int:
    program = shutil.which(command[0], path=home.environment()["PATH"])
    if program is None:
        raise EdgeAIError(f"{command[0]} is not installed", hint="pip install flwr")
    with (home.path / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            [program, *command[1:]],
            env=home.environment(),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return started.pid


def _wait(is_there: Callable[[], bool], home: Home, name: str) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not is_there():
        if time.monotonic() > until_s or not marked(home.path):
            raise EdgeAIError(f"the {name} does not come up", hint=f"see {home.path / name}.log")
        time.sleep(0.1)


def flwr(home: Home, *words: str, limit_s: float = _PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Flower's command line, pointed at the SuperLink."""
    return subprocess.run(
        ["flwr", *words], env=home.environment(), cwd=home.path, capture_output=True, text=True, timeout=limit_s
    )


def _register(home: Home) -> None:
    """Makes the keys of SuperNodes known to the SuperLink."""
    for number, key in enumerate((*map(_public_half, home.node_keys), *map(_read_key, home.trusted))):
        file = home.path / f"node{number}.pub"
        write_whole(file, key)
        done = flwr(home, "supernode", "register", str(file), "here")
        if done.returncode:
            raise EdgeAIError(f"Flower does not take a SuperNode's key: {(done.stdout + done.stderr).strip()[-300:]}")


def _public_half(file: str) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(_read_key(file).encode(), password=None).public_key()
    except ValueError as error:
        raise UsageError(
            f"{file} is no private key: {error}", hint='make one: ssh-keygen -t ecdsa -b 384 -N "" -f FILE'
        ) from None
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + "\n"


def _read_key(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the key {file}: {error.strerror}") from None


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill(pid: int, sent: signal.Signals) -> None:
    try:
        os.kill(pid, sent)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, os.WNOHANG)  # if it is ours, leave no zombie
    except ChildProcessError:
        return


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
