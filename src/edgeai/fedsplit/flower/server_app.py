"""The ServerApp behind `backend: flower`: plays the runs whose directories it is told."""

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
from edgeai.fedsplit.flower.deployment import PID, Answer, new_roster, train_on_grid
from edgeai.fedsplit.flower.local.events import EventWriter
from edgeai.fedsplit.flower.transport.roster import Roster

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All runs, one after the other; each one's outcome is left beside it."""
    told = context.run_config
    os.chdir(str(told["cwd"]))  # paths in configs are those of the person who asked
    for folder in str(told["run-dirs"]).split(os.pathsep):
        (Path(folder) / PID).write_text(str(os.getpid()), encoding="ascii")
    rosters: dict[int, Roster] = {}
    for folder in str(told["run-dirs"]).split(os.pathsep):
        answer = _play(Path(folder), grid, rosters, resume=bool(told["resume"]), owner=int(told["owner"]))
        part = Path(folder) / f".{told['answer']}.part"
        part.write_bytes(pickle.dumps(answer))
        part.replace(Path(folder) / str(told["answer"]))


def _play(folder: Path, grid: Grid, rosters: dict[int, Roster], *, resume: bool, owner: int) -> Answer:
    try:
        run = Run.open(folder, listener=EventWriter(folder))
        cfg = load_config(SimConfig, run.config_path)
        roster = rosters.setdefault(cfg.num_clients, new_roster(cfg, grid))
        return Answer(report=train_on_grid(cfg, run, grid, resume=resume, owner=owner, roster=roster))
    except EdgeAIError as error:
        return Answer(error=error)
    except Exception:
        return Answer(bug=traceback.format_exc())
