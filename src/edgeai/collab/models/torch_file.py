"""Models exported by PyTorch: TorchScript files and torch.export programs (.pt2)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeai.collab.models.torch_model import score_tensor
from edgeai.core.errors import UsageError

EXPORTED = ".pt2"
FROZEN_EXPORT = "a torch.export program is fixed to evaluation mode; export the model as TorchScript to adapt it"
FROZEN_SCRIPT = "its weights are constants (torch.jit.freeze); save it unfrozen to adapt it"


class UserNet(nn.Module):
    """A user's net that returns only class scores.

    Args:
        inner: Net from input [B,3,h,w] to an output that `score_tensor` accepts.
        where: Name of the net in error messages.
        has_modes: Whether the net can be switched between training and evaluation.
    """

    def __init__(self, inner: nn.Module, where: str, *, has_modes: bool = True) -> None:
        super().__init__()
        self.inner = inner
        self.where = where
        self.has_modes = has_modes

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return class scores [B,M,.,.] without features."""
        return score_tensor(self.inner(x), self.where), None

    def train(self, mode: bool = True) -> UserNet:
        """Switch the mode, if the net has modes."""
        if self.has_modes:
            return super().train(mode)
        self.training = mode
        return self


def load_torch_file(path: Path, device: str) -> tuple[UserNet, str]:
    """Load an exported model. Neither format executes code from the file beyond the net itself.

    Returns:
        The net in evaluation mode, and the reason why it cannot be trained (empty if it can).

    Raises:
        UsageError: The file does not exist, or is not an exported model.
    """
    if not path.is_file():
        raise UsageError(f"no model at {path}", hint="give a TorchScript (.pt) or torch.export (.pt2) file")
    if path.suffix == EXPORTED:
        return UserNet(_load_exported(path).to(device), str(path), has_modes=False), FROZEN_EXPORT
    inner = _load_script(path, device)
    reason = "" if any(parameter.requires_grad for parameter in inner.parameters()) else FROZEN_SCRIPT
    return UserNet(inner, str(path)).eval(), reason


def _load_script(path: Path, device: str) -> nn.Module:
    try:
        return torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise _not_exported(path, error) from None


def _load_exported(path: Path) -> nn.Module:
    try:
        return torch.export.load(path).module()
    except (RuntimeError, ValueError, OSError, KeyError, zipfile.BadZipFile, AssertionError) as error:
        raise _not_exported(path, error) from None


def _not_exported(path: Path, error: Any) -> UsageError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return UsageError(
        f"{path} is not an exported model: {reason[0]}",
        hint="save the whole net, not its state dict: torch.jit.script(net).save(path), or torch.export.save",
    )
