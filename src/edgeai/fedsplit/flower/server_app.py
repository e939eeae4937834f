"""The ServerApp behind `backend: flower`: executes the runs whose directories it is given."""

from __future__ import annotations

import os
import pickle
import traceback
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.deployment import new_nodes, train_on_grid
from edgeai.fedsplit.flower.local_deployment.event_file import EventWriter
from edgeai.fedsplit.flower.run_outcome import PID, RunOutcome
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute all runs in order; write the outcome of each into its directory."""
    told = context.run_config
    os.chdir(str(told["cwd"]))  # relative paths in configs are relative to the submitting process
    folders = [Path(folder) for folder in str(told["run-dirs"]).split(os.pathsep)]
    for folder in folders:
        (folder / PID).write_text(str(os.getpid()), encoding="ascii")
    known: dict[int, ClientNodes] = {}
    for folder in folders:
        outcome = _execute(folder, grid, known, resume=bool(told["resume"]), owner=int(told["owner"]))
        part = folder / f".{told['answer']}.part"
        part.write_bytes(pickle.dumps(outcome))
        part.replace(folder / str(told["answer"]))


def _execute(folder: Path, grid: Grid, known: dict[int, ClientNodes], *, resume: bool, owner: int) -> RunOutcome:
    """Execute one run.

    Args:
        folder: The run directory.
        grid: Flower's grid.
        known: SuperNodes known from earlier runs, by number of clients; extended here.
        resume: Continue from the state saved in the run directory.
        owner: Process that submitted the run.
    """
    try:
        run = Run.open(folder, listener=EventWriter(folder))
        cfg = load_config(SimConfig, run.config_path)
        nodes = known.setdefault(cfg.num_clients, new_nodes(cfg, grid))
        return RunOutcome(report=train_on_grid(cfg, run, grid, resume=resume, owner=owner, nodes=nodes))
    except EdgeAIError as error:
        return RunOutcome(error=error)
    except Exception:
        return RunOutcome(bug=traceback.format_exc())
