"""Sequence models: convolutions over time, the heartbeat net of Abuadbba et al. 2020, and recurrent layers.

Shapes: b samples of T steps; convolutions take [b, C, T], recurrent layers [b, T, F].
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.models.input_shapes import chain, norm_layers, wrong_shape

_SLOPE = 0.01


def cnn1d(
    shape: Sequence[int], num_classes: int, *, channels: Sequence[int], kernel: int, hidden: int, norm: str
) -> nn.Sequential:
    """Return convolutions, each with normalization, ReLU and max-pooling by 2, then two fully connected layers."""
    inner, length = _channels_and_length("cnn1d", shape, least=2 ** len(channels))
    layers: dict[str, nn.Module] = {}
    for number, outer in enumerate(channels, 1):
        conv = nn.Conv1d(inner, outer, kernel, padding="same", bias=norm == "none")
        parts = [conv, *norm_layers(norm, outer, dims=1), nn.ReLU(), nn.MaxPool1d(2)]
        layers[f"conv{number}"] = nn.Sequential(*_as_channels(shape, number), *parts)
        inner, length = outer, length // 2
    layers["fc"] = nn.Sequential(nn.Flatten(), nn.Linear(inner * length, hidden), nn.ReLU())
    return chain(**layers, out=nn.Linear(hidden, num_classes))


def ecg(shape: Sequence[int], num_classes: int, *, num_convs: int) -> nn.Sequential:
    """Return the net that Abuadbba et al. (AsiaCCS 2020) cut after pool2: 1,424 client parameters, 512 values sent.

    With five convolutions it is that of Gao et al. 2020, cut after conv2: 71,621 parameters, 1,024 values sent.
    """
    inner, length = _channels_and_length("ecg", shape, least=4)
    layers: dict[str, nn.Module] = {
        "conv1": nn.Sequential(
            *_as_channels(shape, 1), nn.Conv1d(inner, 16, 7, padding=3), nn.LeakyReLU(_SLOPE), nn.MaxPool1d(2)
        )
    }
    for number in range(2, num_convs + 1):
        layers[f"conv{number}"] = nn.Sequential(nn.Conv1d(16, 16, 5, padding=2), nn.LeakyReLU(_SLOPE))
        if number == 2:
            layers["pool2"] = nn.MaxPool1d(2)
    layers["fc"] = nn.Sequential(nn.Flatten(), nn.Linear(16 * (length // 4), 128), nn.LeakyReLU(_SLOPE))
    return chain(**layers, out=nn.Linear(128, num_classes))


class GruLayer(nn.Module):
    """Recurrent layer: [b, T, F] to the states after every step, [b, T, hidden].

    Args:
        inner: Input width: F.
        hidden: State width.
    """

    def __init__(self, inner: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inner, hidden, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the states after every step, starting from `state` [b, hidden] or zero."""
        states: Tensor = self.gru(x, None if state is None else state[None].contiguous())[0]
        return states


class LastStep(nn.Module):
    """Layer that selects the last step: [b, T, F] to [b, F]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the last step."""
        return x[:, -1]


def gru(
    shape: Sequence[int], num_classes: int, *, hidden: int, num_layers: int, vocab: int | None, embed: int
) -> nn.Sequential:
    """Return recurrent layers and an output layer on the last state.

    Args:
        shape: Shape of a sample: [T] tokens with a vocabulary, else [T, F], or [C, H, W] with one step per image row.
        num_classes: Number of outputs.
        hidden: State width.
        num_layers: Number of recurrent layers.
        vocab: Vocabulary size; None if samples are not tokens.
        embed: Embedding width of a token.
    """
    layers: dict[str, nn.Module] = {}
    first: list[nn.Module] = []
    if vocab is not None and len(shape) == 1:
        layers["embed"], inner = nn.Embedding(vocab, embed), embed
    elif vocab is None and len(shape) == 2:
        inner = shape[1]
    elif vocab is None and len(shape) == 3:
        first, inner = [Rows()], shape[0] * shape[2]
    else:
        wanted = "tokens [T]" if vocab else "steps [T, F] or images [C, H, W], or tokens [T] with model.vocab"
        raise wrong_shape("gru", wanted, shape)
    for number in range(1, num_layers + 1):
        layer = GruLayer(inner, hidden)
        layers[f"gru{number}"] = nn.Sequential(*first, layer) if first and number == 1 else layer
        inner = hidden
    return chain(**layers, last=LastStep(), out=nn.Linear(hidden, num_classes))


class Rows(nn.Module):
    """Layer that turns image rows into steps: [b, C, H, W] to [b, H, C * W]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows with their channels concatenated."""
        return x.transpose(1, 2).flatten(2)


def _channels_and_length(kind: str, shape: Sequence[int], *, least: int) -> tuple[int, int]:
    if len(shape) not in (1, 2):
        raise wrong_shape(kind, "sequences [C, T] or [T]", shape)
    channels, length = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    if length < least:
        raise UsageError(
            f"model {kind} takes sequences of at least {least} steps, these have {length}",
            hint="choose fewer convolutions, or model.kind=mlp",
        )
    return channels, length


def _as_channels(shape: Sequence[int], number: int) -> list[nn.Module]:
    """Return a layer that adds the channel axis before the first layer if samples are [T], else none."""
    return [nn.Unflatten(1, (1, shape[0]))] if len(shape) == 1 and number == 1 else []
