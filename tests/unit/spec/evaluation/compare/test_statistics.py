"""Hand-computed ratios, spreads and curves."""

from pathlib import Path

import numpy as np
import pytest

from edgeai.core.metrics import Metrics
from edgeai.core.report.plot import Line
from edgeai.spec.evaluation.compare.heads import ComparedHead
from edgeai.spec.evaluation.compare.report import TrainingCost, TreeShape
from edgeai.spec.evaluation.compare.statistics import Counts, cells, costs, curve_of, ratio_of, step_times_s

TREE = TreeShape(5, 3, 4)


def counts(variant, seed, tokens, cycles, temperature=0.0):
    return Counts(variant, seed, "mt", temperature, TREE, np.array(tokens), np.array(cycles))


def test_cells():
    """a: (4 + 6) / 5 = 2 and (4 + 2) / 4 = 1.5; b: 12 / 4 = 3 with seed 0 only: 3 / 2."""
    measured = [
        counts("a", 0, [4, 6], [2, 3]),
        counts("a", 1, [4, 2], [2, 2]),
        counts("b", 0, [6, 6], [2, 2]),
        counts("a", 0, [0, 0], [0, 0], temperature=1.0),
    ]
    a, b, empty = cells(measured[:3], "a") + cells(measured[3:], "a")
    assert (a.accept_len, a.mean, a.minimum, a.maximum, a.ratio) == ({"0": 2.0, "1": 1.5}, 1.75, 1.5, 2.0, None)
    assert (b.variant, b.accept_len, b.ratio.mean, b.ratio.minimum, b.ratio.maximum) == ("b", {"0": 3.0}, 1.5, 1.5, 1.5)
    assert empty.mean == 1.0  # no answer had a cycle


def test_pairs_share_a_seed_or_have_none():
    theirs = [counts("a", 0, [2], [1]), counts("a", 1, [4], [1])]
    same = ratio_of([counts("b", 0, [4], [1]), counts("b", 1, [4], [1])], theirs)
    assert (same.mean, same.minimum, same.maximum) == (1.5, 1.0, 2.0)
    given = ratio_of([counts("c", None, [4], [1])], theirs)
    assert (given.mean, given.minimum, given.maximum) == (1.5, 1.0, 2.0)
    assert ratio_of([counts("b", 7, [4], [1])], theirs) is None


def test_bootstrap_interval():
    """Against a loop that draws prompts itself; one prompt in ten is twice as good: the interval contains 1.1."""
    ours = counts("b", 0, [20] + [10] * 9, [10] * 10)
    theirs = counts("a", 0, [10] * 10, [10] * 10)
    found = ratio_of([ours], [theirs])
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        chosen = rng.integers(0, 10, 10)
        drawn.append(ours.tokens[chosen].sum() / ours.cycles[chosen].sum())
    assert found.mean == pytest.approx(1.1)
    # ratios come in steps of 0.1: both quantiles fall well inside of one
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_an_equal_head_has_no_interval():
    same = ratio_of([counts("b", 0, [7, 9, 2], [3, 4, 1])], [counts("a", 0, [7, 9, 2], [3, 4, 1])])
    assert (same.mean, same.low, same.high) == (1.0, 1.0, 1.0)


def test_step_times_exclude_validations_and_gaps():
    """Steps at 10, 11, 13 s; a validation; 20 s; step 6 was lost; 30 s, 33 s."""
    times = {1: 10.0, 2: 11.0, 3: 13.0, 4: 20.0, 7: 30.0, 8: 33.0}
    rows = [{"step": step, "time_s": time_s, "lr": 1.0} for step, time_s in times.items()]
    rows.insert(3, {"step": 3, "time_s": 19.0, "val_tree_accept_len": 1.5})
    assert step_times_s(rows) == [1.0, 2.0, 3.0]


@pytest.fixture
def variants(tmp_path, monkeypatch):
    """Two seeds with partly different validation steps, and a checkpoint folder."""

    def train(name, step_s, values):
        path, now = tmp_path / name, 0.0
        path.mkdir()
        metrics = Metrics(path)
        for step in range(5):
            now += step_s
            monkeypatch.setattr("time.time", lambda now=now: now)
            if step:
                metrics.log(step, {"lr": 1.0})
            if step in values:
                metrics.log(step, {"val_tree_accept_len": values[step]})
        metrics.close()
        return ComparedHead("a", len(name), path, None)

    (tmp_path / "given").mkdir()
    return {
        "a": [train("x", 2.0, {0: 1.0, 2: 2.0, 4: 3.0}), train("xy", 2.0, {0: 1.0, 2: 1.0, 3: 9.0})],
        "b": [train("xyz", 3.0, {})],
        "c": [ComparedHead("c", None, Path(tmp_path / "given"), None)],
    }


def test_curve_over_the_steps_of_all_seeds(variants):
    assert curve_of(variants["a"]) == Line("a", (0.0, 2.0), (1.0, 1.5), (1.0, 1.0), (1.0, 2.0))
    assert curve_of(variants["b"]) is curve_of(variants["c"]) is None


def test_training_costs(variants):
    assert costs(variants, "a") == (TrainingCost("a", 2.0, 1.0), TrainingCost("b", 3.0, 1.5))
    assert costs(variants, "c") == (TrainingCost("a", 2.0, None), TrainingCost("b", 3.0, None))
