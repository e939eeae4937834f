"""The functions of `from edgeai import collab`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig
from edgeai.core.python_api.configs import Overrides, settle_config
from edgeai.core.python_api.library_run import library_run
from edgeai.core.python_api.missing import names_missing_packages
from edgeai.core.python_api.progress import OnProgress
from edgeai.core.run import Status

if TYPE_CHECKING:
    from edgeai.collab.models.seg_model import SegModel
    from edgeai.collab.reports.compare_report import CompareReport
    from edgeai.collab.reports.run_report import RunReport
    from edgeai.collab.streams.stream import Stream


@names_missing_packages
def run(
    config: CollabRunConfig | str | Path = "collab/default",
    *,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Play a stream through edge, link and cloud in virtual time.

    Args:
        config: Config object, shipped name such as "collab/smoke", or YAML file.
        overrides: Config keys to change, such as {"strategy": "edge-only", "link": "wifi"}.
        out: Run directory for one record per frame and the report; None uses a temporary one.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called after each frame.

    Returns:
        Quality, uploads, traffic, latency and model updates of the whole run and of each drift segment.

    Raises:
        UsageError: The config, the stream, a model, the link's trace or `out` cannot be used.
        EdgeAIError: A package that the config needs is not installed.
        KeyboardInterrupt: Ctrl-C; `out` then holds the report of the frames until then.

    Examples:
        >>> from edgeai import collab
        >>> report = collab.run("collab/smoke", overrides={"strategy": "cloud-only"})
        >>> print(report.evaluation.total.upload_rate)
    """
    cfg = settle_config(CollabRunConfig, config, overrides)
    from edgeai.collab.sim.run import run_collab

    with library_run(cfg, call="edgeai.collab.run", out=out, device=device, on_progress=on_progress) as recorded:
        report = run_collab(cfg, recorded)
        recorded.finish("interrupted" if report.interrupted else "done", report.to_json())
    if report.interrupted:
        raise KeyboardInterrupt
    return report


@names_missing_packages
def compare(
    config: CollabCompareConfig | str | Path | None = None,
    *,
    overrides: Overrides | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> CompareReport:
    """Play the same recorded streams through several strategies and seeds.

    Args:
        config: Config object, shipped name such as "collab/compare-smoke", YAML file, or None for "collab/compare".
        overrides: Config keys to change, such as {"seeds": [0, 1]}.
        out: Run directory with one folder per strategy and seed; None uses a temporary one.
        resume: Play only the runs that are missing in `out`, with its own config.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        on_progress: Called after each frame.

    Returns:
        Means and spreads over the seeds per strategy, and differences seed by seed.

    Raises:
        UsageError: The config, the stream, a model or `out` cannot be used.
        EdgeAIError: All runs failed, or a package that the config needs is not installed.
        KeyboardInterrupt: Ctrl-C; `out` then holds the report of the finished runs.

    Examples:
        >>> report = collab.compare("collab/compare-smoke", out="runs/compare")
    """
    cfg = settle_config(CollabCompareConfig, config, overrides, default="collab/compare", resume=resume, out=out)
    from edgeai.collab.sim.compare import run_compare

    with library_run(
        cfg, call="edgeai.collab.compare", out=out, device=device, on_progress=on_progress, resume=resume
    ) as recorded:
        report = run_compare(cfg, recorded)
        status: Status = "interrupted" if report.interrupted else "failed" if report.failures else "done"
        recorded.finish(status, report.to_json())
    if report.interrupted:
        raise KeyboardInterrupt
    return report


@names_missing_packages
def open_stream(
    config: CollabRunConfig | str | Path = "collab/default", *, overrides: Overrides | None = None
) -> Stream:
    """Open the camera stream of a run.

    Args:
        config: Config object, shipped name such as "collab/smoke", or YAML file.
        overrides: Config keys to change, such as {"stream.source.num_frames": 100, "seed": 1}.

    Returns:
        The stream; each call of its method `frames` yields the same frames from the first one on.

    Raises:
        UsageError: The config is invalid, or the source is missing, empty or has unknown labels.
        EdgeAIError: A package that the source needs is not installed.

    Examples:
        >>> stream = collab.open_stream("collab/smoke")
        >>> frame = next(stream.frames())
        >>> frame.image.shape
        (64, 96, 3)
    """
    cfg = settle_config(CollabRunConfig, config, overrides)
    from edgeai.collab.streams.build import build_stream

    return build_stream(cfg.stream, cfg.seed)


@names_missing_packages
def load_edge_model(
    config: CollabRunConfig | str | Path = "collab/default",
    *,
    overrides: Overrides | None = None,
    device: str = "auto",
) -> SegModel:
    """Load the edge model of a run, as it is before the first update.

    Args:
        config: Config object, shipped name such as "collab/smoke", or YAML file.
        overrides: Config keys to change, such as {"edge.model.weights": "my-net"}.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Returns:
        A segmentation model with the classes of the stream; its method `logits` takes an RGB image [H, W, 3] uint8.

    Raises:
        UsageError: The config is invalid, the weights are missing, or the model does not fit the stream.
        EdgeAIError: A package that the model needs is not installed.

    Examples:
        >>> model = collab.load_edge_model("collab/smoke")
        >>> labels = model.logits(frame.image).argmax(0)  # [H, W]
    """
    cfg = settle_config(CollabRunConfig, config, overrides)
    from edgeai.collab.sim.testbed import Testbed
    from edgeai.core.device import choose_device

    return Testbed(cfg, choose_device(device).torch_device).edge
