"""Flower's grid without Flower's engines: device programs in this process answer the messages."""

from __future__ import annotations

import dataclasses
import pickle
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from edgeai.core.run import Run
from edgeai.fedsplit.config.run import SimConfig
from edgeai.fedsplit.flower.client_program import Program
from edgeai.fedsplit.flower.device import config_text
from edgeai.fedsplit.flower.flower_devices import FlowerDevices
from edgeai.fedsplit.flower.local_deployment.home import Home
from edgeai.fedsplit.flower.transport.client_nodes import ClientNodes
from edgeai.fedsplit.flower.transport.device_transport import ONCE_A_ROUND
from edgeai.fedsplit.flower.transport.message_transport import MessageTransport
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.history import History
from edgeai.fedsplit.sim.train import play_round

NUM_CLIENTS = 3
PATIENCE_S = 240.0


def hear_ctrl_c() -> None:
    """Runs in a new process: it listens to SIGINT even if the tests run in the background, where shells ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class LoopGrid:
    """A grid whose nodes 100, 101, ... are clients 0, 1, ...; program i modulo their number answers message i.

    Args:
        num_programs: Number of device programs, which stand for processes.
    """

    def __init__(self, num_programs: int = 1) -> None:
        self.programs = [Program() for _ in range(num_programs)]
        self.contexts = {
            100 + client: Context(
                run_id=1, node_id=100 + client, node_config={"partition-id": client}, state=RecordDict(), run_config={}
            )
            for client in range(NUM_CLIENTS)
        }
        self.replies: dict[str, Message] = {}
        self.pushed: list[Message] = []
        self.silent: set[int] = set()
        """Nodes that answer nothing."""

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            ids.append(message.metadata.message_id)
            self.pushed.append(message)
            if message.metadata.dst_node_id not in self.silent:
                self.replies[ids[-1]] = self.answer(message)
        return ids

    def pull_messages(self, ids: Iterable[str]) -> list[Message]:
        return [self.replies.pop(one) for one in list(ids) if one in self.replies]

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = pickle.loads(pickle.dumps(self.contexts[node]))  # as Ray does
        if message.metadata.message_type == "query.hello":
            content = RecordDict({"hello": ConfigRecord({"client": context.node_config["partition-id"]})})
        else:
            program = self.programs[len(self.pushed) % len(self.programs)]
            content = program.exchange(message.content, context)
        self.contexts[node] = context
        return Message(content, reply_to=message)


def config(**changes: Any) -> SimConfig:
    if isinstance(changes.get("method"), str):
        changes["method"] = {"kind": changes["method"]}
    data = {"data": {"kind": "digits"}, "num_clients": NUM_CLIENTS, "batch": 256, "rounds": 2, "cut": 1}
    return SimConfig.model_validate({**data, **changes})


def devices_on(grid: Any, cfg: SimConfig, *, silence_s: float = 5.0) -> Any:
    """A run whose devices are behind a grid."""
    sim = build_sim(cfg)
    nodes = ClientNodes(grid, cfg.num_clients, interval_s=0.001, patience_s=5.0)
    nodes.wait_for(cfg.num_clients)
    transport = MessageTransport(
        grid,
        nodes,
        config_text(cfg),
        threads=0,
        interval_s=0.001,
        silence_s=silence_s,
        is_logged=True,
        is_single=cfg.method.kind in ONCE_A_ROUND,
    )
    return dataclasses.replace(sim, devices=FlowerDevices(sim, transport, "cpu"))


def new_run(home: Home, path: Path, **changes: Any) -> tuple[SimConfig, Run]:
    """Return a run of two clients on a deployment."""
    backend = {
        "kind": "flower",
        "home": str(home.path),
        "silence_s": PATIENCE_S,
        "start_s": PATIENCE_S,
        **changes.pop("backend", {}),
    }
    cfg = config(num_clients=2, backend=backend, **changes)
    return cfg, Run.create(cfg, out=path, argv=["edgeai"], device="cpu", device_why="test")


def outcome_of(sim: Any) -> dict[str, Any]:
    """Run all rounds; return the report without accuracy."""
    history = History(sim)
    for number in range(1, sim.cfg.rounds + 1):
        history.add(play_round(sim, number), None)
    return history.report().to_json()


@pytest.fixture(name="_true_model")
def _true_model(_tiny_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes build the model that the config names."""
    monkeypatch.undo()


@pytest.fixture(name="grid")
def _grid(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoopGrid]:
    """Set the identity that Flower requires to create messages."""
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    return LoopGrid
