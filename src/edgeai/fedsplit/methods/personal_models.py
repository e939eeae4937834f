"""Personal models: each client's private layers joined with the common layers behind its cut."""

from __future__ import annotations

from edgeai.fedsplit.cuts.split_model import SplitModel
from edgeai.fedsplit.methods.method import Evaluated, Kept, Method
from edgeai.fedsplit.methods.weight_tags import model_weights


def personal_model(method: Method, client: int, kept: Kept) -> SplitModel:
    """Return one client's model: its private layers and the common layers behind its cut."""
    model = method.setup.model.copy()
    model.load(method.global_model.weights(method.setup.positions[client]))
    model.load(model_weights(kept(client)))
    return model


def personal_models(method: Method, kept: Kept) -> list[Evaluated]:
    """Return the models of all clients, for evaluation."""
    clients = range(len(method.setup.positions))
    return [Evaluated(method.whole(personal_model(method, client, kept)), client) for client in clients]
