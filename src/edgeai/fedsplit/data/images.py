"""Image folders, one subfolder per class; images are decoded once and cached."""

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
_FORMAT = 1  # version of the cache file


@dataclass(frozen=True)
class _Form:
    """Size and mode that every image is converted to."""

    height: int
    width: int
    mode: str
    """Pillow mode: L or RGB."""


def load_images(cfg: ImagesConfig) -> Dataset:
    """Read <path>/<split>/<class>/*.png or .jpg as [C, H, W].

    Raises:
        UsageError: There is no such folder, or one without classes or images.
        EdgeAIError: An image cannot be read.
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
    """Return image files and their classes, sorted by class and name."""
    if not folder.is_dir():
        near = sorted(path.name for path in folder.parent.glob("*") if path.is_dir()) if folder.parent.is_dir() else []
        hint = f"set data.train and data.test; there are {', '.join(near)}" if near else "check data.path"
        raise UsageError(f"no folder {folder}", hint=hint)
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UsageError(
            f"no class folders in {folder}", hint="put images into <path>/<split>/<class>/, such as train/cat/"
        )
    files = []
    for folder_of_class in classes:
        found = sorted(path for path in folder_of_class.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not found:
            raise UsageError(
                f"no images in {folder_of_class}", hint="remove the folder, or put .png or .jpg files there"
            )
        files += [(path, folder_of_class.name) for path in found]
    return files


def _form(cfg: ImagesConfig, first: Path) -> _Form:
    image = _open(first)
    is_grey = image.mode in ("1", "L", "LA", "I", "I;16") if cfg.colour == "auto" else cfg.colour == "grey"
    return _Form(cfg.height or image.height, cfg.width or image.width, "L" if is_grey else "RGB")


def _cached(folder: Path, files: list[Path], form: _Form) -> Array:
    """Return all images [n, C, H, W] uint8, from the cache if no file has changed."""
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
            pass  # truncated by a full disk: decode again
    x = np.stack([_decode(path, form) for path in files])
    partial = place.with_name(f".part-{place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(partial, x=x)
        partial.replace(place)
    except OSError:
        partial.unlink(missing_ok=True)  # the cache only saves time
    return x


def _decode(path: Path, form: _Form) -> Array:
    image = _open(path)
    if image.size != (form.width, form.height):
        image = image.resize((form.width, form.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image.convert(form.mode), dtype=np.uint8)
    return pixels[None] if form.mode == "L" else pixels.transpose(2, 0, 1)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise EdgeAIError(f"cannot read the image {path}: {error}", hint="remove it, or download it again") from None
