"""Configuration of `edgeai spec export` and `edgeai spec import`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeai.core.config import Config
from edgeai.spec.config.target import TargetConfig

HeadFormat = Literal["sglang", "vllm", "speculators", "eagle"]


class ExportConfig(Config):
    """`edgeai spec export`: write a head in another server's format and check that it predicts the same there."""

    verb: Literal["spec export"] = "spec export"
    head: Path
    """Run directory of `spec train`, checkpoint folder, or name of a shipped head."""
    format: HeadFormat
    """sglang: SGLang and SpecForge; vllm: vLLM without a target entry; speculators: vLLM with a target entry; eagle:
    the EAGLE repository."""
    target: TargetConfig | None = None
    """Target of the head; empty selects the target named by the run or file."""
    verifier: str = ""
    """Path or id of the target on the server; empty selects target.model."""


class ImportConfig(Config):
    """`edgeai spec import`: convert a published EAGLE-3 head to the edgeai format."""

    verb: Literal["spec import"] = "spec import"
    head: Path
    """Folder with config.json and model.safetensors (or pytorch_model.bin) of an EAGLE-3 head."""
    target: TargetConfig | None = None
    """Target of the head; empty selects the target named by the file."""
