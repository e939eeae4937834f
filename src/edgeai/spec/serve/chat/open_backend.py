"""`edgeai spec chat`: open the chat backend that a config describes."""

from __future__ import annotations

from edgeai.core.run import Run
from edgeai.spec.config.chat import ChatConfig
from edgeai.spec.config.serve import ServeConfig
from edgeai.spec.serve.build import build_engine, build_parts
from edgeai.spec.serve.chat.backend import ChatBackend
from edgeai.spec.serve.chat.local import LocalBackend
from edgeai.spec.serve.chat.remote import RemoteBackend
from edgeai.spec.serve.client import ChatOptions


def open_backend(cfg: ChatConfig, run: Run, *, api_key: str = "") -> ChatBackend:
    """Connect to the server at `cfg.url`, or load the model into this process if the address is empty.

    Args:
        cfg: Model or address, sampling options and answer length.
        run: Run that names the device and receives notes.
        api_key: Key that the server requires; empty sends none.

    Raises:
        EdgeAIError: No server answers, or the model cannot be loaded.
    """
    options = ChatOptions(cfg.sampling, cfg.max_tokens, cfg.system)
    if cfg.url:
        return RemoteBackend(cfg.url, options, api_key=api_key)
    serve = ServeConfig(target=cfg.target, draft=cfg.draft, tree=cfg.tree, context=cfg.context, slots=1)
    parts = build_parts(serve, device=run.info["device"], metrics=run.metrics)
    return LocalBackend(build_engine(serve, parts), parts.served, options)
