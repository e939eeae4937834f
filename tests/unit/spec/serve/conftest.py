"""Fixtures: an engine on the tiny target, stepped by the tests, and recorded events."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.serve.engine.eagle3_pool import Eagle3Pool
from edgeai.spec.serve.engine.engine import Engine
from edgeai.spec.serve.engine.events import Cancelled, Done, Failed, Text
from edgeai.spec.serve.engine.sampler import RequestSampler, token_logprobs
from edgeai.spec.serve.engine.text_pool import TextPool
from edgeai.spec.serve.engine.tree_policy import FixedTree
from edgeai.spec.serve.http.api import build_app
from edgeai.spec.serve.http.jobs.served_model import served_model
from edgeai.spec.serve.http.metrics import ServerMetrics
from edgeai.spec.serve.http.server import Server, uvicorn_config
from edgeai.spec.target.build import build_target
from edgeai.spec.target.torch_runtime import DecoderTarget

TREE = TreeConfig(nodes=6, depth=3, top_k=3)


class Listening:
    """Events of one request."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(p.token for e in self.events if isinstance(e, Text) for p in e.pieces)

    @property
    def text(self) -> str:
        return "".join(p.text for e in self.events if isinstance(e, Text) for p in e.pieces)

    @property
    def end(self) -> Done | Failed | Cancelled | None:
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Done | Failed | Cancelled) else None


@pytest.fixture
def make_pool(make_head):
    """make_pool(target, kind, num_rows, capacity): an untrained head, prompt lookup, or no drafter."""

    def make(target, kind, *, num_rows, capacity, tree=TREE):
        if kind == "none":
            return None
        if kind == "ngram":
            return TextPool(lambda: Ngram(max_ngram=3, min_ngram=1), num_rows)
        vocab = min(64, target.shape.vocab_size)
        drafter = Eagle3(make_head(target, draft_vocab=vocab), target, name="head")
        return Eagle3Pool(drafter.layer, target, num_rows=num_rows, capacity=capacity, max_tree=tree)

    return make


@pytest.fixture
def make_engine(make_pool):
    """make_engine(target, kind="eagle3", num_slots=4, ...): not started; call `step`."""

    def make(target, kind="eagle3", *, num_slots=4, context=128, queue=64, policy=None, tree=TREE, **others):
        pool = make_pool(target, kind, num_rows=num_slots, capacity=context, tree=tree)
        policy = policy or FixedTree(tree if pool else None)
        return Engine(target, pool, policy, num_slots=num_slots, context=context, queue=queue, **others)

    return make


@pytest.fixture
def ask():
    """ask(engine, job): submit the job; returns its recorded events, with the handle as `handle`."""

    def submit(engine, job):
        listening = Listening()
        (listening.handle,) = engine.submit([job], [listening])
        return listening

    return submit


@pytest.fixture
def finish():
    """finish(engine, *listenings): step until all requests are complete."""

    def run(engine, *listenings, limit=2000):
        for _ in range(limit):
            if all(listening.end for listening in listenings):
                return
            engine.step()
        raise AssertionError("the engine did not finish")

    return run


@dataclass
class Running:
    """Server in a thread of this process."""

    url: str
    engine: Engine
    target: DecoderTarget
    server: Server

    def idle(self, timeout_s: float = 20.0) -> bool:
        """Return True if all slots become free in time."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if not (self.engine.num_active or self.engine.num_waiting):
                return True
            time.sleep(0.01)
        return False


@pytest.fixture
def serve(make_engine):
    """serve(target, api_key="", max_body_bytes=..., parsers={}, **engine options): a server on the loopback."""
    stack = contextlib.ExitStack()

    def start(
        target,
        *,
        api_key="",
        max_body_bytes=1 << 20,
        slow_s=0.0,
        on_prompt=None,
        cors_origins=(),
        parsers=None,
        **options,
    ):
        parsers = parsers or {}
        metrics = ServerMetrics(kv_bytes=1, num_slots=options.get("num_slots", 4))
        engine = make_engine(target, observer=metrics, **options)
        if slow_s:
            step = engine.step
            engine.step = lambda: (time.sleep(slow_s), step())
        served = served_model(target, name="tiny", context=engine.context, **parsers)
        app = build_app(
            engine,
            served,
            metrics,
            max_body_bytes=max_body_bytes,
            api_key=api_key,
            cors_origins=cors_origins,
            on_prompt=on_prompt,
        )
        listening = socket.create_server(("127.0.0.1", 0))
        server = Server(uvicorn_config(app, ServeConfig(drain_s=20)), engine)
        engine.start()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def stop():
            server.should_exit = server.force_exit = True
            thread.join(20)
            engine.close()
            listening.close()
            assert not thread.is_alive()

        stack.callback(stop)
        while not server.started:
            time.sleep(0.01)
        return Running(f"http://127.0.0.1:{listening.getsockname()[1]}", engine, target, server)

    with stack:
        yield start


@pytest.fixture(scope="session")
def target_with_template(tiny_folder, tmp_path_factory):
    """target_with_template(template): the tiny model with another chat template, loaded as any other."""
    built = {}

    def make(template):
        if template not in built:
            folder = tmp_path_factory.mktemp("template") / "model"
            shutil.copytree(tiny_folder, folder)
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
            config = TargetConfig(model=str(folder), dtype="float32")
            built[template] = build_target(config, device="cpu", metrics=Metrics(None)).with_aux_layers((1, 2, 3))
        return built[template]

    return make


@pytest.fixture
def script(monkeypatch):
    """script(target, text): every answer is this text and the end of the answer, whatever the model computes."""

    def write(target, text):
        ids = [*target.tokenizer.encode(text), *target.tokenizer.eos_ids]

        def picker(self, logits):
            def pick(row):
                self.place = getattr(self, "place", -1) + 1
                if self._job.num_logprobs is not None:
                    self.logprobs.append(token_logprobs(logits[row], ids[self.place], self._job.num_logprobs))
                return ids[self.place]

            return pick

        monkeypatch.setattr(RequestSampler, "picker", picker)

    return write
