"""Plots: the SVG says what was drawn, follows the page's colours, and is the same every time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from edgeai.core.report.plot import COLORS, INK, RULE, Line, Span, draw_figure, line_figure, save_lines

SVG = "{http://www.w3.org/2000/svg}"


def words(figure):
    root = ElementTree.fromstring(figure.image)
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def paths(figure, colour):
    """Points of the unfilled paths of this colour, in drawing units (y grows downwards)."""
    root = ElementTree.fromstring(figure.image)
    found = [p for p in root.iter(f"{SVG}path") if f"stroke: {colour}" in p.get("style", "") and p.get("clip-path")]
    return [[(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", p.get("d"))] for p in found]


def draw(*lines, caption="c"):
    return line_figure(lines, x_label="step", y_label="loss", caption=caption)


def test_a_line_is_drawn_to_scale():
    figure = draw(Line("one", [0, 1, 2, 4], [0.0, 1.0, 2.0, 1.0]))
    [points] = paths(figure, f"var(--c0, {COLORS[0]})")
    (x0, y0), (x1, y1), (x2, y2), (x4, y4) = points
    assert (x2 - x0, x4 - x0) == pytest.approx((2 * (x1 - x0), 4 * (x1 - x0)), rel=1e-4)
    assert (y2 - y0, y4 - y0) == pytest.approx((2 * (y1 - y0), y1 - y0), rel=1e-4)
    assert y2 < y0  # larger is higher
    assert {"step", "loss"} <= set(words(figure))
    assert "one" not in words(figure)  # one line needs no legend


def test_lines_are_named_where_there_are_several():
    figure = draw(Line("train", [0, 1], [0, 1]), Line("val", [0, 1], [1, 0]))
    assert {"train", "val"} <= set(words(figure))
    assert paths(figure, f"var(--c1, {COLORS[1]})")


def test_a_gap_stays_a_gap():
    figure = draw(Line("one", [0, 1, 2, 3, 4], [1, 1, float("nan"), 1, 1]))
    root = ElementTree.fromstring(figure.image)
    [path] = [p.get("d") for p in root.iter(f"{SVG}path") if "var(--c0" in p.get("style", "") and p.get("clip-path")]
    assert path.count("M") == 2


def test_long_lines_become_means_and_the_caption_says_so():
    figure = draw(Line("one", list(range(1000)), [float(number % 2) for number in range(1000)]))
    [points] = paths(figure, f"var(--c0, {COLORS[0]})")
    assert len(points) <= 240
    ticks = [float(word) for word in words(figure) if re.fullmatch(r"0\.\d+", word)]
    assert (min(ticks), max(ticks)) == (0.4, 0.6)  # means of 0 1 0 1 0 and 1 0 1 0 1
    assert figure.caption == "c Long lines are drawn as means of 5 neighbors."
    assert draw(Line("one", [0, 1], [0, 1])).caption == "c"


def test_steps_are_whole_and_large_numbers_short():
    figure = draw(Line("one", [1, 2, 3], [0.0, 2e6, 4e6]))
    assert "4 M" in words(figure)
    assert not [word for word in words(figure) if re.fullmatch(r"\d\.\d+", word)]


def test_colours_and_fonts_are_the_pages_and_nothing_is_dated():
    image = draw(Line("one", [0, 1], [0, 1])).image
    assert INK not in image
    assert RULE not in image
    assert "currentColor" in image
    assert "DejaVu" not in image
    assert "<metadata" not in image
    without_variables = re.sub(r"var\(--\w+, #\w+\)", "", image)
    assert re.findall(r"#[0-9a-f]{6}\b", without_variables) == []


def test_the_same_data_gives_the_same_bytes_and_two_figures_do_not_clash():
    def ids(image):
        return set(re.findall(r' id="([^"]+)"', image))

    one, again, other = (draw(Line("one", [0, 1], [0, 1]), caption=caption).image for caption in "ccd")
    assert one == again
    assert ids(one)
    assert ids(one).isdisjoint(ids(other))


def test_areas_draw_what_they_like():
    def pareto(axes):
        axes.scatter([1, 2], [3, 4])
        axes.annotate("laecips", (1, 3))

    assert "laecips" in words(draw_figure(pareto, caption="c", alt="a", size_in=(4, 2)))


BANDED = [
    Line("one seed", (0.0, 10.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)),
    Line("three seeds", (0.0, 5.0, 10.0), (1.0, 1.4, 1.6), (1.0, 1.3, 1.5), (1.0, 1.5, 1.8)),
]


def bands(svg):
    return svg.count("FillBetweenPolyCollection")


def filled(figure, colour):
    root = ElementTree.fromstring(figure.image)
    return [path for path in root.iter() if f"fill: {colour}" in path.get("style", "")]


def test_a_band_lies_around_its_line_unless_it_has_no_width():
    figure = draw(*BANDED)
    assert not [p for p in filled(figure, f"var(--c0, {COLORS[0]})") if "opacity: 0.15" in p.get("style")]
    [band] = [p for p in filled(figure, f"var(--c1, {COLORS[1]})") if "opacity: 0.15" in p.get("style")]
    name = band.get("{http://www.w3.org/1999/xlink}href").removeprefix("#")
    root = ElementTree.fromstring(figure.image)
    [shape] = [path for path in root.iter(f"{SVG}path") if path.get("id") == name]
    corners = [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", shape.get("d"))]
    [points] = paths(figure, f"var(--c1, {COLORS[1]})")
    right = max(x for x, _ in corners)
    edges = [y + float(band.get("y")) for x, y in corners if x == right]
    # at x = 10 the line is at 1.6 of a band from 1.5 to 1.8: a third of the way up
    assert (max(edges) - points[-1][1]) / (max(edges) - min(edges)) == pytest.approx(1 / 3, rel=1e-3)


def test_spans_are_named_and_every_second_one_is_shaded():
    spans = [Span("day", 0, 4), Span("night", 4, 8), Span("fog", 8, 10)]
    figure = line_figure(BANDED, x_label="x", y_label="y", caption="c", spans=spans)
    assert {"day", "night", "fog"} <= set(words(figure))
    shaded = [p for p in filled(figure, "var(--rule, #d9dee3)") if "opacity: 0.35" in p.get("style")]
    [edges] = [[float(x) for x, _ in re.findall(r"([-\d.]+) ([-\d.]+)", p.get("d"))] for p in shaded]
    [points] = paths(figure, f"var(--c1, {COLORS[1]})")
    scale = (points[-1][0] - points[0][0]) / 10
    assert (max(edges) - min(edges)) / scale == pytest.approx(4, rel=1e-4)


def test_files_say_what_they_show_and_are_the_same_every_time(tmp_path):
    files = [tmp_path / "plot.png", tmp_path / "plot.svg"]
    save_lines(files, BANDED, title="What is seen", x_label="steps", y_label="length (tokens)")
    assert files[0].read_bytes().startswith(b"\x89PNG")
    text = files[1].read_text()
    for said in ("What is seen", "steps", "length (tokens)", "one seed", "three seeds"):
        assert f">{said}<" in text
    assert bands(text) == 1
    assert "var(--" not in text  # it stands alone
    assert "#ffffff" in text
    assert sorted(tmp_path.iterdir()) == sorted(files)
    save_lines(files, BANDED, title="What is seen", x_label="steps", y_label="length (tokens)")
    assert files[1].read_text() == text
