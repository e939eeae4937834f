"""A deployment on this machine: the folder that says what `edgeai fedsplit up` started, and ends all of it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import json_text, write_whole
from edgeai.fedsplit.flower.local.keys import Security, public_half, read_public
from edgeai.fedsplit.flower.local.processes import end_all, environment, is_gone, marked

HERE = ("127.0.0.1", "localhost")
_FILE = "up.json"
_PATIENCE_S = 90.0
_NODE_IS_UP = "SuperNode ID"  # Flower's words, in the log


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
        path = path.resolve()
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


def check_free(path: Path) -> None:
    """Refuses a home in which something is up.

    Raises:
        UsageError: See above.
    """
    if marked(path):
        raise UsageError(f"a Flower deployment is up in {path}", hint=f"end it first: edgeai fedsplit down {path}")


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
        host: Address of this machine at which a SuperLink listens.
        security: TLS and keys; None leaves all open, which is for this machine only.
        first: Number of the first client.

    Raises:
        UsageError: Something is up there already, or would be open to other machines.
        EdgeAIError: It does not come up.
    """
    path, security = path.resolve(), security or Security()
    security.check(num_nodes, is_local=superlink is None)
    if host == "0.0.0.0":
        raise UsageError("a SuperLink needs one address", hint="give the one by which devices reach this machine")
    if superlink is not None and security.root is None and superlink.rpartition(":")[0] not in HERE:
        raise UsageError(f"SuperNodes would talk to {superlink} without TLS", hint="give --ssl-ca-certfile")
    if superlink is None and security.certificate is None and host not in HERE:
        raise UsageError(
            f"a SuperLink on {host} without TLS is open to everyone", hint="give --self-signed, or --ssl-certfile ..."
        )
    check_free(path)
    (path / "flwr").mkdir(parents=True, exist_ok=True)
    port = _free_port()
    home = Home(
        path,
        superlink or f"{host}:{port}",
        host=host,
        num_nodes=num_nodes,
        node_ports=tuple(_free_port() for _ in range(num_nodes)),
        certificate=_text(security.certificate),
        key=_text(security.key),
        root=_text(security.root),
        node_keys=tuple(str(key.absolute()) for key in security.node_keys),
        trusted=tuple(str(key.absolute()) for key in security.trusted),
    )
    keys = [public_half(key) for key in security.node_keys] + [read_public(key) for key in security.trusted]
    _write_app(home)
    try:
        if superlink is None:
            home.pids["superlink"] = _run(home, "superlink", superlink_command(home, port))
            _wait(lambda: _listens(host, port), home, "superlink")
            _register(home, keys)
        logs = [start_node(home, number, client=first + number) for number in range(num_nodes)]
        for number, said in enumerate(logs):
            _wait(lambda said=said: _NODE_IS_UP in said(), home, f"node{number}")  # type: ignore[misc]
        home.save()
    except BaseException:
        stop(path)
        raise
    return home


def start_node(home: Home, number: int, *, client: int) -> Callable[[], str]:
    """Starts a SuperNode, or starts it again; returns what reads its log from now on."""
    log = home.path / f"node{number}.log"
    begin = log.stat().st_size if log.exists() else 0
    command = ["flower-supernode", "--superlink", home.address, "--port", str(home.node_ports[number])]
    command += ["--node-config", f"partition-id={client}"]
    command += ["--root-certificates", home.root] if home.root else ["--insecure"]
    if home.node_keys:
        command += ["--auth-supernode-private-key", home.node_keys[number]]
    home.pids[f"node{number}"] = _run(home, f"node{number}", command)
    return lambda: log.read_bytes()[begin:].decode("utf-8", "replace")


def superlink_command(home: Home, port: int) -> list[str]:
    """The SuperLink's command line."""
    command = ["flower-superlink", "--disable-runtime-dependency-installation"]
    command += ["--host", home.host, "--port", str(port)]
    if home.certificate is None:
        return [*command, "--insecure"]
    command += ["--ssl-certfile", home.certificate, "--ssl-keyfile", str(home.key), "--ssl-ca-certfile", str(home.root)]
    return [*command, "--enable-supernode-auth"] if home.node_keys or home.trusted else command


def flwr(home: Home, *words: str, limit_s: float = _PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Flower's command line, pointed at the SuperLink.

    Raises:
        EdgeAIError: It does not end.
    """
    try:
        return subprocess.run(["flwr", *words], env=home.environment(), capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise EdgeAIError(
            f"`flwr {words[0]}` does not end within {limit_s:g} s", hint=f"see {home.path / 'superlink.log'}"
        ) from None


def stop(path: Path) -> int:
    """Ends every process of a home; returns how many there were."""
    num_ended = end_all(path)
    (path / _FILE).unlink(missing_ok=True)
    return num_ended


def _register(home: Home, keys: Sequence[str]) -> None:
    """Makes the keys of SuperNodes known to the SuperLink."""
    for number, key in enumerate(keys):
        file = home.path / f"known{number}.pub"
        write_whole(file, key)
        done = flwr(home, "supernode", "register", str(file), "here")
        if done.returncode:
            raise EdgeAIError(f"Flower does not take a SuperNode's key: {(done.stdout + done.stderr).strip()[-300:]}")


def _write_app(home: Home) -> None:
    from edgeai.fedsplit.flower.local.app_files import write_runner

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
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return started.pid


def _wait(is_there: Callable[[], bool], home: Home, name: str) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not is_there():
        if time.monotonic() > until_s or is_gone(home.pids[name]):
            raise EdgeAIError(f"the {name} does not come up", hint=f"see {home.path / name}.log")
        time.sleep(0.1)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
