"""What one client does to protect its data: bound, noise, NoPeek, DP-SGD and randomised labels behind one object."""

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
from edgeai.fedsplit.privacy.label_privacy import randomise_labels
from edgeai.fedsplit.privacy.noise import draw_noise, generator_for

Stream = Literal["training", "inference", "weights"]
_STREAMS: tuple[Stream, ...] = ("training", "inference", "weights")


class Protect:
    """The protection of one client. Everything random depends on (seed, client, how often it was asked).

    Training, inference and DP-SGD count separately, so that measuring a model changes nothing in its training.

    Args:
        cfg: What is on.
        seed: Of the run.
        client: Whose data.
        num_classes: Of the labels; needed where they are randomised.
    """

    def __init__(self, cfg: PrivacyConfig, *, seed: int, client: int, num_classes: int) -> None:
        self.cfg = cfg
        self._seed = seed
        self._client = client
        self._num_classes = num_classes
        self._counts: dict[str, int] = dict.fromkeys(_STREAMS, 0)

    def bounded(self, z: Tensor) -> Tensor:
        """Returns what is sent, before noise: tanh(z) where a bound is asked for. Differentiable."""
        return torch.tanh(z) if self.cfg.noise is not None and self.cfg.noise.bound == "tanh" else z

    def smashed(self, z: Tensor, *, training: bool = True) -> Tensor:
        """Returns what is sent in place of z [b, ...]: bounded, with noise. Differentiable.

        Args:
            z: The client part's output.
            training: Whether this is training traffic; noise can be meant for one of the two only.
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
        """Returns lam dCor(x, z), which the client adds to its loss, or None.

        Args:
            x: [b, ...], real-valued.
            z: [b, ...], what `smashed` returned, with its graph.

        Raises:
            UsageError: x are tokens, between which there is no distance.
        """
        if self.cfg.nopeek is None:
            return None
        if not x.is_floating_point():
            raise UsageError(
                "NoPeek measures distances between inputs, and these are tokens", hint="leave privacy.nopeek empty"
            )
        return self.cfg.nopeek.lam * distance_correlation(x, z, distances=self.cfg.nopeek.distances)

    def labels(self, indices: Tensor, y: Tensor) -> Tensor:
        """Returns the labels that are used and sent in place of y: the same for a sample whenever it is asked for.

        Args:
            indices: [b] int64, which of the client's samples.
            y: [b] int64.
        """
        if self.cfg.labels is None:
            return y
        return randomise_labels(
            y,
            indices,
            epsilon=self.cfg.labels.epsilon,
            num_classes=self._num_classes,
            seed=self._seed,
            client=self._client,
        )

    @property
    def is_dp(self) -> bool:
        """Whether gradients of the client part must be made by `client_gradients`."""
        return self.cfg.dp_sgd is not None

    @property
    def num_private_steps(self) -> int:
        """How often `client_gradients` was called so far."""
        return self._counts["weights"]

    def client_gradients(self, part: nn.Module, x: Tensor, g_z: Tensor, extra: SampleLoss | None = None) -> None:
        """Fills .grad of the client part by DP-SGD, in place of z.backward(g_z).

        Without clipping and noise it gives what z.backward(g_z) gives: gradients of the mean loss.

        Args:
            part: The client part, as it was when it made z.
            x: [b, ...].
            g_z: [b, ...], gradient of the *batch-mean* loss by what `smashed` returned. Where the server's mean runs
                over B samples of several clients, give g_z * B / b.
            extra: (x_i [1, ...], z_i [1, ...]) to a loss of one sample that the client adds.

        Raises:
            UsageError: The part has a BatchNorm or an active Dropout.
        """
        if self.cfg.dp_sgd is None:
            raise ValueError("client_gradients is for privacy.dp_sgd, which is off")
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
        """Returns epsilon of the client part's weights after `steps` DP-SGD steps, or None where that is off.

        Args:
            steps: Steps of this client.
            batch: Samples in each.
            n: Samples of this client.
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
        """Returns a protection of the same kind whose noise is unrelated: for measuring, beside the run."""
        return Protect(self.cfg, seed=seed, client=self._client, num_classes=self._num_classes)

    def state(self) -> dict[str, int]:
        """Returns how often noise was drawn, by stream; all that must be kept to go on alike."""
        return dict(self._counts)

    def load_state(self, state: Mapping[str, int]) -> None:
        """Goes on where `state` was taken."""
        self._counts = {stream: int(state[stream]) for stream in _STREAMS}

    def _generator(self, stream: Stream) -> torch.Generator:
        count = self._counts[stream]
        self._counts[stream] = count + 1
        return generator_for(self._seed, self._client, _STREAMS.index(stream), count)


def build_protect(cfg: PrivacyConfig, seed: int, client: int, *, num_classes: int = 0) -> Protect | None:
    """Builds the protection of one client, or None where nothing is on.

    Args:
        cfg: What is on.
        seed: Of the run.
        client: Number of the client.
        num_classes: Of the labels; at least 2 where they are randomised.
    """
    if cfg.is_off:
        return None
    if cfg.labels is not None and num_classes < 2:
        raise ValueError(f"randomised response needs num_classes >= 2, got {num_classes}")
    return Protect(cfg, seed=seed, client=client, num_classes=num_classes)
