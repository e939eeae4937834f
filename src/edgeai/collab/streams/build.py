"""Build the stream that a config describes."""

from __future__ import annotations

from edgeai.collab.config.streams import StreamConfig, StreetConfig, VideoConfig
from edgeai.collab.streams.drift import DriftedStream
from edgeai.collab.streams.layouts import build_folder
from edgeai.collab.streams.stream import Stream
from edgeai.collab.streams.video import VideoStream
from edgeai.collab.street.drive import StreetStream


def build_stream(config: StreamConfig, seed: int) -> Stream:
    """Open the configured source and apply its drift schedule.

    Args:
        config: Source and drift schedule.
        seed: Seed of the generated street and of all randomness in the drift.

    Raises:
        UsageError: The source is missing, empty, has labels outside its map, or does not support the drift.
        EdgeAIError: A required package is missing.
    """
    stream: Stream
    match config.source:
        case StreetConfig() as street:
            stream = StreetStream(street, seed)
        case VideoConfig() as video:
            stream = VideoStream(video)
        case folder:
            stream = build_folder(folder)
    return DriftedStream(stream, config.drift, seed) if config.drift else stream
