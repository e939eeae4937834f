"""Upload, compute time and evaluation settings of `edgeai collab run`."""

from __future__ import annotations

from pydantic import Field

from edgeai.core.config import Config


class EvaluateConfig(Config):
    """Deadline and time windows of the evaluation."""

    deadline_s: float = Field(default=0.5, gt=0.0)
    """Time from capture to the deadline; a cloud answer that arrives later is not counted."""
    window_s: float = Field(default=10.0, gt=0.0)
    """Length of a time window of the curves; doubled when more than max_windows would be needed."""
    max_windows: int = Field(default=64, ge=2)
    """Maximum number of time windows."""


class ComputeConfig(Config):
    """Compute times in virtual seconds. With given times, a run is exactly reproducible; null measures the time once on
    this machine, before the first frame.
    """

    edge_s: float | None = Field(default=0.03, gt=0.0)
    """One pass of the edge model and the miner."""
    encode_s: float = Field(default=0.002, ge=0.0)
    """Compression of a frame at the edge, in parallel with the next pass."""
    cloud_s: float | None = Field(default=0.12, gt=0.0)
    """Semantics, masks and fusion of one frame."""


class UploadConfig(Config):
    """Upload of frames."""

    quality: int = Field(default=90, ge=1, le=95)
    """JPEG quality; 90 does not reduce segmentation quality."""
    adapt: bool = True
    """On a slow link, reduce quality to 75, then also height and width to half."""
    max_in_flight: int = Field(default=4, ge=1)
    """Maximum number of frames sent and not yet answered."""
    queue_frames: int = Field(default=2, ge=1)
    """Maximum number of frames waiting to be sent; the newest is sent first, the oldest is dropped."""
    spool_frames: int = Field(default=64, ge=0)
    """Maximum number of frames stored for training until the link is idle; the oldest is dropped."""
    breaker_failures: int = Field(default=5, ge=1)
    """Number of consecutive late or missing answers that stops requests."""
    breaker_probe_s: float = Field(default=2.0, gt=0.0)
    """Time between single probe requests while requests are stopped."""
