"""Upload, compute time and evaluation settings of `edgeai collab run`."""

from __future__ import annotations

from pydantic import Field

from edgeai.core.config import Config


class EvaluateConfig(Config):
    """What the report measures."""

    deadline_s: float = Field(0.5, gt=0.0)
    """An answer that refines the edge's counts if it is there this long after the frame was taken."""
    window_s: float = Field(10.0, gt=0.0)
    """Length of a point of the curves over time; doubled whenever there would be more than max_windows."""
    max_windows: int = Field(64, ge=2)


class ComputeConfig(Config):
    """How long things take, in virtual seconds. Given times make a run repeat exactly; an empty one is measured once,
    on this machine, before the first frame.
    """

    edge_s: float | None = Field(0.03, gt=0.0)
    """One pass of the edge model and the miner."""
    encode_s: float = Field(0.002, ge=0.0)
    """Compressing a frame at the edge; beside the next pass."""
    cloud_s: float | None = Field(0.12, gt=0.0)
    """Semantics, masks and fusion of one frame."""


class UploadConfig(Config):
    """How frames go up."""

    quality: int = Field(90, ge=1, le=95)
    """JPEG quality; 90 costs a segmentation net nothing."""
    adapt: bool = True
    """While the link is slow, fall to quality 75 and then to half the size."""
    max_in_flight: int = Field(4, ge=1)
    """Frames sent and not yet answered."""
    queue_frames: int = Field(2, ge=1)
    """Frames that wait for one of those places; the newest goes first, the oldest is dropped."""
    spool_frames: int = Field(64, ge=0)
    """Frames kept for training until the link is idle; the oldest is dropped."""
    breaker_failures: int = Field(5, ge=1)
    """Late or missing answers in a row after which nothing is asked any more."""
    breaker_probe_s: float = Field(2.0, gt=0.0)
    """After so long one frame tries again."""
