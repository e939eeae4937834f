"""`edgeai fedsplit export-app`: write a run as a Flower app that `flwr run` executes."""

from __future__ import annotations

from pathlib import Path

from edgeai.core.config import dump_config
from edgeai.core.errors import UsageError
from edgeai.core.files import write_whole
from edgeai.fedsplit.config.backend import FlowerConfig
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.federated import check_strategy
from edgeai.fedsplit.flower.local_deployment.app_files import write_app


def _server(about: str, imports: str, main: str, body: str) -> str:
    """Return the text of a server_app.py.

    Args:
        about: Docstring of the module.
        imports: Import lines from edgeai, sorted.
        main: Docstring of the entry point.
        body: Statements that use `cfg` and Flower's run config `told`.
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
    "The server: trains as run.yaml says, on the connected nodes, over Flower messages.",
    "from edgeai.core.run import Run\nfrom edgeai.fedsplit.flower.deployment import train_on_grid",
    "Add code before or after `train_on_grid`, which is the whole training.",
    """\
    out = Path(told["out"]) / f"run-{context.run_id}"
    run = Run.create(cfg, out=out, argv=["flwr", "run"], device="cpu", device_why="a Flower app")
    report = train_on_grid(cfg, run, grid, resume=False)
    run.finish("done", report.to_json())
    print(f"accuracy {report.accuracy}, weights {report.weights_hash[:16]}, run directory {run.path}")""",
)
_CLIENT = '''\
"""A device: the client half of the model, trained on the data of its partition-id."""

from edgeai.fedsplit.flower.client_app import app

__all__ = ["app"]
'''

_STRATEGY_SERVER = _server(
    "The server: a strategy of Flower, with the data, model and optimizer of run.yaml.",
    "from edgeai.fedsplit.flower.federated import federate",
    "Options of the strategy are keyword arguments of `federate`.",
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
    "The server learns the mean of the weights, never those of a single client.",
    """\
    _, accuracies = federate_securely(cfg, grid, context)
    print(f"accuracy after each round: {accuracies}")""",
)
_SECURE_CLIENT = '''\
"""A device: trains the whole model on the data of its partition-id and masks the weights it sends."""

from edgeai.fedsplit.flower.secure import client_app as app

__all__ = ["app"]
'''


def export(cfg: SimConfig, folder: Path, strategy: str | None = None, *, is_secure: bool = False) -> Path:
    """Write a Flower app; return its folder.

    Args:
        cfg: The run's config; its backend is replaced by the app's own.
        folder: Target folder; must be new or empty.
        strategy: Flower strategy that aggregates; None for the server of the run's method.
        is_secure: Average with SecAgg+.

    Raises:
        UsageError: The folder is not empty, or the method does not work with the strategy or with SecAgg+.
    """
    if strategy is not None:
        check_strategy(cfg, strategy)
    if is_secure:
        from edgeai.fedsplit.flower.secure import check_secure

        check_secure(cfg)
        if strategy not in (None, "FedAvg"):
            raise UsageError(
                f"SecAgg+ only averages; it cannot be combined with strategy {strategy}", hint="leave out --strategy"
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", hint="choose another folder")
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
    about = f"{cfg.method.kind} with {cfg.num_clients} clients, exported by edgeai fedsplit"
    write_app(folder, name, about, keys, {"server_app.py": server, "client_app.py": client})
    write_whole(folder / name.replace("-", "_") / "run.yaml", dump_config(own))
    return folder
