"""Catalog of device types: the shipped ones and those of a user's file."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path

from edgeai.core.config import load_config
from edgeai.core.config.problems import nearest
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.world import CatalogueConfig, DeviceChoice, DeviceConfig


def find_device(choice: DeviceChoice, catalog: Mapping[str, DeviceConfig]) -> DeviceConfig:
    """Return the device with this name, or the device itself if it is given in full.

    Raises:
        UsageError: The name is not in the catalog.
    """
    if isinstance(choice, DeviceConfig):
        return choice
    if choice not in catalog:
        near = nearest(choice, catalog)
        hint = f'did you mean "{near}"? ' if near else ""
        raise UsageError(f'no device "{choice}"', hint=f"{hint}there are: {', '.join(catalog)}")
    return catalog[choice]


def read_catalog(path: Path | None = None) -> dict[str, DeviceConfig]:
    """Read the shipped devices and those of a file, whose entries override shipped ones.

    Raises:
        UsageError: The file cannot be read, or a device in it is incomplete.
    """
    shipped = Path(str(importlib.resources.files("edgeai.fedsplit.world"))) / "devices.yaml"
    catalog = dict(load_config(CatalogueConfig, shipped).devices)
    if path is not None:
        catalog.update(_user_devices(path))
    return catalog


def _user_devices(path: Path) -> dict[str, DeviceConfig]:
    if not path.is_file():
        raise UsageError(f"world.catalogue: no file {path}", hint="give the path of a YAML file of devices")
    try:
        return dict(load_config(CatalogueConfig, path).devices)
    except UsageError as error:
        keys = ", ".join(DeviceConfig.model_fields)
        raise UsageError(error.message, hint=f"devices: NAME: {{...}} with the keys {keys}") from None
