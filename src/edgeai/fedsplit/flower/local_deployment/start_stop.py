"""Start a SuperLink and SuperNodes on this machine, and end them with everything they started."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import write_whole
from edgeai.fedsplit.flower.local_deployment.app_files import write_runner
from edgeai.fedsplit.flower.local_deployment.home import LOOPBACK, STATE_FILE, Home, check_free, flwr
from edgeai.fedsplit.flower.local_deployment.processes import end_all, is_gone
from edgeai.fedsplit.flower.local_deployment.security import Security, public_half, read_public

_START_S = 90.0
_NODE_IS_UP = "SuperNode ID"  # in the SuperNode's log


def start(
    path: Path,
    num_nodes: int,
    *,
    superlink: str | None = None,
    host: str = "127.0.0.1",
    security: Security | None = None,
    first: int = 0,
) -> Home:
    """Start a SuperLink and SuperNodes; SuperNode i is client `first` + i.

    Args:
        path: Home folder, for logs and state.
        num_nodes: Number of SuperNodes.
        superlink: Address of a SuperLink on another machine; then only SuperNodes are started.
        host: Address of this machine that the SuperLink listens on.
        security: TLS and keys; None for neither, which is allowed on the loopback interface only.
        first: Client number of the first SuperNode.

    Raises:
        UsageError: A deployment is already running there, or it would be open to other machines.
        EdgeAIError: A process does not start.
    """
    path, security = path.resolve(), security or Security()
    security.check(num_nodes, is_local=superlink is None)
    if host == "0.0.0.0":
        raise UsageError("a SuperLink needs one address", hint="give the address at which devices reach this machine")
    if superlink is not None and security.root is None and superlink.rpartition(":")[0] not in LOOPBACK:
        raise UsageError(f"SuperNodes would connect to {superlink} without TLS", hint="give --ssl-ca-certfile")
    if superlink is None and security.certificate is None and host not in LOOPBACK:
        raise UsageError(
            f"a SuperLink on {host} without TLS is open to anyone on the network",
            hint="give --self-signed, or --ssl-certfile ...",
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
    """Start or restart a SuperNode; return a function that reads its log from this moment on."""
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
    """Return the SuperLink's command line."""
    command = ["flower-superlink", "--disable-runtime-dependency-installation"]
    command += ["--host", home.host, "--port", str(port)]
    if home.certificate is None:
        return [*command, "--insecure"]
    command += ["--ssl-certfile", home.certificate, "--ssl-keyfile", str(home.key), "--ssl-ca-certfile", str(home.root)]
    return [*command, "--enable-supernode-auth"] if home.node_keys or home.trusted else command


def stop(path: Path) -> int:
    """End every process of a home; return their number."""
    num_ended = end_all(path)
    (path / STATE_FILE).unlink(missing_ok=True)
    return num_ended


def _register(home: Home, keys: Sequence[str]) -> None:
    """Register the public keys of SuperNodes with the SuperLink."""
    for number, key in enumerate(keys):
        file = home.path / f"known{number}.pub"
        write_whole(file, key)
        done = flwr(home, "supernode", "register", str(file), "here")
        if done.returncode:
            raise EdgeAIError(f"Flower rejects a SuperNode's key: {(done.stdout + done.stderr).strip()[-300:]}")


def _write_app(home: Home) -> None:
    """Write the app that runs are submitted as, and Flower's configuration."""
    shutil.rmtree(home.app, ignore_errors=True)
    write_runner(home.app)
    lines = ["[superlink]", 'default = "here"', "[superlink.here]", f'address = "{home.address}"']
    lines.append(f'root-certificates = "{home.root}"' if home.root else "insecure = true")
    write_whole(home.path / "flwr" / "config.toml", "\n".join(lines) + "\n")


def _run(home: Home, name: str, command: Sequence[str]) -> int:
    """Start a program with its output in a log file; return its process id."""
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
    until_s = time.monotonic() + _START_S
    while not is_there():
        if time.monotonic() > until_s or is_gone(home.pids[name]):
            raise EdgeAIError(f"the {name} does not start", hint=f"see {home.path / name}.log")
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
