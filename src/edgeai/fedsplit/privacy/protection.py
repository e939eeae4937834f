"""The protections of one client in one object: bound, noise, NoPeek, DP-SGD and randomized labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import PrivacyConfig
from edgeai.fedsplit.privacy.accountant import sampled_epsilon
from edgeai.fedsplit.privacy.dcor import distance_correlation
from edgeai.fedsplit.privacy.dp_sgd import SampleLoss, fill_private_gradients
from edgeai.fedsplit.privacy.label_privacy import randomize_labels
from edgeai.fedsplit.privacy.noise import draw_noise, generator_for

Stream = Literal["training", "inference", "weights"]
_STREAMS: tuple[Stream, ...] = ("training", "inference", "weights")


class Protect:
    """The protections of one client. All randomness depends on (seed, client, number of draws so far).

    Training, inference and DP-SGD have separate counters, so that evaluating a model does not change its training.

    Args:
        cfg: The enabled protections.
        seed: Seed of the run.
        client: Client number.
        num_classes: Number of classes, used if labels are randomized.
    """

    def __init__(self, cfg: PrivacyConfig, *, seed: int, client: int, num_classes: int) -> None:
        self.cfg = cfg
        self._seed = seed
        self._client = client
        self._num_classes = num_classes
        self._counts: dict[str, int] = dict.fromkeys(_STREAMS, 0)

    def bounded(self, z: Tensor) -> Tensor:
        """Return the sent data without noise: tanh(z) if bounded, else z. Differentiable."""
        return torch.tanh(z) if self.cfg.noise is not None and self.cfg.noise.bound == "tanh" else z

    def smashed(self, z: Tensor, *, training: bool = True) -> Tensor:
        """Return the sent data of z [b, ...]: bounded, with noise. Differentiable.

        Args:
            z: Output of the client part.
            training: Whether this is training traffic; noise can be limited to training or inference.
        """
        noise = self.cfg.noise
        if noise is None:
            return z
        z = self.bounded(z)
        if noise.when not in ("always", "training" if training else "inference"):
            return z
        generator = self._generator("training" if training else "inference")
        return z + draw_noise(z.shape, noise.kind, noise.scale, generator).to(z)

    def extra_loss(self, x: Tensor, z: Tensor) -> Tensor | None:
        """Return lam dCor(x, z), which the client adds to its loss, or None without NoPeek.

        Args:
            x: Real-valued inputs [b, ...].
            z: Result [b, ...] of `smashed`, with its graph.

        Raises:
            UsageError: The inputs are tokens, which have no distances.
        """
        if self.cfg.nopeek is None:
            return None
        if not x.is_floating_point():
            raise UsageError(
                "NoPeek measures distances between inputs, but these are tokens", hint="leave privacy.nopeek empty"
            )
        return self.cfg.nopeek.lam * distance_correlation(x, z, distances=self.cfg.nopeek.distances)

    def labels(self, indices: Tensor, y: Tensor) -> Tensor:
        """Return the labels used and sent instead of y, always the same for a sample.

        Args:
            indices: Indices [b] int64 of the client's samples.
            y: True labels [b] int64.
        """
        if self.cfg.labels is None:
            return y
        return randomize_labels(
            y,
            indices,
            epsilon=self.cfg.labels.epsilon,
            num_classes=self._num_classes,
            seed=self._seed,
            client=self._client,
        )

    @property
    def is_dp(self) -> bool:
        """Whether gradients of the client part must be computed by `client_gradients`."""
        return self.cfg.dp_sgd is not None

    @property
    def num_private_steps(self) -> int:
        """Number of calls of `client_gradients` so far."""
        return self._counts["weights"]

    def client_gradients(self, part: nn.Module, x: Tensor, g_z: Tensor, extra: SampleLoss | None = None) -> None:
        """Set .grad of the client part by DP-SGD, instead of z.backward(g_z).

        Without clipping and noise the result equals that of z.backward(g_z): gradients of the mean loss.

        Args:
            part: The client part, unchanged since it computed z.
            x: Inputs [b, ...].
            g_z: Gradient [b, ...] of the *batch-mean* loss with respect to the result of `smashed`. If the server's
                mean runs over B samples of several clients, pass g_z * B / b.
            extra: (x_i [1, ...], z_i [1, ...]) to a loss of one sample that the client adds.

        Raises:
            UsageError: The part has a BatchNorm or an active Dropout.
        """
        if self.cfg.dp_sgd is None:
            raise ValueError("client_gradients requires privacy.dp_sgd")
        fill_private_gradients(
            part,
            x,
            g_z,
            clip=self.cfg.dp_sgd.clip,
            noise_multiplier=self.cfg.dp_sgd.noise_multiplier,
            generator=self._generator("weights"),
            bound=self.bounded,
            extra=extra,
        )

    def epsilon(self, steps: int, batch: int, n: int) -> float | None:
        """Return epsilon of the client part's weights after `steps` DP-SGD steps, or None without DP-SGD.

        Args:
            steps: Number of steps of this client.
            batch: Batch size.
            n: Number of samples of this client.
        """
        if self.cfg.dp_sgd is None:
            return None
        return sampled_epsilon(
            noise_multiplier=self.cfg.dp_sgd.noise_multiplier,
            sampling_frac=min(1.0, batch / n),
            num_steps=steps,
            delta=self.cfg.dp_sgd.delta,
        )

    def aside(self, seed: int) -> Protect:
        """Return an equal protection with independent noise, for measurements outside the training."""
        return Protect(self.cfg, seed=seed, client=self._client, num_classes=self._num_classes)

    def state(self) -> dict[str, int]:
        """Return the number of draws by stream, which is the whole state."""
        return dict(self._counts)

    def load_state(self, state: Mapping[str, int]) -> None:
        """Restore a state returned by `state`."""
        self._counts = {stream: int(state[stream]) for stream in _STREAMS}

    def _generator(self, stream: Stream) -> torch.Generator:
        count = self._counts[stream]
        self._counts[stream] = count + 1
        return generator_for(self._seed, self._client, _STREAMS.index(stream), count)


def build_protect(cfg: PrivacyConfig, seed: int, client: int, *, num_classes: int = 0) -> Protect | None:
    """Return the protection of one client, or None if no protection is enabled.

    Args:
        cfg: The enabled protections.
        seed: Seed of the run.
        client: Client number.
        num_classes: Number of classes; at least 2 if labels are randomized.
    """
    if cfg.is_off:
        return None
    if cfg.labels is not None and num_classes < 2:
        raise ValueError(f"randomized response needs num_classes >= 2, got {num_classes}")
    return Protect(cfg, seed=seed, client=client, num_classes=num_classes)
