import numpy as np
import pytest

from edgeai.collab.metrics.risk_bounds import (
    RiskSum,
    Transfer,
    hard_latency_s,
    soft_latency_s,
    transfer,
    upload_rate_bound,
)


def test_risk_split_is_an_identity_on_any_decisions():
    rng = np.random.default_rng(3)
    for rate in (0.0, 0.3, 1.0):
        risk = RiskSum()
        edge, cloud = rng.random((2, 500))
        stayed = rng.random(500) >= rate
        given = np.where(stayed, edge, cloud)
        for h, l_s, l_f, l_c in zip(stayed, given, edge, cloud, strict=True):
            risk.add(stayed=bool(h), loss_system=l_s, loss_edge=l_f, loss_cloud=l_c)
        split = risk.split()
        assert split.system == pytest.approx(given.mean())
        assert abs(split.residual) < 1e-12  # 500 additions of numbers below 1 in double precision
        assert split.gain == pytest.approx(np.where(stayed, 0, edge - cloud).mean(), abs=1e-12)
        assert split.gain == pytest.approx(split.edge - split.system, abs=1e-12)


def test_inconsistent_records_have_a_residual():
    risk = RiskSum()
    risk.add(stayed=True, loss_system=0.2, loss_edge=0.5, loss_cloud=0.2)
    assert risk.split().residual == pytest.approx(-0.3)
    assert RiskSum().split() is None


@pytest.mark.parametrize(("num", "bound"), [(200, 0.096), (1000, 0.043)])
def test_upload_rate_bound_in_numbers(num, bound):
    assert upload_rate_bound(num) == pytest.approx(bound, abs=5e-4)


def test_upload_rate_bound_holds_at_all_thresholds_at_once():
    """Uniform scores: CUR(delta) = delta, so the largest deviation is the Kolmogorov-Smirnov distance.

    Of 1,000 samples at most 5 % may exceed it in expectation; 75 or more of them have a probability below 5e-4
    (binomial with p = 0.05), and a bound a quarter smaller is exceeded about 22 % of the time.
    """
    num, rng = 200, np.random.default_rng(7)
    scores = np.sort(rng.random((1000, num)), axis=1)
    after, before = np.arange(1, num + 1) / num, np.arange(num) / num
    distance = np.maximum(after - scores, scores - before).max(1)
    assert (distance > upload_rate_bound(num)).sum() < 75
    assert (distance > 0.75 * upload_rate_bound(num)).sum() > 75


def test_pseudo_label_errors_add_up_at_most():
    """The zero-one loss obeys the triangle inequality: err(f, truth) <= err(f, cloud) + err(cloud, truth)."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        edge, cloud, truth = rng.integers(0, rng.integers(1, 5) + 1, (3, 40))
        assert (edge != truth).mean() <= (edge != cloud).mean() + (cloud != truth).mean()


def test_latency_formulas():
    """d1 = 10 ms, d0 = 110 ms: half of the frames uploaded take 60 ms on average, as do scores of one half."""
    assert soft_latency_s(1.0, edge_s=0.01, cloud_s=0.11) == pytest.approx(0.01)
    assert soft_latency_s(0.5, edge_s=0.01, cloud_s=0.11) == pytest.approx(0.06)
    assert hard_latency_s(0.5, edge_s=0.01, cloud_s=0.11) == pytest.approx(0.06)
    assert hard_latency_s(1.0, edge_s=0.01, cloud_s=0.11) == pytest.approx(0.11)


def test_transfer_by_hand():
    """Task 0 is learned to 0.8 and falls to 0.7, then 0.6; task 1 to 0.9, then 0.8; three changes after learning.

    BWT = ((0.7 - 0.8) + (0.6 - 0.8) + (0.8 - 0.9)) / 3. FWT: task 1 rises from 0.3 to 0.4 before it is learned, task 2
    from 0.2 to 0.5: 0.2.
    """
    accuracy = np.array([[0.1, 0.3, 0.2], [0.8, 0.4, 0.3], [0.7, 0.9, 0.5], [0.6, 0.8, 0.9]])
    got = transfer(accuracy)
    assert got.bwt == pytest.approx(-0.4 / 3)
    assert got.fwt == pytest.approx(0.2)


def test_transfer_needs_two_tasks():
    assert transfer(np.array([[0.1], [0.9]])) == Transfer(None, None)
    with pytest.raises(ValueError, match="2 tasks need 3 rows, not 2"):
        transfer(np.zeros((2, 2)))
