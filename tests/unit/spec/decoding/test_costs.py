import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.decoding.costs import VERIFY_SIZES, WIDTHS, Costs, interpolate, measure_costs
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.draft.ngram import Ngram

COSTS = Costs(
    verify_s={1: 10.0, 2: 14.0, 4: 16.0, 8: 24.0},
    draft_first_s={1: 1.0, 4: 2.0},
    draft_level_s={1: 0.5, 4: 1.0},
    commit_s=0.25,
)


def test_interpolation_between_and_beyond_the_points():
    curve = {1: 10.0, 2: 14.0, 4: 16.0, 8: 24.0}
    assert [interpolate(curve, size) for size in (1, 2, 3, 4, 6, 8, 10)] == [10, 14, 15, 16, 20, 24, 28]


def test_cycle_adds_up_its_parts():
    # verify 8 tokens (7 nodes and the root) + first level + 2 more levels + commit
    assert COSTS.cycle_s(TreeConfig(nodes=7, depth=3, top_k=4)) == 24 + 2 + 2 * 1 + 0.25
    assert COSTS.cycle_s(TreeConfig(nodes=2, depth=2, top_k=1)) == 15 + 1 + 0.5 + 0.25
    assert COSTS.plain_s == 10.25


@pytest.mark.parametrize(("top_k", "first_s"), [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0), (9, 2.0)])
def test_unmeasured_widths_cost_what_the_next_wider_one_does(top_k, first_s):
    assert COSTS.cycle_s(TreeConfig(nodes=1, depth=1, top_k=top_k)) == 14 + first_s + 0.25


def test_json_round_trip():
    assert Costs.from_json(COSTS.to_json()) == COSTS


def test_measuring_leaves_nothing_behind_and_covers_every_shape(target, make_head):
    for drafter in (Eagle3(make_head(target), target, name="x"), Ngram(max_ngram=2, min_ngram=1)):
        costs = measure_costs(target, drafter, repeats=2)
        assert tuple(costs.verify_s) == VERIFY_SIZES
        assert tuple(costs.draft_first_s) == tuple(costs.draft_level_s) == WIDTHS
        assert min(*costs.verify_s.values(), *costs.draft_first_s.values(), costs.commit_s) > 0
        assert min(costs.draft_level_s.values()) >= 0
        assert list(costs.draft_first_s.values()) == sorted(costs.draft_first_s.values())
