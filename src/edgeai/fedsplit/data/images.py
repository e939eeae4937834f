"""Pictures in folders named after their classes, decoded once and kept in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeai.core import assets
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.fedsplit.config.data import ImagesConfig
from edgeai.fedsplit.data.raw import Array, Raw, finish, split
from edgeai.fedsplit.data.samples import Dataset

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_FORMAT = 1  # of the file in the cache


@dataclass(frozen=True)
class _Form:
    """What every picture is made into."""

    height: int
    width: int
    mode: str
    """As Pillow calls it: L or RGB."""


def load_images(cfg: ImagesConfig) -> Dataset:
    """Reads <path>/<split>/<class>/*.png or .jpg, to [C, H, W].

    Raises:
        UsageError: No such folder, or one without classes or pictures.
        EdgeAIError: A picture cannot be read.
    """
    root = assets.data_path(cfg.path)
    form: _Form | None = None
    parts = []
    for name in (cfg.train,) if cfg.test is None else (cfg.train, cfg.test):
        folder = root / name
        files = _files(folder)
        form = form or _form(cfg, files[0][0])
        x = _cached(folder, [path for path, _ in files], form)
        parts.append(Raw(x, np.array([label for _, label in files]), where=name or root.name))
    if cfg.test is None:
        parts = list(split(parts[0], cfg.test_frac, cfg.pick_seed))
    return finish(cfg, root.name, parts[0], parts[1])


def _files(folder: Path) -> list[tuple[Path, str]]:
    """Pictures and their classes, sorted by both."""
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir()) if folder.parent.is_dir() else []
        hint = f"set data.train and data.test; there are {', '.join(near)}" if near else "check data.path"
        raise UsageError(f"no folder {folder}", hint=hint)
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UsageError(
            f"no folders of classes in {folder}", hint="pictures belong in <path>/<split>/<class>/, such as train/cat/"
        )
    files = []
    for folder_of_class in classes:
        found = sorted(path for path in folder_of_class.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise UsageError(
                f"no pictures in {folder_of_class}", hint="remove the folder, or put .png or .jpg files there"
            )
        files += [(path, folder_of_class.name) for path in found]
    return files


def _form(cfg: ImagesConfig, first: Path) -> _Form:
    picture = _open(first)
    is_grey = picture.mode in ("1", "L", "LA", "I", "I;16") if cfg.colour == "auto" else cfg.colour == "grey"
    return _Form(cfg.height or picture.height, cfg.width or picture.width, "L" if is_grey else "RGB")


def _cached(folder: Path, files: list[Path], form: _Form) -> Array:
    """All pictures [n, C, H, W] uint8, from the cache if the files are as they were."""
    digest = hashlib.sha256(repr((_FORMAT, form)).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    place = assets.cache_dir() / "data" / f"{folder.parent.name}-{folder.name}-{digest.hexdigest()[:16]}.npz"
    if place.is_file():
        try:
            with np.load(place, allow_pickle=False) as archive:
                return archive["x"]
        except (OSError, ValueError, KeyError, EOFError):
            pass  # cut short by a full disk: decode again
    x = np.stack([_decode(path, form) for path in files])
    partial = place.with_name(f".part-{place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, x=x)
        partial.replace(place)
    except OSError:
        partial.unlink(missing_ok=True)  # the cache saves time; without it all goes on
    return x


def _decode(path: Path, form: _Form) -> Array:
    picture = _open(path)
    if picture.size != (form.width, form.height):
        picture = picture.resize((form.width, form.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture.convert(form.mode), dtype=np.uint8)
    return pixels[None] if form.mode == "L" else pixels.transpose(2, 0, 1)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise EdgeAIError(f"cannot read the picture {path}: {error}", hint="remove it, or get it again") from None
