"""SplitNN on MNIST under Laplace noise and NoPeek: the published table again, beside the published numbers.

Settings after the code behind it (TTitcombe/Model-Inversion-SplitNN): the client part ends in tanh, which here is the
bound of the protection; the server's part ends in a softmax that goes into the cross-entropy (a double softmax); the
"distance correlation" is of squared distances; correlation, NoPeek and decoder all see the smashed data *before* the
noise. So that table cannot show what noise does to an attacker. Here `wire_*` is measured on what crosses as well.

Legend: b pictures x [b, 1, 28, 28], smashed data z [b, 500].
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeai.core import assets
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.privacy import NoiseConfig, NopeekConfig, PrivacyConfig, PrivacyRow, PrivacyStudyConfig
from edgeai.fedsplit.privacy.attacks.decoder import Decoder, fit_ridge
from edgeai.fedsplit.privacy.attacks.quality import compare
from edgeai.fedsplit.privacy.dcor import mean_distance_correlation
from edgeai.fedsplit.privacy.noise_study_published import (
    PUBLISHED,
    Published,
    build_client_part,
    build_deconv,
    build_server_part,
)
from edgeai.fedsplit.privacy.protection import Protect

_NUM_TRAIN, _NUM_ATTACK = 40_000, 5_000
"""Where the attacker's pictures begin, and how many there are before those that are reconstructed."""
_ATTACK_BATCH = 256
"""Samples per distance matrix of the published attack's correlation; the model's is the training batch."""


@dataclass(frozen=True)
class AttackOutcome:
    """A decoder's success: correlation and error of its reconstructions, and how often a classifier reads them."""

    dcor: float
    acc: float
    mse: float
    ssim: float | None


@dataclass(frozen=True)
class StudyRow:
    """One row.

    Attributes:
        noise: Scale of the Laplace noise; 0 for none.
        lam: Weight of NoPeek.
        val_acc: Accuracy with noise on, best epoch, on the first test pictures.
        dcor: Between x and z before the noise, as published.
        deconv: The published decoder, on z before the noise, as published; None if it was not asked for.
        affine: The best affine decoder on z before the noise.
        wire_dcor: As `dcor`, for what crosses.
        wire_dcor_euclidean: The same with true distances.
        wire_affine: The best affine decoder on what crosses.
        seconds_s: Taken by the row.
        published: The published numbers.
    """

    noise: float
    lam: float
    val_acc: float
    dcor: float
    deconv: AttackOutcome | None
    affine: AttackOutcome
    wire_dcor: float
    wire_dcor_euclidean: float
    wire_affine: AttackOutcome
    seconds_s: float
    published: Published


@dataclass(frozen=True)
class PrivacyStudy:
    """The table, and how well the judging classifier reads the originals."""

    settings: dict[str, object]
    judge_acc: float
    rows: tuple[StudyRow, ...]


@dataclass(frozen=True)
class _Pictures:
    """The published split of MNIST; x [n, 1, 28, 28], y [n]."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    attack_x: Tensor
    attacked: tuple[Tensor, Tensor]
    judge: tuple[Tensor, Tensor]


def study(cfg: PrivacyStudyConfig, on_row: Callable[[PrivacyStudy], None] | None = None) -> PrivacyStudy:
    """Trains and attacks one model per row.

    Args:
        cfg: Rows and effort; the defaults are the published settings.
        on_row: Told the table so far after each row, so that it can be kept.

    Raises:
        UsageError: The data are missing or of another shape.
    """
    pictures = _load(cfg)
    judge = _train_judge(pictures.judge, cfg)
    table = PrivacyStudy(cfg.model_dump(mode="json"), _accuracy(judge, *pictures.attacked), ())
    for row in cfg.rows:
        done = _study_row(row, pictures, judge, cfg)
        rows = sorted((*table.rows, done), key=lambda done: (done.noise, done.lam))
        table = PrivacyStudy(table.settings, table.judge_acc, tuple(rows))
        if on_row is not None:
            on_row(table)
    return table


def as_document(table: PrivacyStudy) -> dict[str, object]:
    """Returns the study as plain values for JSON."""
    return asdict(table)


def as_table(table: PrivacyStudy) -> str:
    """Returns the study as a Markdown table, ours / published."""
    lines = [
        "| noise | lam | val acc % | dCor(x, z) | attack dCor | attack-side acc % | affine dCor | affine acc % "
        "| affine dCor on the wire | affine acc % on the wire |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.rows:
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


def _study_row(row: PrivacyRow, pictures: _Pictures, judge: nn.Module, cfg: PrivacyStudyConfig) -> StudyRow:
    started_s = time.perf_counter()
    protect = _protection(row, cfg)
    part, val_acc = _train(pictures, protect, cfg)
    x, y = pictures.attacked
    val_x = pictures.val[0]
    raw, raw_known, raw_val = (_apply(part, some) for some in (x, pictures.attack_x, val_x))
    clean, known, wire = protect.bounded(raw), protect.bounded(raw_known), protect.smashed(raw)
    val_wire = protect.smashed(raw_val)

    def attack(decode: Decoder, z: Tensor) -> AttackOutcome:
        found = decode(z)
        quality = compare(x[:512], found[:512], dcor_batch=128)
        dcor = mean_distance_correlation(x, found, batch=_ATTACK_BATCH, distances=cfg.distances)
        mse = float((found - x).square().mean())
        return AttackOutcome(dcor=dcor, acc=_accuracy(judge, found, y), mse=mse, ssim=quality.ssim)

    return StudyRow(
        noise=row.noise,
        lam=row.lam,
        val_acc=val_acc,
        dcor=mean_distance_correlation(val_x, protect.bounded(raw_val), batch=cfg.batch, distances=cfg.distances),
        deconv=attack(_train_deconv(known, pictures.attack_x, cfg), clean) if cfg.deconv else None,
        affine=attack(fit_ridge(known, pictures.attack_x), clean),
        wire_dcor=mean_distance_correlation(val_x, val_wire, batch=cfg.batch, distances=cfg.distances),
        wire_dcor_euclidean=mean_distance_correlation(val_x, val_wire, batch=cfg.batch),
        wire_affine=attack(fit_ridge(protect.smashed(raw_known), pictures.attack_x), wire),
        seconds_s=round(time.perf_counter() - started_s, 1),
        published=PUBLISHED.get((row.noise, row.lam), Published()),
    )


def _protection(row: PrivacyRow, cfg: PrivacyStudyConfig) -> Protect:
    """The row's protection; without noise a vanishing scale, so that the tanh stays."""
    return Protect(
        PrivacyConfig(
            nopeek=NopeekConfig(lam=row.lam, distances=cfg.distances) if row.lam else None,
            noise=NoiseConfig(kind="laplace", scale=row.noise or 1e-30),
        ),
        seed=cfg.seed,
        client=0,
        num_classes=10,
    )


def _train(pictures: _Pictures, protect: Protect, cfg: PrivacyStudyConfig) -> tuple[nn.Sequential, float]:
    """Trains both parts end to end, which is what split learning computes; returns the best epoch's client part."""
    client, server = _fresh(build_client_part, cfg.seed), _fresh(build_server_part, cfg.seed + 1)
    optimizer = torch.optim.Adam([*client.parameters(), *server.parameters()], lr=cfg.lr)
    x, y = pictures.train
    best, best_acc = copy.deepcopy(client), -1.0
    for _ in range(cfg.num_epochs):
        for start in range(0, len(x), cfg.batch):  # in order, as published
            batch_x, batch_y = x[start : start + cfg.batch], y[start : start + cfg.batch]
            z = client(batch_x)
            loss = F.cross_entropy(server(protect.smashed(z)), batch_y)
            extra = protect.extra_loss(batch_x, protect.bounded(z))  # before the noise, as published
            optimizer.zero_grad()
            (loss if extra is None else loss + extra).backward()
            optimizer.step()
        acc = _accuracy(server, protect.smashed(_apply(client, pictures.val[0]), training=False), pictures.val[1])
        if acc > best_acc:
            best, best_acc = copy.deepcopy(client), acc
    return best, best_acc


def _train_deconv(z: Tensor, x: Tensor, cfg: PrivacyStudyConfig) -> Decoder:
    net = _fresh(build_deconv, cfg.seed + 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.attack_lr)
    for _ in range(cfg.num_attack_epochs):
        for start in range(0, len(x), cfg.batch):
            optimizer.zero_grad()
            F.mse_loss(net(z[start : start + cfg.batch]), x[start : start + cfg.batch]).backward()
            optimizer.step()
    return lambda z: _apply(net, z)


def _train_judge(samples: tuple[Tensor, Tensor], cfg: PrivacyStudyConfig) -> nn.Module:
    """Trains the same net on the test pictures, which no model and no attacker saw."""
    net = nn.Sequential(*_fresh(build_client_part, cfg.seed + 3), nn.Tanh(), *_fresh(build_server_part, cfg.seed + 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=cfg.lr)
    x, y = samples
    for _ in range(cfg.num_epochs):
        for start in range(0, len(x), cfg.batch):
            optimizer.zero_grad()
            F.cross_entropy(net(x[start : start + cfg.batch]), y[start : start + cfg.batch]).backward()
            optimizer.step()
    return net


def _load(cfg: PrivacyStudyConfig) -> _Pictures:
    path = assets.data_path(cfg.data)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test") if name in archive}
    if len(arrays) < 4 or arrays["x_train"].shape[1:] != (28, 28) or len(arrays["x_train"]) < _NUM_TRAIN + _NUM_ATTACK:
        raise UsageError(
            f"{path}: expected MNIST with x_train [60000, 28, 28], y_train, x_test and y_test",
            hint="give its .npz as data=PATH",
        )

    def x(name: str, start: int, num: int) -> Tensor:
        pictures = torch.from_numpy(arrays[name][start : start + num].astype(np.float32))
        return ((pictures / 255.0 - 0.1307) / 0.3081).unsqueeze(1)

    def y(name: str, start: int, num: int) -> Tensor:
        return torch.from_numpy(arrays[name][start : start + num].astype(np.int64))

    num_seen = _NUM_TRAIN + _NUM_ATTACK
    num_judge = min(cfg.num_train, len(arrays["x_test"]))
    return _Pictures(
        train=(x("x_train", 0, min(cfg.num_train, _NUM_TRAIN)), y("y_train", 0, min(cfg.num_train, _NUM_TRAIN))),
        val=(x("x_test", 0, cfg.num_val), y("y_test", 0, cfg.num_val)),
        attack_x=x("x_train", _NUM_TRAIN, min(cfg.num_attack, _NUM_ATTACK)),
        attacked=(x("x_train", num_seen, cfg.num_attacked), y("y_train", num_seen, cfg.num_attacked)),
        judge=(x("x_test", 0, num_judge), y("y_test", 0, num_judge)),
    )


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
