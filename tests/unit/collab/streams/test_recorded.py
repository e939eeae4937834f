"""A recorded stream yields the frames of its source, which is read once."""

import numpy as np

from edgeai.collab.streams.recorded import RecordedStream


class Counted:
    """A toy stream that counts how often it was played to its end."""

    def __init__(self, stream):
        self._stream, self.num_plays = stream, 0
        for name in ("height", "width", "rate_hz", "num_frames", "palette", "classes"):
            setattr(self, name, getattr(stream, name))

    @property
    def problems(self):
        return self._stream.problems

    def frames(self):
        yield from self._stream.frames()
        self.num_plays += 1


def same(one, other):
    return one.id == other.id and np.array_equal(one.image, other.image) and np.array_equal(one.labels, other.labels)


def test_the_second_pass_is_from_memory(toys):
    stream, *_ = toys
    source = Counted(stream(8, bad=(3,)))
    recorded = RecordedStream(source, max_bytes=1 << 20)
    next(recorded.frames())  # looked at and left: not a whole pass
    assert not recorded.is_recorded
    first, second = list(recorded.frames()), list(recorded.frames())
    assert recorded.is_recorded
    assert source.num_plays == 1
    expected = list(stream(8, bad=(3,)).frames())
    assert len(first) == len(second) == len(expected) == 7
    assert all(same(a, b) and same(a, c) for a, b, c in zip(first, second, expected, strict=True))
    assert recorded.problems == ["000003.png: not a picture"]


def test_a_stream_beyond_the_memory_is_read_again(toys):
    stream, *_ = toys
    source = Counted(stream(8))
    recorded = RecordedStream(source, max_bytes=7 * 16 * 24 * 4)  # pixels and labels of seven frames
    assert len(list(recorded.frames())) == len(list(recorded.frames())) == 8
    assert source.num_plays == 2
    assert not recorded.is_recorded
