"""Spreads by hand, and the front against its definition."""

import random
from dataclasses import dataclass

from edgeai.core.stats import Spread, pareto_front, plain


def test_spread_by_hand():
    assert Spread.of([3.0, 1.0, 8.0]) == Spread(mean=4.0, median=3.0, minimum=1.0, maximum=8.0)
    assert Spread.of([2.0, 4.0]).scaled(10) == Spread(30.0, 30.0, 20.0, 40.0)


@dataclass(frozen=True)
class Record:
    speed: Spread
    parts: dict[str, Spread]
    names: tuple[str, ...]


def test_plain_data_have_the_keys_of_the_report():
    record = Record(Spread(4.0, 3.0, 1.0, 8.0), {"a": Spread(4.0, 3.0, 1.0, 8.0)}, ("x",))
    spread = {"mean": 4.0, "least": 1.0}
    keys = {"mean": "mean", "least": "minimum"}
    assert plain([record], keys) == [{"speed": spread, "parts": {"a": spread}, "names": ["x"]}]


def test_the_front_holds_what_no_other_point_dominates():
    rng = random.Random(0)
    points = [tuple(rng.randrange(6) for _ in range(3)) for _ in range(60)]
    front = pareto_front(points)
    for index, point in enumerate(points):
        dominated = any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        assert (index in front) is not dominated, point
    assert pareto_front([(1, 1), (1, 1), (2, 1)]) == [0, 1]  # equal points are all kept
