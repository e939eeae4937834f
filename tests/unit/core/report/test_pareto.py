"""The frontier by hand, and a figure in which every name can be read."""

import re
import xml.etree.ElementTree as ElementTree

from edgeai.core.report.pareto import Point, _box, _free_place, _meet, frontier, pareto_figure
from edgeai.core.stats import Spread


def point(name, cost, quality):
    return Point(name, Spread.of([cost]), Spread.of([quality - 0.01, quality, quality + 0.01]))


POINTS = [point("a", 0, 0.3), point("b", 2, 0.5), point("c", 1, 0.4), point("d", 3, 0.45), point("e", 2, 0.2)]


def test_nobody_on_the_frontier_is_beaten():
    assert [p.name for p in frontier(POINTS)] == ["a", "c", "b"]
    beaten = [
        p.name for p in POINTS if any(q.cost.mean <= p.cost.mean and q.quality.mean > p.quality.mean for q in POINTS)
    ]
    assert sorted(beaten) == ["d", "e"]


def test_all_points_are_named():
    figure = pareto_figure(POINTS, marked=["b"], x_label="uplink", x_unit="B", y_label="mIoU")
    texts = {
        "".join(text.itertext()) for text in ElementTree.fromstring(figure.image).iter() if text.tag.endswith("text")
    }
    assert {"a", "b", "c", "d", "e", "mIoU", "uplink"} <= texts
    assert re.search(r"b: uplink 2 B, mIoU 0\.500", figure.alt)


def test_names_of_equal_points_do_not_cover_each_other():
    taken, boxes = [(96.0, 96.0, 104.0, 104.0)], []
    for _ in range(12):
        dx, dy = _free_place(100.0, 100.0, 40.0, taken)
        boxes.append(_box(100.0 + dx, 100.0 + dy, 40.0))
        taken.append(boxes[-1])
    assert not any(_meet(one, other) for place, one in enumerate(boxes) for other in boxes[:place])
