"""Which runs a comparison makes of its lists, and what it says over their seeds."""

import concurrent.futures as futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgeai.core.errors import EdgeAIError
from edgeai.core.run import Run
from edgeai.core.stats import Spread
from edgeai.fedsplit.config.run import CompareConfig, SimConfig
from edgeai.fedsplit.experiments.compare import plan_compare, run_compare
from edgeai.fedsplit.reports.compare_report import compare_report


def names(**lists):
    jobs, missing = plan_compare(CompareConfig.model_validate(lists), None)
    assert jobs == missing
    return [job.name for job in jobs]


def test_methods_without_a_cut_run_once():
    methods = [{"kind": "fedavg"}, {"kind": "relay"}]
    assert names(methods=methods, cuts=["conv1", "fc"], seeds=[0, 7]) == [
        "fedavg-0",
        "fedavg-7",
        "relay-cut-conv1-0",
        "relay-cut-conv1-7",
        "relay-cut-fc-0",
        "relay-cut-fc-7",
    ]


def test_names_say_what_differs_and_nothing_else():
    methods = [{"kind": "cse-fsl", "h": 1}, {"kind": "cse-fsl", "h": 5}, {"kind": "psl", "rescale": False}]
    assert names(methods=methods) == ["cse-fsl-h-1-0", "cse-fsl-h-5-0", "psl-0"]
    partitions = [{"kind": "iid"}, {"kind": "dirichlet", "alpha": 0.1}, {"kind": "dirichlet", "alpha": 1.0}]
    assert names(methods=[{"kind": "fedavg"}], partitions=partitions) == [
        "fedavg-iid-0",
        "fedavg-dirichlet-alpha-0.1-0",
        "fedavg-dirichlet-alpha-1.0-0",
    ]


def test_what_all_have_in_common_reaches_every_run():
    cfg = CompareConfig.model_validate({"sim": {"rounds": 9, "batch": 5}, "seeds": [3]})
    jobs, _ = plan_compare(cfg, None)
    assert [(job.cfg.rounds, job.cfg.batch, job.cfg.seed) for job in jobs] == [(9, 5, 3)] * 2


def test_a_run_of_another_config_is_not_kept(tmp_path: Path):
    cfg = CompareConfig()
    jobs, missing = plan_compare(cfg, tmp_path)
    (tmp_path / jobs[0].name).mkdir()
    (tmp_path / jobs[0].name / "report.json").write_text("{}")
    (tmp_path / jobs[0].name / "run.json").write_text('{"status": "done"}')
    (tmp_path / jobs[0].name / "config.yaml").write_text("verb: fedsplit sim\n")
    assert plan_compare(cfg, tmp_path)[1] == missing


@pytest.mark.parametrize("lists", [{"seeds": [1, 1]}, {"cuts": ["conv1", "conv1"]}, {"methods": [{"kind": "psl"}] * 2}])
def test_the_same_twice_is_refused(lists):
    with pytest.raises(ValidationError, match="is given twice"):
        CompareConfig.model_validate(lists)


def test_a_comparison_on_flower_is_refused():
    with pytest.raises(ValidationError, match=r"sim\.backend: comparisons run in separate processes"):
        CompareConfig.model_validate({"sim": {"backend": {"kind": "flower-sim"}}})


def result(accuracies, **changes):
    rounds = [
        {
            "round": n,
            "accuracy": a,
            "bytes_up": 10 * n,
            "bytes_down": n,
            "end_s": 2.0 * n,
            "clients_j": n,
            "server_j": 0,
        }
        for n, a in enumerate(accuracies, 1)
    ]
    return {
        "cuts": ["conv1"], "accuracy": accuracies[-1], "rounds": rounds, "bytes_up": {"weights": 10, "labels": 5},
        "bytes_down": {"weights": 1}, "seconds": 6.0, "clients_j": 3.0, "server_j": 1.0, "client_memory_bytes": 7,
        "server_memory_bytes": 8, "target": None, "leakage": None, **changes,
    }  # fmt: skip


def test_seeds_are_put_together():
    cfg = SimConfig(target_accuracy=0.5)
    one = result([0.2, None, 0.6], target={"round": 3, "num_bytes": 99, "seconds": 6.0, "joules": 4.0})
    two = result([0.4, None, 0.4], target={"round": None, "num_bytes": None, "seconds": None, "joules": None})
    [row] = compare_report([("relay", cfg, one), ("relay", cfg.model_copy(update={"seed": 1}), two)], {}).rows
    assert row.seeds == (0, 1)
    assert row.accuracy == Spread.of([0.4, 0.6])
    assert row.bytes_up == Spread.of([15, 15])
    assert (row.num_reached, row.target_bytes) == (1, Spread.of([99]))
    assert row.curve == ((1, pytest.approx(0.3), 11.0, 2.0, 1.0), (3, 0.5, 33.0, 6.0, 3.0))
    assert row.dcor is None


def test_leakage_is_found_where_it_was_measured():
    leakage = {"dcor": 0.9, "inversion": {"ssim": 0.25}}
    [row] = compare_report([("relay", SimConfig(), result([0.5], leakage=leakage))], {}).rows
    assert (row.dcor, row.inversion_ssim) == (Spread.of([0.9]), Spread.of([0.25]))


def test_a_worker_that_is_killed_fails_its_runs_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As when the system runs out of memory: everything that was still to be done ends with the pool."""

    class BrokenPool:
        _processes = None

        def __init__(self, *_: object, **__: object) -> None: ...

        def submit(self, *_: object) -> futures.Future:
            future = futures.Future()
            future.set_exception(BrokenProcessPool())
            return future

        def shutdown(self) -> None: ...

    monkeypatch.setattr(futures, "ProcessPoolExecutor", BrokenPool)
    cfg = CompareConfig()
    run = Run.create(cfg, out=tmp_path / "r", argv=[], device="cpu", device_why="test")
    with pytest.raises(EdgeAIError) as error:
        run_compare(cfg, run)
    reason = "a worker process was killed; if memory is short, lower processes"
    assert error.value.message == f"all runs failed; first error: {reason}"
    assert (tmp_path / "r" / "log.txt").read_text().count(reason) == 2
