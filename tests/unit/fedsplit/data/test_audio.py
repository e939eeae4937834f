"""Spectra of pure tones of known frequency, and clips cut by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.fedsplit.config.data import AudioConfig
from edgeai.fedsplit.data.audio import log_mel, mel_bank
from edgeai.fedsplit.data.load import load_data

RATE_HZ = 8000


def tone(freq_hz: float, num: int = RATE_HZ) -> torch.Tensor:
    return torch.sin(2 * math.pi * freq_hz / RATE_HZ * torch.arange(num))


@pytest.mark.parametrize("freq_hz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_around_it(freq_hz: float) -> None:
    mels = log_mel(tone(freq_hz)[None], rate_hz=RATE_HZ, num_mels=20, window=200, hop=80)
    assert mels.shape == (1, 20, 101)
    step_mel = 2595 * math.log10(1 + 4000 / 700) / 21
    band = 2595 * math.log10(1 + freq_hz / 700) / step_mel - 1  # band m has its middle at (m + 1) steps
    assert abs(mels[0, :, 50].argmax().item() - band) <= 1


def test_power_of_a_tone_doubles_by_6_db() -> None:
    loud, quiet = (log_mel(level * tone(1000)[None], rate_hz=RATE_HZ, num_mels=20, window=200, hop=80)[0, :, 50].max()
                   for level in (0.5, 0.25))  # fmt: skip
    assert (loud - quiet).item() == pytest.approx(math.log(4), abs=1e-4)


def test_neighbouring_bands_share_every_frequency() -> None:
    bank = mel_bank(20, 256, RATE_HZ)
    middle = bank[:, 8:100].sum(0)  # between the middles of the first and the last band
    torch.testing.assert_close(middle, torch.ones_like(middle), atol=1e-5, rtol=0)


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    """Twelve clips: two words by three speakers, two takes each."""
    clips = [(10_000 * tone(500 + 700 * word, 500 + 100 * take)).numpy().astype(np.int16)
             for word in (0, 1) for _ in range(3) for take in (0, 1)]  # fmt: skip
    path = tmp_path / "spoken.npz"
    np.savez(
        path,
        audio=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.repeat([0, 1], 6),
        speaker=np.tile(np.repeat(["ada", "bob", "eve"], 2), 2),
        take=np.tile([0, 1], 6),
        rate_hz=RATE_HZ,
    )
    return path


def test_takes_split_and_speakers_are_groups(spoken: Path) -> None:
    cfg = AudioConfig(path=str(spoken), num_test_takes=1, duration_s=0.1, num_mels=8)
    found = load_data(cfg)
    assert (len(found.train), len(found.test)) == (6, 6)
    assert found.sample_shape == (1, 8, 11)
    assert found.group_names == ("ada", "bob", "eve")
    assert found.groups is not None
    assert found.groups.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    channels = load_data(cfg.model_copy(update={"layout": "channels", "mean": 0.0, "std": 1.0}))
    steps = load_data(cfg.model_copy(update={"layout": "steps", "mean": 0.0, "std": 1.0}))
    assert torch.equal(channels.train.x, steps.train.x.transpose(1, 2))
    with np.load(spoken) as archive:
        second = torch.from_numpy(archive["audio"][500:1100].astype(np.float32) / 32768)
    padded = torch.nn.functional.pad(second, (0, 200))
    expected = log_mel(padded[None], rate_hz=RATE_HZ, num_mels=8, window=200, hop=80)
    torch.testing.assert_close(channels.train.x[:1], expected)


def test_audio_that_cannot_be_used(spoken: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_data(AudioConfig(path=str(spoken)))
    assert caught.value.message == f"{spoken}: data.num_test_takes=5 makes all clips training clips or all test clips"
    assert caught.value.hint == "takes range from 0 to 1"
    with pytest.raises(UsageError) as caught:
        load_data(AudioConfig(path=str(spoken), groups="speakers"))
    assert caught.value.message == f'{spoken} has no "speakers"'
    assert caught.value.hint.startswith('did you mean "speaker"? ')
    with np.load(spoken) as archive:
        arrays = dict(archive)
    np.savez(spoken, **{**arrays, "offsets": arrays["offsets"] + 1})
    with pytest.raises(UsageError) as caught:
        load_data(AudioConfig(path=str(spoken)))
    assert caught.value.message == f"{spoken}: the offsets do not divide 6600 samples of audio into clips"
