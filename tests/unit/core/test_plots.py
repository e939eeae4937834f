"""Plots are files that say what they show, and the same numbers give the same file."""

from edgeai.core.plots import Line, save_lines

LINES = [
    Line("one seed", (0.0, 10.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)),
    Line("three seeds", (0.0, 5.0, 10.0), (1.0, 1.4, 1.6), (1.0, 1.3, 1.5), (1.0, 1.5, 1.8)),
]


def test_png_and_svg(tmp_path):
    paths = [tmp_path / "plot.png", tmp_path / "plot.svg"]
    save_lines(paths, LINES, title="What is seen", x_label="steps", y_label="length (tokens)")
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    text = paths[1].read_text()
    for words in ("What is seen", "steps", "length (tokens)", "one seed", "three seeds"):
        assert f">{words}<" in text
    assert text.count("FillBetweenPolyCollection") == 1  # a band without width is none
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    save_lines(paths, LINES, title="What is seen", x_label="steps", y_label="length (tokens)")
    assert paths[1].read_text() == text
