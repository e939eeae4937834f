"""Measured leakage: how much a trained client part reveals about the inputs and labels."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeai.core.report.fields import about


@dataclass(frozen=True)
class Reconstruction:
    """The success of an attack that reconstructs inputs."""

    mse: float = field(metadata=about("MSE", meaning="mean squared error per value"))
    mse_of_mean: float = field(
        metadata=about("MSE of the mean", meaning="error of an attacker who always answers the mean of the originals")
    )
    psnr_db: float = field(metadata=about("PSNR (dB)", meaning="peak: the range of the originals"))
    """Infinite for a perfect reconstruction."""
    ssim: float | None = field(metadata=about("SSIM", unit="1", meaning="mean structural similarity of pictures"))
    """None for anything but pictures."""
    dcor: float = field(
        metadata=about("dCor", unit="1", meaning="distance correlation of originals and reconstructions")
    )
    correlation: float = field(
        metadata=about("correlation", unit="1", meaning="mean of Pearson's correlation per sample, -1 to 1")
    )
    """Blind to scale and offset, which a normalizing client part hides from the attacker but not from a viewer."""


@dataclass(frozen=True)
class LabelLeakage:
    """Areas under ROC curves of label attacks; 0.5 is chance and 1 a perfect attack."""

    auc_norm: float = field(
        metadata=about(
            "AUC by norm", unit="1", meaning="score: norm of the gradient, best for imbalanced binary labels"
        )
    )
    auc_cosine: float = field(
        metadata=about("AUC by cosine", unit="1", meaning="score: cosine to gradients whose label the attacker knows")
    )


@dataclass(frozen=True)
class Leakage:
    """Measured leakage of one client part; None for attacks that were not configured."""

    num_private: int = field(metadata=about("private samples attacked", hidden=True))
    num_public: int = field(metadata=about("public samples of the attacker", hidden=True))
    dcor: float | None = field(
        default=None,
        metadata=about(
            "dCor(x, z)", unit="1", meaning="distance correlation of inputs and smashed data, mean over batches"
        ),
    )
    dcor_if_unrelated: float | None = field(
        default=None,
        metadata=about(
            "dCor of unrelated pairs", unit="1", meaning="the same with shuffled pairs: the floor at this batch size"
        ),
    )
    dcor_batch: int | None = field(
        default=None, metadata=about("batch of dCor", meaning="samples, at most", hidden=True)
    )
    inversion: Reconstruction | None = field(default=None, metadata=about("decoder"))
    """Reconstruction by a trained decoder."""
    judged_accuracy_frac: float | None = field(
        default=None,
        metadata=about(
            "accuracy on reconstructions",
            meaning="of an independent classifier, trained on public samples, on the decoder's reconstructions",
        ),
    )
    judge_accuracy_frac: float | None = field(
        default=None,
        metadata=about("accuracy on originals", meaning="the same classifier on the originals, the upper limit"),
    )
    unsplit: Reconstruction | None = field(default=None, metadata=about("UnSplit"))
    """By UnSplit or, with known weights, by searching the inputs alone."""
    fsha: Reconstruction | None = field(default=None, metadata=about("hijacking (FSHA)"))
    """By feature-space hijacking of a copy of the client part, for private data that crosses afterwards."""
    labels: LabelLeakage | None = field(default=None, metadata=about("labels"))
    """True labels, from the gradients at the cut (which come from the labels that were sent)."""
