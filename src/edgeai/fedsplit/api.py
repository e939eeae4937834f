"""The functions of `from edgeai import fedsplit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.core.metrics import Metrics
from edgeai.core.python_api.configs import Overrides, settle_config
from edgeai.core.python_api.library_run import library_run
from edgeai.core.python_api.missing import names_missing_packages
from edgeai.core.python_api.progress import CallbackListener, OnProgress
from edgeai.fedsplit.config.advise import AdviseConfig
from edgeai.fedsplit.config.run import CompareConfig, SimConfig

if TYPE_CHECKING:
    from edgeai.fedsplit.reports.advise_report import AdviseReport
    from edgeai.fedsplit.reports.compare_report import CompareReport
    from edgeai.fedsplit.reports.partition_report import PartitionReport
    from edgeai.fedsplit.reports.run_report import SimReport
    from edgeai.fedsplit.sim.verify import VerifyReport


@names_missing_packages
def simulate(
    config: SimConfig | str | Path | None = None,
    *,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> SimReport:
    """Train one model across simulated clients, with accuracy, bytes, virtual time and energy counted.

    Args:
        config: Config object, shipped name such as "fedsplit/smoke", YAML file, or None for "fedsplit/default".
        overrides: Config keys to change, such as {"method.kind": "fedavg", "rounds": 10}.
        out: Run directory with a checkpoint per round; None uses a temporary one.
        resume: Continue the interrupted run in `out` with its own config; the result is the same to the bit.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called after each round.

    Returns:
        Accuracy, traffic, time and energy per round and in total.

    Raises:
        UsageError: The config or `out` cannot be used, or the method does not fit the model or the data.
        EdgeAIError: The loss became NaN or infinite, or a package that the config needs is not installed.

    Examples:
        >>> from edgeai import fedsplit
        >>> report = fedsplit.simulate("fedsplit/smoke", overrides={"rounds": 3})
        >>> print([row.accuracy for row in report.rounds])
    """
    cfg = settle_config(SimConfig, config, overrides, default="fedsplit/default", resume=resume, out=out)
    from edgeai.fedsplit.experiments.simulate import simulate as run_sim

    with library_run(
        cfg, call="edgeai.fedsplit.simulate", out=out, device=device, on_progress=on_progress, resume=resume
    ) as run:
        report = run_sim(cfg, run, resume=resume)
        run.finish("done", report.to_json())
    return report


@names_missing_packages
def compare(
    config: CompareConfig | str | Path | None = None,
    *,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> CompareReport:
    """Run several methods, cuts, partitions and seeds, and compare their results.

    The runs are spread over processes. A script must therefore call this below `if __name__ == "__main__":`.

    Args:
        config: Config object, shipped name such as "fedsplit/compare-smoke", YAML file, or None for
            "fedsplit/compare".
        overrides: Config keys to change, such as {"seeds": [0, 1], "processes": 1}.
        out: Run directory with one folder per run; None uses a temporary one.
        resume: Play only the runs that are missing in `out`, with its own config.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called after each run.

    Returns:
        Means and spreads over the seeds for each method, cut and partition.

    Raises:
        UsageError: The config or `out` cannot be used.
        EdgeAIError: All runs failed.

    Examples:
        >>> report = fedsplit.compare("fedsplit/compare-smoke", out="runs/compare")
    """
    cfg = settle_config(CompareConfig, config, overrides, default="fedsplit/compare", resume=resume, out=out)
    from edgeai.fedsplit.experiments.compare import run_compare

    with library_run(
        cfg, call="edgeai.fedsplit.compare", out=out, device=device, on_progress=on_progress, resume=resume
    ) as run:
        report = run_compare(cfg, run)
        run.finish("failed" if report.failures else "done", report.to_json())
    return report


@names_missing_packages
def recommend(
    config: AdviseConfig | str | Path = "fedsplit/advise", *, overrides: Overrides | None = None
) -> AdviseReport:
    """Estimate the costs of every cut and method for a model, devices and links, from shapes alone.

    Nothing is trained. This is `edgeai fedsplit advise`.

    Args:
        config: Config object, shipped name such as "fedsplit/advise-7b", or YAML file.
        overrides: Config keys to change, such as {"num_clients": 10}.

    Returns:
        Time, traffic, energy and memory of every choice, and the recommended ones.

    Raises:
        UsageError: The config is invalid, the model has fewer than two layers, or a device is unknown.

    Examples:
        >>> report = fedsplit.recommend("fedsplit/advise")
    """
    cfg = settle_config(AdviseConfig, config, overrides)
    from edgeai.fedsplit.advise.choices import advise

    return advise(cfg)


@names_missing_packages
def describe_partition(
    config: SimConfig | str | Path = "fedsplit/default", *, overrides: Overrides | None = None
) -> PartitionReport:
    """Show how the data of a simulation are divided among its clients.

    Nothing is trained. This is `edgeai fedsplit partition`.

    Args:
        config: Config object, shipped name such as "fedsplit/smoke", or YAML file.
        overrides: Config keys to change, such as {"partition": {"kind": "dirichlet", "alpha": 0.1}}.

    Returns:
        Samples and classes of each client, and the distance of its classes from those of all samples.

    Raises:
        UsageError: The config is invalid, or the data cannot be read or partitioned like this.

    Examples:
        >>> report = fedsplit.describe_partition(overrides={"partition.alpha": 0.1})
    """
    cfg = settle_config(SimConfig, config, overrides)
    from edgeai.fedsplit.partition.describe import describe_partition as describe

    return describe(cfg.data, cfg.partition, num_clients=cfg.num_clients, seed=cfg.seed)


@names_missing_packages
def verify(*, on_progress: OnProgress | None = None) -> VerifyReport:
    """Check identities between methods that must hold on this machine, most of them to the bit.

    Args:
        on_progress: Called after each check.

    Returns:
        One entry per identity, and the number of those that do not hold (`num_failed`).

    Examples:
        >>> fedsplit.verify().num_failed
        0
    """
    from edgeai.fedsplit.sim.verify import verify as check

    return check(Metrics(None, listener=CallbackListener(on_progress)))
