"""Results of decoding, by hand."""

from edgeai.spec.decoding.generation import accept_len


def test_accept_len_by_hand():
    """Nine tokens in five cycles; without a cycle plain decoding's value."""
    assert accept_len([1, 3, 2, 2, 1]) == 9 / 5
    assert accept_len([]) == 1.0
