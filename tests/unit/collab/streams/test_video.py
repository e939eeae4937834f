"""Frames of video files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeai.collab.config.streams import VideoConfig
from edgeai.collab.streams.video import VideoStream
from edgeai.core.errors import EdgeAIError, UsageError


def test_video(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for index in range(7):
        writer.write(np.full((48, 64, 3), (200, 20 * index, 10), dtype=np.uint8))  # BGR
    writer.release()
    stream = VideoStream(VideoConfig(path=str(path), stride=2, height=32, width=40))
    assert (stream.rate_hz, stream.num_frames, stream.height, stream.width) == (5.0, 4, 32, 40)
    for _ in range(2):
        frames = list(stream.frames())
        assert [(f.id, f.time_s) for f in frames] == [("000000", 0), ("000002", 0.2), ("000004", 0.4), ("000006", 0.6)]
        assert frames[2].labels is None
        np.testing.assert_allclose(frames[2].image[9, 9], (10, 80, 200), atol=6)  # JPEG in the file
    (tmp_path / "no.avi").write_bytes(b"nothing")
    with pytest.raises(UsageError) as caught:
        VideoStream(VideoConfig(path=str(tmp_path / "no.avi")))
    assert caught.value.message == f"cannot read {tmp_path}/no.avi as a video"


def test_video_without_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EdgeAIError, match=r"^reading a video needs OpenCV$") as caught:
        VideoStream(VideoConfig(path=str(tmp_path)))
    assert caught.value.hint == 'pip install "edgeai[vision]"'
