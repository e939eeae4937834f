"""The guarantees and limits of the configured protections, as text with the run's numbers."""

from __future__ import annotations

import math

from edgeai.fedsplit.config.privacy import DpSgdConfig, LabelConfig, NoiseConfig, PrivacyConfig
from edgeai.fedsplit.privacy.accountant import sampled_epsilon, shuffled_epsilon
from edgeai.fedsplit.privacy.label_privacy import keep_probability
from edgeai.fedsplit.privacy.noise import gaussian_epsilon, laplace_epsilon

_GAUSSIAN_DELTA = 1e-5
_MAX_MEANINGFUL_EPSILON = 10.0
"""Above it, an attacker's odds may change more than 20,000-fold, which must not be presented as private."""


def guarantee(
    cfg: PrivacyConfig, *, num_values: int, num_samples: int, batch: int, num_epochs: int, num_classes: int
) -> tuple[str, ...]:
    """Return sentences on the privacy of one client's records.

    Args:
        cfg: The protections.
        num_values: Values per record at the cut: q.
        num_samples: Samples of the client.
        batch: Batch size.
        num_epochs: Number of times each sample is sent in training.
        num_classes: Number of classes.

    Returns:
        Sentences in the order smashed data, client part, labels.
    """
    if cfg.is_off:
        return ("No protection: smashed data, labels and weights are sent as they are. No guarantee.",)
    said: list[str] = []
    if cfg.nopeek is not None:
        said.append(
            f"NoPeek (lam {cfg.nopeek.lam:g}): no guarantee. It lowers the distance correlation between inputs and "
            "smashed data, but reconstructions can remain recognizable."
        )
    if cfg.noise is not None:
        said += _of_noise(cfg.noise, num_values, num_epochs)
    if cfg.dp_sgd is not None:
        said += _of_dp_sgd(cfg.dp_sgd, num_samples, batch, num_epochs)
    said.append(_of_labels(cfg.labels, num_classes))
    if cfg.noise is not None or cfg.dp_sgd is not None or cfg.labels is not None:
        said.append(
            "All noise is derived from the run's seed, so that runs are reproducible; anyone who knows the seed can "
            "remove it. A deployment needs a secret seed."
        )
    return tuple(said)


def _of_noise(cfg: NoiseConfig, num_values: int, num_epochs: int) -> list[str]:
    name = f"{cfg.kind.capitalize()} noise (scale {cfg.scale:g}) on the smashed data"
    if cfg.bound == "none":
        return [
            f"{name}: no guarantee. The values are unbounded, so two records can differ by more than any noise hides; "
            "set bound: tanh."
        ]
    said = []
    if cfg.when == "inference":
        said.append(f"{name}, at inference only: no guarantee for training records, which are sent without noise.")
    releases = 1 if cfg.when == "inference" else num_epochs
    once, whole, formula = _noise_epsilons(cfg, num_values, releases)
    often = "" if releases == 1 else f", {_plain(whole)} when it is sent {releases} times"
    said.append(
        f"{name}, values within -1..1: {formula} for one record sent once{often}. "
        "It holds for a record's own smashed data, whatever the receiver knows about the weights."
    )
    if once > _MAX_MEANINGFUL_EPSILON:
        said.append(
            f"An epsilon of {_plain(once)} guarantees almost nothing (e^epsilon bounds the odds): treat the noise as "
            "an empirical defense, not as proven privacy."
        )
    if cfg.when == "training":
        said.append("At inference no noise is added: no guarantee for records sent then.")
    said.append(
        "It covers neither labels nor what the client part's weights learn from the record and later messages reveal."
    )
    return said


def _plain(epsilon: float) -> str:
    """Return epsilon with four digits, large values without an exponent."""
    return f"{epsilon:.0f}" if epsilon >= 1000 else f"{epsilon:.4g}"


def _noise_epsilons(cfg: NoiseConfig, num_values: int, releases: int) -> tuple[float, float, str]:
    """Return epsilon of one release, epsilon of all releases, and the first as text with its formula."""
    if cfg.kind == "laplace":
        once = laplace_epsilon(num_values, 1.0, cfg.scale)
        return (
            once,
            once * releases,
            f"pure epsilon = 2 q B / scale = 2 * {num_values} * 1 / {cfg.scale:g} = {_plain(once)}",
        )
    ratio = 2.0 * math.sqrt(num_values) / cfg.scale
    once = gaussian_epsilon(ratio, _GAUSSIAN_DELTA)
    whole = gaussian_epsilon(ratio * math.sqrt(releases), _GAUSSIAN_DELTA)
    formula = (
        f"(epsilon, delta) = ({_plain(once)}, {_GAUSSIAN_DELTA:g}) by the exact bound for L2 sensitivity 2 B sqrt(q)"
    )
    return once, whole, formula


def _of_dp_sgd(cfg: DpSgdConfig, num_samples: int, batch: int, num_epochs: int) -> list[str]:
    name = f"DP-SGD (clip {cfg.clip:g}, noise multiplier {cfg.noise_multiplier:g})"
    if cfg.noise_multiplier == 0.0:
        return [f"{name}: no guarantee. Clipping without noise hides nothing."]
    batch = min(batch, num_samples)
    sampled = sampled_epsilon(
        noise_multiplier=cfg.noise_multiplier,
        sampling_frac=batch / num_samples,
        num_steps=num_epochs * math.ceil(num_samples / batch),
        delta=cfg.delta,
    )
    shuffled = shuffled_epsilon(noise_multiplier=cfg.noise_multiplier, num_epochs=num_epochs, delta=cfg.delta)
    return [
        f"{name}: (epsilon, delta) = ({sampled:.4g}, {cfg.delta:g}) of the client part's weights only, for one sample "
        "added or removed, assuming Poisson-sampled batches. Batches are shuffled instead; without that assumption "
        f"epsilon is {shuffled:.4g}.",
        "It takes the gradients at the cut as given. The server part learns from smashed data without noise, so its "
        "gradients reveal more: smashed data and labels are not covered, and there is no end-to-end guarantee.",
    ]


def _of_labels(cfg: LabelConfig | None, num_classes: int) -> str:
    if cfg is None:
        return "Labels: no guarantee, unless they stay on the client (U-shape)."
    keep = keep_probability(cfg.epsilon, num_classes)
    return (
        f"Labels: pure label epsilon {cfg.epsilon:g} per sample for the whole run, by randomized response over "
        f"{num_classes} classes (kept with probability {keep:.3f}). Inputs are not covered."
    )
