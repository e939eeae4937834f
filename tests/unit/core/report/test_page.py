"""Report pages: read back with an HTML parser, as a browser would."""

import base64
import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from edgeai.core.report.blocks import Figure, Heading, Number, Paragraph, Strip, StripImage, Table
from edgeai.core.report.page import render_page

VOID = {"meta", "img", "br", "hr", "link", "input", "path", "use"}


class Page(html.parser.HTMLParser):
    """Keeps every element as (tag, attributes, text directly within it) and checks that they nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if self._open:
            self._open[-1][2] += data

    def all(self, tag):
        return [(attrs, text.strip()) for name, attrs, text in self.elements if name == tag]

    def texts(self, tag):
        return [text for _, text in self.all(tag)]


def png():
    stream = io.BytesIO()
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)).save(stream, "PNG")
    return stream.getvalue()


def test_text_comes_back_as_written_and_never_as_markup():
    text = 'a < b & "c" <script>alert(1)</script>'
    page = Page(
        render_page(text, [Heading(text), Heading(text, level=3), Paragraph(text), Table((text,), [(text,)], text)])
    )
    for tag in ("title", "h1", "h2", "h3", "p", "th", "td", "figcaption"):
        assert page.texts(tag) == [text]
    assert page.all("script") == []


def test_a_page_fetches_nothing_and_fits_screens():
    text = render_page("t", [Figure(png(), "c", "a"), Strip([StripImage(png(), "x")], "c")], summary="s")
    page = Page(text)
    assert page.all("link") == page.all("script") == []
    assert [attrs["src"][:22] for attrs, _ in page.all("img")] == ["data:image/png;base64,"] * 2
    assert "http" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert {attrs.get("name"): attrs.get("content") for attrs, _ in page.all("meta")}["viewport"] == (
        "width=device-width, initial-scale=1"
    )


def test_images_come_back_to_the_byte_with_their_words():
    page = Page(
        render_page("t", [Figure(png(), "what is seen", "for others"), Strip([StripImage(png(), "edge")], "f")])
    )
    (figure, _), (strip, _) = page.all("img")
    assert base64.b64decode(figure["src"].partition(",")[2]) == png()
    assert (figure["alt"], strip["alt"]) == ("for others", "edge")
    assert page.texts("figcaption") == ["what is seen", "f"]


def test_neighbouring_figures_share_a_grid():
    figure = Figure("<svg></svg>", "c", "a")
    page = Page(render_page("t", [figure, figure, Paragraph("p"), figure]))
    assert [attrs["class"] for attrs, _ in page.all("div") if attrs.get("class") == "figures"] == ["figures"] * 2
    assert len(page.all("svg")) == 3
    assert [attrs["aria-label"] for attrs, _ in page.all("div") if attrs.get("role") == "img"] == ["a"] * 3


def cells(page):
    return [(attrs.get("class", ""), text) for attrs, text in page.all("td")]


def test_numbers_stand_right_and_words_left():
    rows = [("a", 1234567, 0.123456, Number(1.5e6, "1.5 MB"), True), ("b", None, 2, Number(3.0, "3 B"), False)]
    page = Page(render_page("t", [Table(("name", "n", "f", "size", "ok"), rows)]))
    right = "number"
    assert cells(page) == [
        *[("", "a"), (right, "1,234,567"), (right, "0.1235"), (right, "1.5 MB"), ("", "yes")],
        *[("", "b"), (right, "-"), (right, "2"), (right, "3 B"), ("", "no")],
    ]
    assert [attrs.get("class") for attrs, _ in page.all("th")] == [None, "number", "number", "number", None]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.3, 0.35, 0.123456), ["0.3000", "0.3500", "0.1235"]),
        ((1.0, 2.5), ["1.0", "2.5"]),
        ((1234.5, 2.25), ["1,234", "2"]),
        ((0.00012, 3000.0), ["0.00012", "3000"]),  # too unlike for the same decimals
        ((float("nan"), 0.5, 0.25), ["nan", "0.50", "0.25"]),
        ((0.0, 0.0), ["0", "0"]),
        ((1e-9, 2e-9), ["1e-09", "2e-09"]),
    ],
)
def test_a_column_shows_its_numbers_alike(values, expected):
    assert Page(render_page("t", [Table(("x",), [(value,) for value in values])])).texts("td") == expected


def test_a_column_of_all_sorts_shows_each_number_for_itself():
    assert Page(render_page("t", [Table(("x",), [(4.0,), (7.25,), ("word",)])])).texts("td") == ["4", "7.25", "word"]


def test_the_best_is_marked_by_value_and_only_where_asked():
    rows = [("a", 0.5, Number(2e6, "2 MB"), 7), ("b", 0.7, Number(9e3, "9 kB"), 8), ("c", 0.7, None, 9)]
    page = Page(render_page("t", [Table(("s", "miou", "up", "n"), rows, best={"miou": "max", "up": "min"})]))
    assert page.texts("strong") == ["0.7", "9 kB", "0.7"]
    alike = Table(("s", "x"), [("a", 1.0), ("b", 1.0)], best={"x": "max"})
    assert Page(render_page("t", [alike])).texts("strong") == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Table(("a", "b"), [(1,)]), "a row of 1 cells below 2 columns"),
        (lambda: Table(("a",), [(1,)], best={"b": "max"}), "best names no column: b"),
        (lambda: Figure("<p>", "c", "a"), "expected an SVG element, found '<p>'"),
        (lambda: render_page("t", [Figure(b"GIF89a..", "c", "a")]), "neither PNG nor JPEG: b'GIF89a..'"),
    ],
)
def test_blocks_that_make_no_sense(make, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text is compared whole
        make()
    assert str(caught.value) == expected


def test_an_empty_table_has_its_head():
    page = Page(render_page("t", [Table(("a", "b"), [])]))
    assert (page.texts("th"), page.texts("td")) == (["a", "b"], [])
