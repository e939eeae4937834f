"""Configs of data sets and of their partitions over clients: one class each, distinguished by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

Level = float | tuple[float, ...] | Literal["auto"]


class SourceConfig(Config):
    """Options of all data sets: number of samples and normalization of the inputs."""

    num_train: int | None = Field(default=None, ge=1)
    """Number of training samples, drawn with the class proportions of the data set; null uses all."""
    num_test: int | None = Field(default=None, ge=1)
    """Number of test samples, drawn in the same way; null uses all."""
    pick_seed: int = Field(default=0, ge=0)
    """Seed of that draw, and of the test split if the data set has none."""
    mean: Level = "auto"
    """Mean subtracted from the inputs (pixels scaled to 0..1): one value, or one per channel; auto computes it from the
    training samples."""
    std: Level = "auto"
    """Divisor of the inputs after subtracting the mean; mean 0 and std 1 leave them unchanged."""

    @model_validator(mode="after")
    def _check(self) -> SourceConfig:
        if (self.mean == "auto") != (self.std == "auto"):
            raise ValueError("mean and std must both be auto or both be given")
        levels = self.std if isinstance(self.std, tuple) else (self.std,)
        if any(level != "auto" and level <= 0 for level in levels):
            raise ValueError("std must be positive")
        return self


class DigitsConfig(SourceConfig):
    """1,797 handwritten digits of 8x8 pixels, included in scikit-learn; no download."""

    kind: Literal["digits"] = "digits"


class NpzConfig(SourceConfig):
    """NumPy archive with arrays of samples and labels."""

    kind: Literal["npz"] = "npz"
    path: str
    """Path of the file, absolute, relative, or below EDGEAI_DATA."""
    x_train: str = "x_train"
    """Array of the training samples."""
    y_train: str = "y_train"
    """Array of the training labels."""
    x_test: str | None = "x_test"
    """null: a share of the training samples becomes the test set."""
    y_test: str | None = "y_test"
    """Array of the test labels."""
    groups: str | None = None
    """Array with the natural client of each training sample."""
    channels: Literal["auto", "first", "last", "none"] = "auto"
    """Position of the channel axis of images; auto detects it for 8-bit images and leaves other arrays unchanged."""
    test_frac: float = Field(default=0.2, gt=0, lt=1)
    """Share of test samples if x_test is null."""


class IdxConfig(SourceConfig):
    """Folder with files in MNIST's IDX format, such as train-images-idx3-ubyte, optionally with .gz."""

    kind: Literal["idx"] = "idx"
    path: str
    """Path of the folder, absolute, relative, or below EDGEAI_DATA."""
    prefix: str = ""
    """Prefix of the file names, such as emnist-letters-."""


class ImagesConfig(SourceConfig):
    """Images in folders: <path>/<split>/<class>/*.png or .jpg. Decoded once, then cached."""

    kind: Literal["images"] = "images"
    path: str
    """Path of the folder, absolute, relative, or below EDGEAI_DATA."""
    train: str = "train"
    """Name of the split; empty if the class folders are directly below path."""
    test: str | None = "test"
    """null: a share of the training samples becomes the test set."""
    height: int | None = Field(default=None, ge=4)
    """Images are resized to height and width; null uses the size of the first image."""
    width: int | None = Field(default=None, ge=4)
    """See height."""
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """auto: as in the first image."""
    test_frac: float = Field(default=0.2, gt=0, lt=1)
    """Share of test samples if test is null."""

    @model_validator(mode="after")
    def _check_size(self) -> ImagesConfig:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width must be given together")
        return self


class CsvConfig(SourceConfig):
    """Table: numbers are standardized on the training rows, categories are one-hot encoded."""

    kind: Literal["csv"] = "csv"
    path: str
    """Path of the file, absolute, relative, or below EDGEAI_DATA."""
    test_path: str | None = None
    """Table with the test rows; null: a share of the rows becomes the test set."""
    label: str
    """Column with the class label."""
    columns: tuple[str, ...] = ()
    """Names of all columns in order, for a file without a header line."""
    drop: tuple[str, ...] = ()
    """Columns that are not used as inputs."""
    categorical: tuple[str, ...] = ()
    """Numeric columns to treat as categories."""
    groups: str | None = None
    """Column with the natural client of each row; it is not used as an input."""
    label_end: str = ""
    """Suffix to remove from labels, such as the full stop in UCI's adult.test."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Character between columns."""
    comment: str = Field(default="|", min_length=1)
    """Prefix of lines to skip."""
    test_frac: float = Field(default=0.2, gt=0, lt=1)
    """Share of test rows if test_path is null."""


class AudioConfig(SourceConfig):
    """Spoken words in one NumPy archive of concatenated clips, converted to log-mel spectrograms."""

    kind: Literal["audio"] = "audio"
    path: str
    """Path of the file, absolute, relative, or below EDGEAI_DATA."""
    audio: str = "audio"
    """Array of all clips, concatenated, int16 or float."""
    offsets: str = "offsets"
    """Array of clip boundaries: clip i is offsets[i] to offsets[i + 1]."""
    label: str = "label"
    """Array of the class of each clip."""
    rate_hz: str = "rate_hz"
    """Array with the sampling rate."""
    groups: str | None = "speaker"
    """Array with the natural client of each clip; null for none."""
    take: str | None = "take"
    """Array with the take number of each recording; null: a share of the clips becomes the test set."""
    num_test_takes: int = Field(default=5, ge=1)
    """Takes with a number below this one are test clips."""
    test_frac: float = Field(default=0.2, gt=0, lt=1)
    """Share of test clips if take is null."""
    duration_s: float = Field(default=1.0, gt=0)
    """Duration of a sample: longer clips are truncated, shorter ones padded with silence."""
    num_mels: int = Field(default=40, ge=4)
    """Mel bands of the spectrogram."""
    window_s: float = Field(default=0.025, gt=0)
    """Length of an analysis window."""
    hop_s: float = Field(default=0.01, gt=0)
    """Distance between analysis windows."""
    layout: Literal["image", "channels", "steps"] = "image"
    """image: [1, mels, times]; channels: [mels, times], for cnn1d; steps: [times, mels], for gru and transformer."""


class HfConfig(SourceConfig):
    """Hugging Face data set on disk, written by save_to_disk."""

    kind: Literal["hf"] = "hf"
    path: str
    """Path of the folder, absolute, relative, or below EDGEAI_DATA."""
    x: str = "image"
    """Column of images, arrays or lists of numbers; integers are tokens."""
    y: str = "label"
    """Column of the labels."""
    train: str = "train"
    """Name of the training split."""
    test: str | None = "test"
    """null: a share of the training samples becomes the test set."""
    groups: str | None = None
    """Column with the natural client of each training sample."""
    test_frac: float = Field(default=0.2, gt=0, lt=1)
    """Share of test samples if test is null."""


DataConfig = Annotated[
    DigitsConfig | NpzConfig | IdxConfig | ImagesConfig | CsvConfig | AudioConfig | HfConfig,
    Field(discriminator="kind"),
]


class IidConfig(Config):
    """Samples are distributed at random, the same number to each client."""

    kind: Literal["iid"] = "iid"


class DirichletConfig(Config):
    """Each class is distributed over clients in shares from a Dirichlet distribution (Hsu et al. 2019)."""

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(default=0.3, gt=0)
    """Concentration: small values give few classes per client, large values are nearly IID."""
    min_samples: int = Field(default=64, ge=1)
    """Minimum samples per client, or a quarter of an equal share if that is less; shares are redrawn until it holds."""


class ShardsConfig(Config):
    """Samples sorted by class are split into equal shards, distributed at random (McMahan et al. 2017)."""

    kind: Literal["shards"] = "shards"
    shards_per_client: int = Field(default=2, ge=1)
    """Shards of each client."""


class LabelsConfig(Config):
    """Every client has samples of a fixed number of classes (Li et al. 2022)."""

    kind: Literal["labels"] = "labels"
    classes_per_client: int = Field(default=2, ge=1)
    """Classes of each client."""


class QuantityConfig(Config):
    """Equal class proportions, with sizes by a power law: client k (from 1) has a share proportional to k^exponent."""

    kind: Literal["quantity"] = "quantity"
    exponent: float = Field(default=1.0, ge=0)
    """Exponent of the power law; 0 gives equal sizes."""


class FeaturesConfig(Config):
    """IID samples with a feature shift that grows from none at the first client to the full one at the last."""

    kind: Literal["features"] = "features"
    rotate_deg: float = Field(default=45.0, ge=-180, le=180)
    """Largest rotation, images only."""
    noise_std: float = Field(default=0.0, ge=0)
    """Standard deviation of noise on the normalized inputs."""
    contrast: float = Field(default=1.0, gt=0)
    """Factor on the distance of every input from its sample's mean."""


class NaturalConfig(Config):
    """Natural clients of the data set, such as speakers; with fewer clients, each one holds several."""

    kind: Literal["natural"] = "natural"


class VerticalPartitionConfig(Config):
    """All clients hold the same samples, each with different inputs."""

    kind: Literal["vertical"] = "vertical"
    columns: tuple[tuple[str, ...], ...] = ()
    """Tables: names of each client's columns; empty distributes them evenly, in order."""
    axis: Literal["rows", "columns"] = "columns"
    """Images and sequences: axis that is split into strips; for a sequence, columns is the last axis."""


PartitionConfig = Annotated[
    IidConfig
    | DirichletConfig
    | ShardsConfig
    | LabelsConfig
    | QuantityConfig
    | FeaturesConfig
    | NaturalConfig
    | VerticalPartitionConfig,
    Field(discriminator="kind"),
]
