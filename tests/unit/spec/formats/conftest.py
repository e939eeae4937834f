"""Heads for the tiny model on disk (8 layers, width 64, MLP 128, 4 query and 2 key heads of width 16, 258 tokens)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeai.core.metrics import Metrics
from edgeai.spec.config.export import ExportConfig, HeadFormat
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.draft.checkpoint import save_head
from edgeai.spec.draft.head import DraftHead
from edgeai.spec.formats.export_head import export_head
from edgeai.spec.formats.reports import ExportReport
from edgeai.spec.target.torch_runtime import DecoderTarget

PLAIN = {"fc_norm": False, "norm_output": False}


@pytest.fixture
def own_head(tmp_path: Path, tiny_target: DecoderTarget, make_head: Callable[..., DraftHead]) -> Callable[..., Path]:
    """own_head(aux_layers=None, **switches): a random head with 64 draft tokens, saved as edgeai does."""

    def make(aux_layers: tuple[int, ...] | None = None, **switches: bool) -> Path:
        head = make_head(tiny_target, **switches)
        head.shape = replace(head.shape, aux_layers=aux_layers or head.shape.aux_layers)
        save_head(tmp_path / "own", head, tiny_target, {"val_acc_0": 0.5})
        return tmp_path / "own"

    return make


@pytest.fixture
def exported(tmp_path: Path, tiny_folder: Path, own_head: Callable[..., Path]) -> Callable[..., ExportReport]:
    """exported(format, **options of own_head): export a head to tmp_path / format."""

    def export(format: HeadFormat, **made: Any) -> ExportReport:
        cfg = ExportConfig(
            head=own_head(**made), format=format, target=TargetConfig(model=str(tiny_folder), dtype="float32")
        )
        return export_head(cfg, tmp_path / format, device="cpu", metrics=Metrics(None))

    return export


@pytest.fixture
def edit() -> Callable[..., None]:
    """edit(folder, config=None, tensors=None): change config.json and the tensors of a folder in place."""

    def change(
        folder: Path,
        config: Callable[[dict[str, Any]], Any] | None = None,
        tensors: Callable[[dict[str, Tensor]], Any] | None = None,
    ) -> None:
        if config:
            found = json.loads((folder / "config.json").read_text())
            config(found)
            (folder / "config.json").write_text(json.dumps(found))
        if tensors:
            loaded = load_file(folder / "model.safetensors")
            tensors(loaded)
            save_file(loaded, folder / "model.safetensors")

    return change
