"""The home folder of a Flower deployment on this machine: its state file and Flower's command line pointed at it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.files import json_text, write_whole
from edgeai.fedsplit.flower.local_deployment.processes import environment, marked

LOOPBACK = ("127.0.0.1", "localhost")
STATE_FILE = "up.json"
_LIMIT_S = 90.0


@dataclass(frozen=True)
class Home:
    """A running deployment."""

    path: Path
    address: str
    """Address of the SuperLink, HOST:PORT."""
    pids: dict[str, int] = field(default_factory=dict)
    """Process ids by name: superlink, node0, node1, ..."""
    host: str = "127.0.0.1"
    """Address that the SuperLink listens on."""
    num_nodes: int = 0
    node_ports: tuple[int, ...] = ()
    certificate: str | None = None
    key: str | None = None
    root: str | None = None
    """Certificate of the authority that SuperNodes and `flwr run` trust."""
    node_keys: tuple[str, ...] = ()
    """Private keys of the SuperNodes on this machine."""
    trusted: tuple[str, ...] = ()
    """Public keys of SuperNodes elsewhere that may join."""

    @classmethod
    def open(cls, path: Path) -> Home:
        """Read the state file of a home.

        Raises:
            UsageError: No deployment is running there.
        """
        path = path.resolve()
        try:
            found = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            raise UsageError(f"no Flower deployment is up in {path}", hint="start one: edgeai fedsplit up") from None
        lists = {name: tuple(found[name]) for name in ("node_ports", "node_keys", "trusted")}
        return cls(**{**found, "path": Path(found["path"]), **lists})

    @property
    def has_superlink(self) -> bool:
        """Whether the SuperLink was started on this machine."""
        return "superlink" in self.pids

    @property
    def is_up(self) -> bool:
        """Whether the SuperLink is running; one on another machine is assumed to be."""
        return not self.has_superlink or self.pids["superlink"] in marked(self.path)

    @property
    def app(self) -> Path:
        """The Flower app that runs are submitted as."""
        return self.path / "app"

    def environment(self) -> dict[str, str]:
        """Return the environment of Flower's programs."""
        return environment(self.path)

    def save(self) -> None:
        """Write the state file."""
        write_whole(self.path / STATE_FILE, json_text({**asdict(self), "path": str(self.path)}) + "\n")


def check_free(path: Path) -> None:
    """Check that no deployment is running in a folder.

    Raises:
        UsageError: One is.
    """
    if marked(path):
        raise UsageError(f"a Flower deployment is up in {path}", hint=f"end it first: edgeai fedsplit down {path}")


def flwr(home: Home, *words: str, limit_s: float = _LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run Flower's command line with this home's configuration.

    Raises:
        EdgeAIError: The command does not end in time.
    """
    try:
        return subprocess.run(["flwr", *words], env=home.environment(), capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise EdgeAIError(
            f"`flwr {words[0]}` does not end within {limit_s:g} s", hint=f"see {home.path / 'superlink.log'}"
        ) from None
