"""Audio clips as log-mel spectrograms, from one archive of concatenated clips.

Shapes: n clips of S samples; T time steps, M mel bands.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgeai.core.assets import data_path
from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import AudioConfig
from edgeai.fedsplit.data.npz import read_arrays
from edgeai.fedsplit.data.raw import Array, Raw, finish, split
from edgeai.fedsplit.data.samples import Dataset

_BATCH = 256
_FLOOR = 1e-6  # of the power, before the logarithm
_FULL_SCALE = 32768.0


def load_audio(cfg: AudioConfig) -> Dataset:
    """Read clips as images [1, M, T], channels [M, T] or steps [T, M].

    Raises:
        UsageError: An array is missing, or the offsets do not fit the audio.
        EdgeAIError: The file cannot be read.
    """
    path = data_path(cfg.path)
    named = {"audio": cfg.audio, "offsets": cfg.offsets, "label": cfg.label, "rate_hz": cfg.rate_hz}
    named |= {key: name for key, name in (("groups", cfg.groups), ("take", cfg.take)) if name is not None}
    found = read_arrays(path, named)
    rate_hz = int(found["rate_hz"])
    clips = _clips(str(path), found["audio"], found["offsets"], round(cfg.duration_s * rate_hz))
    mels = log_mel(
        clips,
        rate_hz=rate_hz,
        num_mels=cfg.num_mels,
        window=round(cfg.window_s * rate_hz),
        hop=max(1, round(cfg.hop_s * rate_hz)),
    )
    x = {"image": mels[:, None], "channels": mels, "steps": mels.transpose(1, 2)}[cfg.layout].numpy()
    raw = Raw(x, found["label"], found.get("groups"), where="the clips")
    if "take" not in found:
        train, test = split(raw, cfg.test_frac, cfg.pick_seed)
    else:
        is_test = found["take"] < cfg.num_test_takes
        if is_test.all() or not is_test.any():
            raise UsageError(
                f"{path}: data.num_test_takes={cfg.num_test_takes} makes all clips training clips or all test clips",
                hint=f"takes range from {found['take'].min()} to {found['take'].max()}",
            )
        train, test = (
            Raw(x[mask], raw.y[mask], None if raw.groups is None else raw.groups[mask], raw.where)
            for mask in (~is_test, is_test)
        )
    return finish(cfg, path.stem, train, test)


def log_mel(clips: Tensor, *, rate_hz: int, num_mels: int, window: int, hop: int) -> Tensor:
    """Return the logarithm of the power in mel bands.

    Args:
        clips: Clips [n, S] with values from -1 to 1.
        rate_hz: Sampling rate.
        num_mels: Number of mel bands: M.
        window: Length of the Hann window in samples.
        hop: Samples between the starts of two windows.

    Returns:
        [n, M, T] with T = 1 + S // hop.
    """
    size = 1 << (window - 1).bit_length()
    bank = mel_bank(num_mels, size, rate_hz)
    hann = torch.hann_window(window)
    found = []
    for batch in clips.split(_BATCH):
        spectrum = torch.stft(batch, size, hop, window, hann, center=True, pad_mode="constant", return_complex=True)
        found.append(torch.log(torch.clamp(bank @ spectrum.abs().square(), min=_FLOOR)))
    return torch.cat(found)


def mel_bank(num_mels: int, size: int, rate_hz: int) -> Tensor:
    """Return triangular filters of height 1, overlapping by half, evenly spaced in mel, m = 2595 log10(1 + f / 700).

    Args:
        num_mels: Number of mel bands: M.
        size: Size of the Fourier transform.
        rate_hz: Sampling rate; the last filter ends at half of it.

    Returns:
        [M, size // 2 + 1] weights of the power spectrum.
    """
    top_mel = 2595 * np.log10(1 + rate_hz / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top_mel, num_mels + 2) / 2595) - 1)
    freqs_hz = np.linspace(0, rate_hz / 2, size // 2 + 1)
    low, middle, high = corners_hz[:-2, None], corners_hz[1:-1, None], corners_hz[2:, None]
    rising, falling = (freqs_hz - low) / (middle - low), (high - freqs_hz) / (high - middle)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


def _clips(where: str, audio: Array, offsets: Array, length: int) -> Tensor:
    """Return clips [n, length], truncated or padded with silence."""
    fits = len(offsets) > 1 and offsets[0] >= 0 and offsets[-1] <= len(audio) and bool((np.diff(offsets) > 0).all())
    if audio.ndim != 1 or not fits:
        raise UsageError(
            f"{where}: the offsets do not divide {len(audio)} samples of audio into clips",
            hint="clip i is audio[offsets[i]:offsets[i + 1]]; there is one offset more than clips",
        )
    clips = torch.zeros(len(offsets) - 1, length)
    scale = _FULL_SCALE if np.issubdtype(audio.dtype, np.integer) else 1.0
    for clip, start, stop in zip(clips, offsets[:-1], offsets[1:], strict=True):
        stop = min(int(stop), int(start) + length)
        clip[: stop - int(start)] = torch.from_numpy(audio[int(start) : stop].astype(np.float32) / scale)
    return clips
