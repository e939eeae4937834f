"""Configs of the `edgeai collab` verbs."""

from __future__ import annotations

from edgeai.core.config import Config  # noqa: F401
