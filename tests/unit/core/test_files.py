import json

import pytest

from edgeai.core.files import json_text, new_folder, num_bytes_below, sha256_of, write_whole


def test_sha256_of_the_standards_example(tmp_path):
    """FIPS 180-2, appendix B.1: the digest of "abc"."""
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_has_no_nan():
    document = {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}, 3: (True, None, "ü")}
    assert json.loads(json_text(document)) == {"a": [None, 1.5], "b": {"c": None}, "3": [True, None, "ü"]}


def test_failed_write_keeps_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_whole(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_num_bytes_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"678")
    assert num_bytes_below(tmp_path) == 8


def test_of_two_that_make_a_folder_at_once_one_wins(tmp_path):
    path = tmp_path / "folder"
    with new_folder(path) as first:
        (first / "a").write_text("first")
        with new_folder(path) as second:
            (second / "a").write_text("second")
    assert (path / "a").read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no"), new_folder(tmp_path / "folder"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
