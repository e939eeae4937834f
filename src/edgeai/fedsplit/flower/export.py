"""`edgeai fedsplit export-app`: a run as a Flower app of a person's own, for `flwr run`."""

from __future__ import annotations

from pathlib import Path

from edgeai.core.config import dump_config
from edgeai.core.errors import UsageError
from edgeai.core.files import write_whole
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.federated import check_strategy
from edgeai.fedsplit.flower.local.app_files import write_app


def _server(about: str, imports: str, main: str, body: str) -> str:
    """The text of a server_app.py: what all of them share around what one of them does.

    Args:
        about: The module's docstring.
        imports: From edgeai, sorted.
        main: Docstring of the entry point.
        body: What becomes of `cfg`, with `told` being the run's config.
    """
    return f'''\
"""{about}"""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from edgeai.core.config import load_config
{imports}
from edgeai.fedsplit.config.run import SimConfig

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """{main}"""
    told = context.run_config
    cfg = load_config(SimConfig, Path(__file__).parent / "run.yaml", [f"rounds={{told['rounds']}}"])
{body}
'''


_SERVER = _server(
    "The server: plays the run of run.yaml among the nodes that are there, by Flower's messages.",
    "from edgeai.core.run import Run\nfrom edgeai.fedsplit.flower.deployment import train_on_grid",
    "Change what you like: `train_on_grid` is the whole of edgeai's part.",
    """\
    out = Path(told["out"]) / f"run-{context.run_id}"
    run = Run.create(cfg, out=out, argv=["flwr", "run"], device="cpu", device_why="a Flower app")
    report = train_on_grid(cfg, run, grid, resume=False)
    run.finish("done", report.to_json())
    print(f"accuracy {report.accuracy}, weights {report.weights_hash[:16]}, all of it in {run.path}")""",
)
_CLIENT = '''\
"""A device: the half of the model that the run's method gives it, on the data of its partition-id."""

from edgeai.fedsplit.flower.client_app import app

__all__ = ["app"]
'''

_STRATEGY_SERVER = _server(
    "The server: one of Flower's strategies, with the data, model and optimizer of run.yaml.",
    "from edgeai.fedsplit.flower.federated import federate",
    "Options of the strategy are keywords of `federate`.",
    """\
    noise, clip = float(told["dp-noise"]), float(told["dp-clip"])
    print(federate(cfg, str(told["strategy"]), grid, dp_noise=noise, dp_clip=clip))""",
)
_STRATEGY_CLIENT = '''\
"""A device: trains the whole model on the data of its partition-id."""

from edgeai.fedsplit.flower.federated import client_app as app

__all__ = ["app"]
'''

_SECURE_SERVER = _server(
    "The server: federated averaging by Flower's SecAgg+, with the data, model and optimizer of run.yaml.",
    "from edgeai.fedsplit.flower.secure import federate_securely",
    "The server learns the clients' mean, and no client's weights.",
    """\
    _, accuracies = federate_securely(cfg, grid, context)
    print(f"accuracy after each round: {accuracies}")""",
)
_SECURE_CLIENT = '''\
"""A device: trains the whole model on the data of its partition-id, and masks what it sends."""

from edgeai.fedsplit.flower.secure import client_app as app

__all__ = ["app"]
'''


def export(cfg: SimConfig, folder: Path, strategy: str | None = None, *, is_secure: bool = False) -> Path:
    """Writes the app.

    Args:
        cfg: Of the run; its backend is left out, since the app brings its own.
        folder: New, or empty.
        strategy: One of Flower's that takes the server's place; None leaves it to the method.
        is_secure: Average by SecAgg+.

    Raises:
        UsageError: The folder holds something, or the strategy does not fit.
    """
    if strategy is not None:
        check_strategy(cfg, strategy)
    if is_secure:
        from edgeai.fedsplit.flower.secure import check_secure

        check_secure(cfg)
        if strategy not in (None, "FedAvg"):
            raise UsageError(f"SecAgg+ averages, and {strategy} does something else", hint="leave --strategy out")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="choose another folder")
    name = f"edgeai-{cfg.method.kind}"
    own = cfg.model_copy(update={"backend": FlowerConfig(transport="message", min_nodes=cfg.num_clients)})
    keys = {"rounds": str(cfg.rounds)}
    if is_secure:
        server, client = _SECURE_SERVER, _SECURE_CLIENT
    elif strategy:
        server, client = _STRATEGY_SERVER, _STRATEGY_CLIENT
        keys |= {"strategy": f'"{strategy}"', "dp-noise": "0.0", "dp-clip": "1.0"}
    else:
        server, client = _SERVER, _CLIENT
        keys |= {"out": f'"{(folder / "runs").absolute()}"'}
    about = f"{cfg.method.kind} among {cfg.num_clients} clients, by edgeai fedsplit"
    write_app(folder, name, about, keys, {"server_app.py": server, "client_app.py": client})
    write_whole(folder / name.replace("-", "_") / "run.yaml", dump_config(own))
    return folder
