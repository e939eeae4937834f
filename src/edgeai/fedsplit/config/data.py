"""Configs of data sets and of their partitions over clients: one class each, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.core.config import Config

Level = float | tuple[float, ...] | Literal["auto"]


class SourceConfig(Config):
    """What all data sets have: how many samples to take, and by what inputs are normalised."""

    num_train: int | None = Field(None, ge=1)
    """Take so many training samples, each class in its share; null takes all."""
    num_test: int | None = Field(None, ge=1)
    """The same for test samples."""
    pick_seed: int = Field(0, ge=0)
    """Decides which samples those are, and which are test samples where the data have no split of their own."""
    mean: Level = "auto"
    """Subtracted from the inputs (pixels count from 0 to 1), one value or one a channel; auto measures it on the
    training samples."""
    std: Level = "auto"
    """Divides the inputs after that; 0 and 1 leave them as they are."""

    @model_validator(mode="after")
    def _check(self) -> SourceConfig:
        if (self.mean == "auto") != (self.std == "auto"):
            raise ValueError("mean and std must both be auto or both be given")
        levels = self.std if isinstance(self.std, tuple) else (self.std,)
        if any(level != "auto" and level <= 0 for level in levels):
            raise ValueError("std must be positive")
        return self


class DigitsConfig(SourceConfig):
    """1,797 handwritten digits of 8x8 pixels that come with scikit-learn; nothing to download."""

    kind: Literal["digits"] = "digits"


class NpzConfig(SourceConfig):
    """A NumPy archive with arrays of samples and of labels."""

    kind: Literal["npz"] = "npz"
    path: str
    """File, as given or below EDGEAI_DATA."""
    x_train: str = "x_train"
    y_train: str = "y_train"
    x_test: str | None = "x_test"
    """null: a part of the training samples becomes the test set."""
    y_test: str | None = "y_test"
    groups: str | None = None
    """Array with the natural client of each training sample."""
    channels: Literal["auto", "first", "last", "none"] = "auto"
    """Where the channels of pictures are; auto finds the place for 8-bit pictures, and leaves other arrays alone."""
    test_frac: float = Field(0.2, gt=0, lt=1)
    """Share of test samples where x_test is null."""


class IdxConfig(SourceConfig):
    """A folder with files in MNIST's format: train-images-idx3-ubyte and so on, also with .gz."""

    kind: Literal["idx"] = "idx"
    path: str
    """Folder, as given or below EDGEAI_DATA."""
    prefix: str = ""
    """What the file names begin with, such as emnist-letters-."""


class ImagesConfig(SourceConfig):
    """Pictures in folders: <path>/<split>/<class>/*.png or .jpg. Decoded once, then kept in the cache."""

    kind: Literal["images"] = "images"
    path: str
    """Folder, as given or below EDGEAI_DATA."""
    train: str = "train"
    """Name of the split; empty where the folders of the classes lie directly below path."""
    test: str | None = "test"
    """null: a part of the training samples becomes the test set."""
    height: int | None = Field(None, ge=4)
    """Pictures are resized to height and width; null takes the size of the first."""
    width: int | None = Field(None, ge=4)
    colour: Literal["auto", "grey", "rgb"] = "auto"
    """auto: as the first picture is."""
    test_frac: float = Field(0.2, gt=0, lt=1)
    """Share of test samples where test is null."""

    @model_validator(mode="after")
    def _check_size(self) -> ImagesConfig:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width must be given together")
        return self


class CsvConfig(SourceConfig):
    """A table: numbers are standardised on the training rows, categories become one input for each value."""

    kind: Literal["csv"] = "csv"
    path: str
    """File, as given or below EDGEAI_DATA."""
    test_path: str | None = None
    """Table with the test rows; null: a part of the rows becomes the test set."""
    label: str
    """Column of the class."""
    columns: tuple[str, ...] = ()
    """Names of all columns in order, for a file without a line of names."""
    drop: tuple[str, ...] = ()
    """Columns that are no inputs."""
    categorical: tuple[str, ...] = ()
    """Columns of numbers that are categories all the same."""
    groups: str | None = None
    """Column with the natural client of each row; it is no input."""
    label_end: str = ""
    """Removed from the end of labels, such as the full stop in UCI's adult.test."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    comment: str = Field("|", min_length=1)
    """Lines that begin so are skipped."""
    test_frac: float = Field(0.2, gt=0, lt=1)
    """Share of test rows where test_path is null."""


class AudioConfig(SourceConfig):
    """Spoken words in one NumPy archive, as log-mel spectra: all clips joined, and where each one ends."""

    kind: Literal["audio"] = "audio"
    path: str
    """File, as given or below EDGEAI_DATA."""
    audio: str = "audio"
    """Array int16 or float: all clips, joined."""
    offsets: str = "offsets"
    """Array: clip i goes from offsets[i] to offsets[i + 1]."""
    label: str = "label"
    rate_hz: str = "rate_hz"
    groups: str | None = "speaker"
    """Array with the natural client of each clip; null for none."""
    take: str | None = "take"
    """Array with the number of each recording of the same word; null: a part of the clips becomes the test set."""
    num_test_takes: int = Field(5, ge=1)
    """Recordings below this number are test clips."""
    test_frac: float = Field(0.2, gt=0, lt=1)
    """Share of test clips where take is null."""
    duration_s: float = Field(1.0, gt=0)
    """Longer clips are cut, shorter ones are followed by silence."""
    num_mels: int = Field(40, ge=4)
    window_s: float = Field(0.025, gt=0)
    hop_s: float = Field(0.01, gt=0)
    layout: Literal["image", "channels", "steps"] = "image"
    """A picture [1, mels, times], channels [mels, times] for cnn1d, or steps [times, mels] for gru and transformer."""


class HfConfig(SourceConfig):
    """A Hugging Face data set on disk, written by save_to_disk."""

    kind: Literal["hf"] = "hf"
    path: str
    """Folder, as given or below EDGEAI_DATA."""
    x: str = "image"
    """Column of pictures, arrays or lists of numbers; integers are tokens."""
    y: str = "label"
    train: str = "train"
    test: str | None = "test"
    """null: a part of the training samples becomes the test set."""
    groups: str | None = None
    """Column with the natural client of each training sample."""
    test_frac: float = Field(0.2, gt=0, lt=1)
    """Share of test samples where test is null."""


DataConfig = Annotated[
    DigitsConfig | NpzConfig | IdxConfig | ImagesConfig | CsvConfig | AudioConfig | HfConfig,
    Field(discriminator="kind"),
]


class IidConfig(Config):
    """Samples are dealt out at random, to each client as many."""

    kind: Literal["iid"] = "iid"


class DirichletConfig(Config):
    """Each class is dealt out in shares drawn from a Dirichlet distribution (Hsu et al. 2019)."""

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(0.3, gt=0)
    """Small: few classes a client; large: nearly iid."""
    min_samples: int = Field(64, ge=1)
    """Drawn again until every client has so many, or a quarter of an equal share where that is less."""


class ShardsConfig(Config):
    """Samples sorted by class are cut into equal shards, dealt out at random (McMahan et al. 2017)."""

    kind: Literal["shards"] = "shards"
    shards_per_client: int = Field(2, ge=1)


class LabelsConfig(Config):
    """Every client has samples of a fixed number of classes (Li et al. 2022)."""

    kind: Literal["labels"] = "labels"
    classes_per_client: int = Field(2, ge=1)


class QuantityConfig(Config):
    """Classes are alike everywhere, sizes follow a power law: client k has a share as k^exponent, from 1."""

    kind: Literal["quantity"] = "quantity"
    exponent: float = Field(1.0, ge=0)


class FeaturesConfig(Config):
    """Iid samples that look different at every client: from as they are, at the first, to all of it, at the last."""

    kind: Literal["features"] = "features"
    rotate_deg: float = Field(45.0, ge=-180, le=180)
    """Pictures only: how far they are turned."""
    noise_std: float = Field(0.0, ge=0)
    """Standard deviation of noise on the normalised inputs."""
    contrast: float = Field(1.0, gt=0)
    """Factor on the distance of every input from its sample's mean."""


class NaturalConfig(Config):
    """By who made the samples, such as speakers; with fewer clients than that, each holds several."""

    kind: Literal["natural"] = "natural"


class VerticalPartitionConfig(Config):
    """All clients hold the same samples, each other inputs of them."""

    kind: Literal["vertical"] = "vertical"
    columns: tuple[tuple[str, ...], ...] = ()
    """Tables: names of the columns of each client; empty deals them out evenly, in order."""
    axis: Literal["rows", "columns"] = "columns"
    """Pictures and sequences: what is dealt out, in strips; of a sequence the columns are the last axis."""


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
