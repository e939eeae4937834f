"""Flower's strategies with our devices."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message

from edgeai.core.errors import UsageError
from edgeai.fedsplit.flower.export import export
from edgeai.fedsplit.flower.federated import federate, train_here
from edgeai.fedsplit.sim.build import build_sim
from edgeai.fedsplit.sim.train import play_round

from .conftest import config


@pytest.fixture(name="federated_grid")
def _federated_grid(grid: Callable[..., Any]) -> Any:
    class Federated(grid):  # type: ignore[misc]
        def answer(self, message: Any) -> Any:
            return Message(train_here(message.content, message.metadata.dst_node_id - 100), reply_to=message)

        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            return self.pull_messages(self.push_messages(messages))

    return Federated()


def test_flowers_fedavg_is_ours(federated_grid: Any) -> None:
    """Equal up to the order of sums: Flower adds in float64, we add in float32."""
    cfg = config(method="fedavg", rounds=2)
    result = federate(cfg, "FedAvg", federated_grid)
    expected = build_sim(cfg)
    for number in (1, 2):
        play_round(expected, number)
    found = result.arrays.to_torch_state_dict()
    for name, value in expected.method.global_model.model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_other_strategies_aggregate_otherwise(federated_grid: Any) -> None:
    cfg = config(method="fedavg", rounds=1)
    result = federate(cfg, "FedMedian", federated_grid)
    rows = [train_here(message.content, message.metadata.dst_node_id - 100) for message in federated_grid.pushed]
    states = [row["arrays"].to_torch_state_dict() for row in rows]
    for name, value in result.arrays.to_torch_state_dict().items():
        median = torch.stack([state[name] for state in states]).median(dim=0).values
        torch.testing.assert_close(value, median)


def test_flowers_privacy_clips_adds_noise_and_accounts(federated_grid: Any, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(method="fedavg", rounds=1)
    before = build_sim(cfg).method.global_model.model.state_dict()

    def moved(**privacy: float) -> torch.Tensor:
        after = federate(cfg, "FedAvg", federated_grid, **privacy).arrays.to_torch_state_dict()
        return torch.cat([(after[name] - before[name]).flatten() for name in before])

    free, clipped = moved(), moved(dp_noise=1e-9, dp_clip=0.001)
    assert free.norm() > 0.01
    assert 0 < clipped.norm() <= 0.00101
    noisy = moved(dp_noise=10.0, dp_clip=0.3)
    assert noisy.std() == pytest.approx(10.0 * 0.3 / cfg.num_clients, rel=0.1), "sigma = z C / n"
    assert "Privacy spent: epsilon=" in caplog.text


def test_strategies_that_do_not_fit_are_refused(federated_grid: Any) -> None:
    with pytest.raises(UsageError) as caught:
        federate(config(method="fedavg"), "FedAdm", federated_grid)
    assert str(caught.value) == 'Flower has no strategy "FedAdm" for weights'
    assert caught.value.hint.startswith('did you mean "FedAdam"? there are: Bulyan, FedAdagrad')
    with pytest.raises(UsageError) as caught:
        federate(config(method="relay"), "FedAvg", federated_grid)
    assert str(caught.value) == "Flower's strategies aggregate whole models, which relay does not train"


def test_secure_sums_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for changes, strategy, text in (
        ({"method": "fedavg", "num_clients": 2}, None, "SecAgg+ with 2 clients hides no weights from them"),
        ({"method": "psl"}, None, "SecAgg+ sums weights, but psl sends more than weights"),
        ({"method": "fedavg"}, "FedAdam", "SecAgg+ only averages; it cannot be combined with strategy FedAdam"),
    ):
        with pytest.raises(UsageError) as caught:
            export(config(**changes), tmp_path / "app", strategy, is_secure=True)
        assert str(caught.value) == text


@pytest.mark.parametrize(("strategy", "is_secure"), [(None, False), ("FedAdam", False), (None, True)])
def test_an_app_is_a_flower_app(strategy: str | None, is_secure: bool, tmp_path: Path) -> None:
    folder = export(config(method="fedavg"), tmp_path / "app", strategy, is_secure=is_secure)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "edgeai_fedavg.server_app:app",
        "clientapp": "edgeai_fedavg.client_app:app",
    }
    for name in ("server_app", "client_app"):
        source = (folder / "edgeai_fedavg" / f"{name}.py").read_text()
        scope: dict[str, Any] = {"__file__": str(folder / "edgeai_fedavg" / f"{name}.py"), "__name__": name}
        exec(compile(source, name, "exec"), scope)
        assert type(scope["app"]).__name__ == ("ServerApp" if name == "server_app" else "ClientApp")
    with pytest.raises(UsageError) as caught:
        export(config(method="fedavg"), folder)
    assert str(caught.value) == f"{folder} is not empty"
