"""SplitNN on MNIST under Laplace noise and NoPeek: the published table, reproduced beside the published numbers.

    python tests/benchmarks/fedsplit_privacy_noise.py --out DIR     # published settings, several hours on one core
    python tests/benchmarks/fedsplit_privacy_noise.py --out DIR --num-train 4000 --num-epochs 3 --lr 1e-3 \\
        --num-attack 1500 --num-attacked 1000 --num-val 1000 --no-deconv     # about eleven minutes on one core

Writes privacy-mnist.md and privacy-mnist.json below --out, again after each row.

Table and nets: TTitcombe/Model-Inversion-SplitNN, the CSV files in results/quantitative_measures and src/dpsnn. In that
code the client part ends in tanh, which here is the bound of the protection; the server part ends in a softmax that
goes into the cross-entropy (a double softmax); the "distance correlation" uses squared distances; correlation, NoPeek
and decoder all use the smashed data *before* the noise. That table therefore does not show what noise does to an
attacker; the `wire_*` values here are measured on what is sent as well.

Shapes: b images x [b, 1, 28, 28], smashed data z [b, 500], labels y [b].
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.core import assets
from edgeai.core.errors import UsageError
from edgeai.core.files import json_text, write_whole
from edgeai.fedsplit.config.privacy import NoiseConfig, NopeekConfig, PrivacyConfig
from edgeai.fedsplit.privacy.attacks.decoder import Decoder, fit_ridge
from edgeai.fedsplit.privacy.attacks.quality import compare
from edgeai.fedsplit.privacy.dcor import mean_distance_correlation
from edgeai.fedsplit.privacy.protection import Protect

NUM_TRAIN, NUM_ATTACK = 40_000, 5_000
"""Index of the attacker's first image; number of images before those that are reconstructed."""
ATTACK_BATCH = 256
"""Samples per distance matrix of the published attack's correlation; the model's is the training batch."""


@dataclass(frozen=True)
class Published:
    """A row of the published table, accuracies as fractions; None where the table has no number."""

    val_acc: float | None = None
    dcor: float | None = None
    attack_dcor: float | None = None
    attack_acc: float | None = None


PUBLISHED: dict[tuple[float, float], Published] = {
    (0.0, 0.1): Published(None, None, 0.828, 0.952),
    (0.0, 0.5): Published(None, None, 0.748, 0.967),
    (0.0, 1.0): Published(None, None, 0.717, 0.972),
    (0.1, 0.0): Published(None, None, 0.945, 0.958),
    (0.1, 0.1): Published(0.9784, 0.474, 0.841, 0.9488),
    (0.1, 0.25): Published(0.9802, 0.437, 0.780, 0.9594),
    (0.1, 0.5): Published(0.9800, 0.411, 0.742, 0.9710),
    (0.2, 0.1): Published(0.9798, 0.491, 0.835, 0.9394),
    (0.2, 0.25): Published(0.9820, 0.450, 0.774, 0.9694),
    (0.2, 0.5): Published(0.9746, 0.411, 0.761, 0.9648),
    (0.5, 0.0): Published(None, None, 0.939, 0.957),
    (0.5, 0.05): Published(0.9786, 0.674, 0.912, 0.9470),
    (0.5, 0.1): Published(0.9752, 0.525, 0.854, 0.9328),
    (0.5, 0.25): Published(0.9776, 0.442, 0.781, 0.9662),
    (0.5, 0.5): Published(0.9738, 0.437, 0.773, 0.9672),
    (1.0, 0.0): Published(None, None, 0.928, 0.951),
    (1.0, 0.1): Published(0.9754, 0.575),
    (1.0, 0.25): Published(0.9742, 0.500),
    (1.0, 0.5): Published(0.9678, 0.452),
}
"""(noise scale, NoPeek weight) to the published numbers."""


@dataclass(frozen=True)
class Settings:
    """Size and training of the study; the defaults are the published settings."""

    data: str = "mnist.npz"
    """Keys x_train, y_train, x_test, y_test; a path, or a file below EDGEAI_DATA."""
    num_train: int = 40_000
    """The first training images."""
    num_attack: int = 5_000
    """Training images 40,000 on, which the attacker has."""
    num_attacked: int = 5_000
    """Training images 45,000 on, which are reconstructed."""
    num_val: int = 5_000
    """The first test images."""
    num_epochs: int = 10
    num_attack_epochs: int = 10
    lr: float = 1e-4
    attack_lr: float = 1e-4
    batch: int = 128
    distances: Literal["euclidean", "squared"] = "squared"
    """Distances of the NoPeek loss and of the reported correlations."""
    deconv: bool = True
    """Train the published decoder; the closed-form affine decoder always runs."""
    seed: int = 0


@dataclass(frozen=True)
class AttackOutcome:
    """A decoder's success: correlation and error of its reconstructions, and a classifier's accuracy on them."""

    dcor: float
    acc: float
    mse: float
    ssim: float | None


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    noise: float
    """Scale of the Laplace noise; 0 for none."""
    lam: float
    """Weight of NoPeek; 0 for none."""
    val_acc: float
    """Accuracy with noise on, best epoch, on the first test images."""
    dcor: float
    """Distance correlation of x and z before the noise, as published."""
    deconv: AttackOutcome | None
    """The published decoder on z before the noise, as published; None with --no-deconv."""
    affine: AttackOutcome
    """The best affine decoder on z before the noise."""
    wire_dcor: float
    """As `dcor`, on what is sent."""
    wire_dcor_euclidean: float
    """As `wire_dcor`, with Euclidean distances."""
    wire_affine: AttackOutcome
    """The best affine decoder on what is sent."""
    seconds_s: float
    published: Published


@dataclass(frozen=True)
class Table:
    """All rows so far, and the judging classifier's accuracy on the original images."""

    settings: Settings
    judge_acc: float
    rows: tuple[Row, ...] = ()

    def to_markdown(self) -> str:
        """Return the table, ours / published."""
        lines = [
            "| noise | lam | val acc % | dCor(x, z) | attack dCor | attack-side acc % | affine dCor | affine acc % "
            "| affine dCor on the wire | affine acc % on the wire |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            paper, attack = row.published, row.deconv or row.affine
            cells = [
                f"{row.noise:g}",
                f"{row.lam:g}",
                _beside(100 * row.val_acc, _percent(paper.val_acc), 2),
                _beside(row.dcor, paper.dcor, 3),
                _beside(attack.dcor, paper.attack_dcor, 3),
                _beside(100 * attack.acc, _percent(paper.attack_acc), 1),
                f"{row.affine.dcor:.3f}",
                f"{100 * row.affine.acc:.1f}",
                f"{row.wire_affine.dcor:.3f}",
                f"{100 * row.wire_affine.acc:.1f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Images:
    """The published split of MNIST: (x, y) each, and x alone for the attacker's own images."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    attack_x: Tensor
    attacked: tuple[Tensor, Tensor]
    judge: tuple[Tensor, Tensor]


# ----------------------------------------------------------------------------------------------------------------------
# The published nets


def build_client_part() -> nn.Sequential:
    """Return the published client part, 28 x 28 to 500, without its tanh, which `Protect` applies."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(9216, 500),
    )


def build_server_part() -> nn.Sequential:
    """Return the published server part, with the softmax that the cross-entropy applies a second time."""
    return nn.Sequential(nn.Linear(500, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))


def build_deconv() -> nn.Sequential:
    """The published decoder: four transposed convolutions without nonlinearities, so an affine map."""
    return nn.Sequential(
        nn.Linear(500, 9216),
        nn.Unflatten(1, (64, 12, 12)),
        nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(64, 32, 3, padding=1),
        nn.ConvTranspose2d(32, 8, 3),
        nn.ConvTranspose2d(8, 1, 3),
    )


# ----------------------------------------------------------------------------------------------------------------------
# The study


def study(
    settings: Settings, points: list[tuple[float, float]], on_row: Callable[[Table], None] | None = None
) -> Table:
    """Train and attack one model per row.

    Args:
        settings: Size and training.
        points: (noise scale, NoPeek weight) of each row.
        on_row: Called with the table so far after each row.

    Raises:
        UsageError: The data are missing or have another shape.
    """
    images = load(settings)
    judge = _train_judge(images.judge, settings)
    table = Table(settings, _accuracy(judge, *images.attacked))
    for noise, lam in points:
        row = _row(noise, lam, images, judge, settings)
        table = Table(settings, table.judge_acc, tuple(sorted((*table.rows, row), key=lambda r: (r.noise, r.lam))))
        if on_row is not None:
            on_row(table)
    return table


def load(settings: Settings) -> Images:
    """Return the images, normalized, in the published split.

    Raises:
        UsageError: The file is not MNIST.
    """
    path = assets.data_path(settings.data)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test") if name in archive}
    if len(arrays) < 4 or arrays["x_train"].shape[1:] != (28, 28) or len(arrays["x_train"]) < NUM_TRAIN + NUM_ATTACK:
        raise UsageError(
            f"{path}: expected MNIST with x_train [60000, 28, 28], y_train, x_test and y_test",
            hint="give its .npz with --data PATH",
        )

    def x(name: str, start: int, num: int) -> Tensor:
        images = torch.from_numpy(arrays[name][start : start + num].astype(np.float32))
        return ((images / 255.0 - 0.1307) / 0.3081).unsqueeze(1)

    def y(name: str, start: int, num: int) -> Tensor:
        return torch.from_numpy(arrays[name][start : start + num].astype(np.int64))

    num_seen = NUM_TRAIN + NUM_ATTACK
    num_train, num_judge = min(settings.num_train, NUM_TRAIN), min(settings.num_train, len(arrays["x_test"]))
    return Images(
        train=(x("x_train", 0, num_train), y("y_train", 0, num_train)),
        val=(x("x_test", 0, settings.num_val), y("y_test", 0, settings.num_val)),
        attack_x=x("x_train", NUM_TRAIN, min(settings.num_attack, NUM_ATTACK)),
        attacked=(x("x_train", num_seen, settings.num_attacked), y("y_train", num_seen, settings.num_attacked)),
        judge=(x("x_test", 0, num_judge), y("y_test", 0, num_judge)),
    )


def _row(noise: float, lam: float, images: Images, judge: nn.Module, settings: Settings) -> Row:
    started_s = time.perf_counter()
    protect = _protection(noise, lam, settings)
    part, val_acc = _train(images, protect, settings)
    x, y = images.attacked
    val_x = images.val[0]
    raw, raw_known, raw_val = (_apply(part, some) for some in (x, images.attack_x, val_x))
    clean, known, wire = protect.bounded(raw), protect.bounded(raw_known), protect.smashed(raw)
    val_wire = protect.smashed(raw_val)

    def attack(decode: Decoder, z: Tensor) -> AttackOutcome:
        found = decode(z)
        quality = compare(x[:512], found[:512], dcor_batch=128)
        dcor = mean_distance_correlation(x, found, batch=ATTACK_BATCH, distances=settings.distances)
        mse = float((found - x).square().mean())
        return AttackOutcome(dcor=dcor, acc=_accuracy(judge, found, y), mse=mse, ssim=quality.ssim)

    def correlation(z: Tensor) -> float:
        return mean_distance_correlation(val_x, z, batch=settings.batch, distances=settings.distances)

    return Row(
        noise=noise,
        lam=lam,
        val_acc=val_acc,
        dcor=correlation(protect.bounded(raw_val)),
        deconv=attack(_train_deconv(known, images.attack_x, settings), clean) if settings.deconv else None,
        affine=attack(fit_ridge(known, images.attack_x), clean),
        wire_dcor=correlation(val_wire),
        wire_dcor_euclidean=mean_distance_correlation(val_x, val_wire, batch=settings.batch),
        wire_affine=attack(fit_ridge(protect.smashed(raw_known), images.attack_x), wire),
        seconds_s=round(time.perf_counter() - started_s, 1),
        published=PUBLISHED.get((noise, lam), Published()),
    )


def _protection(noise: float, lam: float, settings: Settings) -> Protect:
    """Return the row's protection; without noise the scale is negligible rather than absent, which keeps the tanh."""
    return Protect(
        PrivacyConfig(
            nopeek=NopeekConfig(lam=lam, distances=settings.distances) if lam else None,
            noise=NoiseConfig(kind="laplace", scale=noise or 1e-30),
        ),
        seed=settings.seed,
        client=0,
        num_classes=10,
    )


def _train(images: Images, protect: Protect, settings: Settings) -> tuple[nn.Sequential, float]:
    """Train both parts end to end, which equals split learning; return the best epoch's client part and accuracy."""
    client, server = _fresh(build_client_part, settings.seed), _fresh(build_server_part, settings.seed + 1)
    optimizer = torch.optim.Adam([*client.parameters(), *server.parameters()], lr=settings.lr)
    x, y = images.train
    best, best_acc = copy.deepcopy(client), -1.0
    for _ in range(settings.num_epochs):
        for start in range(0, len(x), settings.batch):  # in order, as published
            batch_x, batch_y = x[start : start + settings.batch], y[start : start + settings.batch]
            z = client(batch_x)
            loss = F.cross_entropy(server(protect.smashed(z)), batch_y)
            extra = protect.extra_loss(batch_x, protect.bounded(z))  # before the noise, as published
            optimizer.zero_grad()
            (loss if extra is None else loss + extra).backward()
            optimizer.step()
        acc = _accuracy(server, protect.smashed(_apply(client, images.val[0]), training=False), images.val[1])
        if acc > best_acc:
            best, best_acc = copy.deepcopy(client), acc
    return best, best_acc


def _train_deconv(z: Tensor, x: Tensor, settings: Settings) -> Decoder:
    net = _fresh(build_deconv, settings.seed + 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.attack_lr)
    for _ in range(settings.num_attack_epochs):
        for start in range(0, len(x), settings.batch):
            optimizer.zero_grad()
            F.mse_loss(net(z[start : start + settings.batch]), x[start : start + settings.batch]).backward()
            optimizer.step()
    return lambda z: _apply(net, z)


def _train_judge(samples: tuple[Tensor, Tensor], settings: Settings) -> nn.Module:
    """Train the same net on the test images, which neither the model nor the attacker trained on."""
    client, server = _fresh(build_client_part, settings.seed + 3), _fresh(build_server_part, settings.seed + 4)
    net = nn.Sequential(*client, nn.Tanh(), *server)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.lr)
    x, y = samples
    for _ in range(settings.num_epochs):
        for start in range(0, len(x), settings.batch):
            optimizer.zero_grad()
            F.cross_entropy(net(x[start : start + settings.batch]), y[start : start + settings.batch]).backward()
            optimizer.step()
    return net


def _fresh(build: Callable[[], nn.Sequential], seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _apply(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(some) for some in x.split(250)])


def _accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((_apply(net, x).argmax(1) == y).double().mean())


def _beside(ours: float, theirs: float | None, digits: int) -> str:
    return f"{ours:.{digits}f} / " + ("-" if theirs is None else f"{theirs:.{digits}f}")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for privacy-mnist.md and privacy-mnist.json")
    for field in fields(Settings):
        name, default = "--" + field.name.replace("_", "-"), field.default
        if isinstance(default, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(name, type=type(default), default=default, help=f"default {default}")
    asked = vars(parser.parse_args())
    out = asked.pop("out")
    out.mkdir(parents=True, exist_ok=True)

    def keep(table: Table) -> None:
        write_whole(out / "privacy-mnist.md", table.to_markdown())
        write_whole(out / "privacy-mnist.json", json_text(asdict(table)) + "\n")
        print(table.to_markdown().splitlines()[-1] if len(table.rows) > 1 else table.to_markdown(), flush=True)

    study(Settings(**asked), sorted({*PUBLISHED, (0.0, 0.0)}), keep)


if __name__ == "__main__":
    main()
