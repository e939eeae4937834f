"""Output of `--dry-run`: the resolved config, and the work of a run."""

from typing import Any, Protocol

from edgeai.commands.render.text import print_blocks, print_json
from edgeai.core.config import Config, dump_config
from edgeai.core.report.fields import report_blocks


class Plan(Protocol):
    """A plan of a run: a dataclass with described fields."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""


def show_config(cfg: Config, *, as_json: bool) -> None:
    """Print the resolved config."""
    print_json({"config": cfg.model_dump(mode="json")}) if as_json else print(dump_config(cfg), end="")


def show_config_and_plan(cfg: Config, plan: Plan, *, as_json: bool) -> None:
    """Print the resolved config and the work of a run."""
    if as_json:
        print_json({"config": cfg.model_dump(mode="json"), "plan": plan.to_json()})
        return
    print(dump_config(cfg))
    print_blocks(report_blocks(type(plan), plan.to_json()))


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print the work of a run."""
    print_json(plan.to_json()) if as_json else print_blocks(report_blocks(type(plan), plan.to_json()))
