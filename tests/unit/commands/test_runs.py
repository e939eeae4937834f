import html.parser
import json
import re
from typing import Literal

import pytest

from edgeai.cli import main
from edgeai.commands.render.metrics import description, families, metric_blocks
from edgeai.commands.render.reports import view_of
from edgeai.core.config import Config
from edgeai.core.report.fields import About
from edgeai.core.report.plot import Line
from edgeai.core.run import Run


class Cook(Config):
    verb: Literal["kitchen cook"] = "kitchen cook"
    dish: str = "soup"


@pytest.fixture
def run(tmp_path):
    run = Run.create(Cook(), out=tmp_path / "r", argv=["edgeai", "kitchen"], device="cpu", device_why="asked")
    run.metrics.log(1, {"loss": 2.0})
    run.metrics.log(2, {"loss": 1.0})
    run.finish("done", {"accept_len": 2.5})
    return run


def test_list(run, capsys):
    assert main(["runs", "list", str(run.path.parent), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["path"], row["verb"], row["status"], row["device"]) == (str(run.path), "kitchen cook", "done", "cpu")
    assert main(["runs", "list", str(run.path.parent)]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["path", str(run.path)]


def test_list_of_nothing(tmp_path, capsys):
    assert main(["runs", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_show(run, capsys):
    assert main(["runs", "show", str(run.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == {"accept_len": 2.5}
    assert (document["last_metrics"]["step"], document["last_metrics"]["loss"]) == (2, 1.0)
    assert main(["runs", "show", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "argv        edgeai kitchen\n" in text
    assert text.endswith("report\n            value\naccept_len    2.5\n")


def test_show_what_is_no_run(tmp_path, capsys):
    assert main(["runs", "show", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == {
        "message": f"{tmp_path} is not a run directory: it has no readable run.json",
        "hint": "list them: edgeai runs list",
        "exit_code": 2,
    }


@pytest.fixture
def full_run(tmp_path):
    """A report with everything a generic page knows how to show, and metrics in families."""
    run = Run.create(Cook(), out=tmp_path / "full", argv=["edgeai", "kitchen", "<b>"], device="cpu", device_why="asked")
    for step in range(1, 41):
        values = {"loss": 1 / step, "loss_0": 2 / step, "salt": 3.0}
        run.metrics.log(step, values if step % 10 else {**values, "val_loss": 1.5 / step})
    run.finish(
        "done",
        {
            "dish": "soup & salad",
            "cook_s": 0.0123,
            "num_bytes": 5,
            "peak_bytes": 2_500_000,
            "done_frac": 0.5,
            "fast_rate": {"mean": 4.0, "max": 5.0},
            "nested": {"deep": {"taste": 7.25}},
            "steps_s": [0.5, 90.0],
            "guests": [{"name": "Ann", "ate_frac": 0.25}, {"name": "Bo", "ate_frac": None}],
        },
    )
    return run


class Cells(html.parser.HTMLParser):
    """The text of every table row."""

    def __init__(self, text):
        super().__init__()
        self.rows, self._is_cell = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._is_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._is_cell = False

    def handle_data(self, data):
        if self._is_cell:
            self.rows[-1][-1] += data


def test_report_shows_every_field_in_its_unit(full_run, capsys):
    assert main(["runs", "report", str(full_run.path)]) == 0
    page = full_run.path / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    rows = Cells(page.read_text()).rows
    for row in [
        ["", "value"],
        ["dish", "soup & salad"],
        ["cook_s", "12.3 ms"],
        ["num_bytes", "5 B"],
        ["peak_bytes", "2.5 MB"],
        ["done_frac", "50.0%"],
        ["nested.deep.taste", "7.25"],
        ["fast_rate.mean", "4"],
        ["fast_rate.max", "5"],
        ["steps_s", "500 ms, 1 min 30 s"],
        ["name", "ate_frac"],
        ["Ann", "25.0%"],
        ["Bo", "-"],
        ["command", "edgeai kitchen <b>"],
        ["verb", "kitchen cook"],
    ]:
        assert row in rows


def test_report_plots_metrics_by_family(full_run):
    main(["runs", "report", str(full_run.path), "--out", str(full_run.path / "page.html")])
    text = (full_run.path / "page.html").read_text()
    assert text.count("<svg") == 1  # loss, loss_0 and val_loss together; salt never changes
    assert "Last: loss 0.025, loss_0 0.05, val_loss 0.0375." in text
    assert "The same at every step: salt 3." in text


def test_report_writes_out_what_was_logged_once(tmp_path):
    run = Run.create(Cook(), out=tmp_path / "r", argv=["edgeai"], device="cpu", device_why="asked")
    run.metrics.log(50, {"loss": 0.25, "salt": float("nan")})
    run.finish("done")
    main(["runs", "report", str(run.path)])
    text = (run.path / "report.html").read_text()
    assert "<svg" not in text
    assert "Logged once, at step 50: loss 0.25, salt nan." in text


def test_report_of_a_run_that_is_not_done(tmp_path, capsys):
    run = Run.create(Cook(), out=tmp_path / "r", argv=["edgeai"], device="cpu", device_why="asked")
    assert main(["runs", "report", str(run.path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    text = (run.path / "report.html").read_text()
    assert document == {"run": str(run.path), "page": f"{run.path}/report.html", "page_bytes": len(text.encode())}
    assert "This run is running and has no report.json yet." in text


def test_report_that_cannot_be_written(run, capsys):
    target = run.path / "none" / "page.html"
    assert main(["runs", "report", str(run.path), "--out", str(target)]) == 2
    assert capsys.readouterr().err == (
        f"edgeai: cannot write {target}: No such file or directory\n  hint: choose another --out\n"
    )


def line(name):
    return Line(name, [0, 1], [0.0, 1.0])


def test_families_of_metrics():
    names = ["acc_0", "acc_1", "acc", "val_acc_0", "val_acc_1", "lr", "val_lr", "miou/night", "miou/fog"]
    assert {
        family: [member.name for member in members]
        for family, members in families([line(name) for name in names]).items()
    } == {
        "acc": ["acc", "acc_0", "acc_1", "val_acc_0", "val_acc_1"],
        "lr": ["lr", "val_lr"],
        "miou": ["miou/night", "miou/fog"],
    }
    many = [f"{prefix}x_{number}" for prefix in ("", "val_") for number in range(4)] + [f"c_{n}" for n in range(8)]
    assert {family: len(members) for family, members in families([line(name) for name in many]).items()} == {
        "x": 4,
        "val_x": 4,
        "c (1)": 6,
        "c (2)": 2,
    }


def test_metrics_are_shown_by_label():
    known = {
        "loss": About("training loss"),
        "acc": About("accuracy", "%"),
        "acc_*": About("accuracy at step *", "%"),
        "bytes_up": About("up", "B"),
        "salt": About("salt added"),
    }
    rows = [
        {"step": n, "time_s": 0.0, "loss": 4.0 - n, "val_loss": 2.5, "acc_0": n / 4, "acc_12": n / 8}
        | {"bytes_up": 1_000_000 * n, "val_salt": 2.0 * n, "val_x": n, "x_1": 2 * n, "odd": 1.0}
        for n in (1, 2, 3)
    ]
    *figures, constant = metric_blocks(rows, known)
    assert [figure.caption for figure in figures] == [
        "Last: training loss 1.",
        "Last: accuracy at step 0 0.75, accuracy at step 12 0.375.",
        "Last: up 3 MB.",
        "Last: validation salt added 6.",
        "Last: x_1 6, val_x 3.",  # names without a description stay
    ]
    assert [figure.alt.partition(" over ")[0] for figure in figures] == [
        "training loss",
        "accuracy",
        "up (B)",
        "validation salt added",
        "x",
    ]
    assert ">up (B)<" in figures[2].image
    assert constant.text == "The same at every step: validation training loss 2.5, odd 1."
    (once,) = metric_blocks(rows[:1], known)
    assert once.text.startswith("Logged once, at step 1: training loss 3, validation training loss 2.5, accuracy at")


TRAIN_METRICS = (
    "loss loss_0 acc_0 accept_len lr grad_norm ttt_steps tokens_seen val_loss_15 val_acc_15 val_accept_len "
    "val_tree_accept_len active_group_frac advantage_spread reward reward_ref reward_exact reward_exact_ref "
    "greedy_accepted greedy_accepted_ref new_nodes loss_gto ratio clip_frac val_reward"
)
PRETRAIN_METRICS = (
    "loss accuracy naming focal dice iou_error iou lr grad_norm val_score val_miou_clear val_accuracy_clear "
    "val_miou_drift val_accuracy_drift val_iou_point val_iou_box val_iou_best"
)


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("spec train", TRAIN_METRICS),
        ("spec bench", "plain_tokens_per_s speculative_tokens_per_s ratio"),
        ("collab run", "upload_rate miou"),
        ("collab compare", "wall_s frames_per_s peak_memory_bytes"),
        ("collab pretrain", PRETRAIN_METRICS),
        ("fedsplit sim", "begin_s end_s num_clients num_late loss accuracy test_loss bytes_up bytes_down clients_j"),
    ],
)
def test_each_area_describes_its_metrics(verb, names):
    known = view_of(verb).logged
    bases = [re.sub(r"_\d+$", "_*", name.removeprefix("val_")) for name in names.split()]
    assert [name for name in bases if name not in known] == []
    assert description("val_loss", view_of("spec train").logged).label == "validation loss"


@pytest.fixture
def pair(tmp_path):
    for name, dish, report in (
        ("one", "soup", {"miou": 0.5, "cost": {"bytes": 10}, "curve": [1, 2], "miou_definition": "mean IoU"}),
        ("two", "salad", {"miou": 0.75, "extra": "yes"}),
    ):
        run = Run.create(Cook(dish=dish), out=tmp_path / name, argv=["x"], device="cpu", device_why="asked")
        run.finish("done", report)
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_compare_as_json(pair, capsys):
    assert main(["runs", "compare", *pair, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == pair
    assert document["report"] == {"miou": [0.5, 0.75], "cost.bytes": [10, None], "extra": [None, "yes"]}
    assert document["config"] == {"dish": ["soup", "salad"]}
    assert document["about"]["status"] == ["done", "done"]


def test_compare_for_people(pair, capsys):
    assert main(["runs", "compare", *pair]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for expected in (pair, ["miou", "0.5", "0.75"], ["cost.bytes", "10", "-"], ["dish", "soup", "salad"]):
        assert expected in lines


def test_compare_needs_two_runs_that_are_runs(pair, tmp_path, capsys):
    assert main(["runs", "compare", pair[0]]) == 2
    assert capsys.readouterr().err == (
        f"edgeai: a comparison needs two runs or more\n  hint: show it: edgeai runs show {pair[0]}\n"
    )
    assert main(["runs", "compare", pair[0], str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_compare_of_equal_configs_says_so(pair, capsys):
    assert main(["runs", "compare", pair[0], pair[0]]) == 0
    assert capsys.readouterr().out.endswith("\nconfig, where it differs: nothing\n")
