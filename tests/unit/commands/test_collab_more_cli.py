"""`edgeai collab compare` and `pretrain`, and the pages of collab runs, as a person meets them."""

import json

import pytest

from edgeai.cli import main
from edgeai.core.config import load_config, shipped_configs

FEW = ["-c", "collab/compare-smoke", "--device=cpu", "-s", "run.stream.source.num_frames=6", "-s", "run.probe_frames=0"]
TWO = ["-s", "strategies=[random, edge-only]", "-s", "seeds=[0]", "-s", "against=[edge-only]", "-s", "run.overlays=[1]"]
SMALL = ["-s", "part.net={width: 8, depth: 1}", "-s", "steps=1", "-s", "val_scenes=1", "-s", "optim.batch=1"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call("collab", "compare", ...): exit code, stdout and stderr, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_comparison_prints_tables_and_has_a_page(call, tmp_path, loaded_after):
    code, out, _ = call("collab", "compare", *FEW, *TWO, "--out", "c", "-q")
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["2 strategies on the same streams, seeds 0.", ""]
    assert [line.split()[0] for line in lines[2:5]] == ["strategy", "random", "edge-only"]
    assert "Against edge-only" in lines
    assert lines[-1] == "as a page:  edgeai runs report c"
    code, out, _ = call("runs", "report", "c", "--json")
    page = (tmp_path / "c" / "report.html").read_text()
    assert json.loads(out)["page_bytes"] == len(page.encode())
    assert "Accuracy against cost" in page
    assert "torch" not in loaded_after(["runs", "report", "c"])
    code, out, _ = call("collab", "compare", "--resume", "c", "--json", "-q")
    document = json.loads(out)
    assert code == 0
    assert [row["strategy"] for row in document["rows"]] == ["random", "edge-only"]
    code, out, _ = call("collab", "compare", "--resume", "c", "--dry-run")
    assert ["runs", "2"] in [line.split() for line in out.splitlines()]
    assert ["runs", "left", "none", "STRATEGY-SEED"] in [line.split() for line in out.splitlines()]


def test_a_failed_run_is_exit_1_and_the_rest_is_there(call):
    images = ["-s", "strategies=[oracle, edge-only]", "-s", "run.edge.model.weights=fresh"]
    code, out, _ = call("collab", "compare", *FEW, *TWO[2:], *images, *_no_labels(), "-q", "--json")
    document = json.loads(out)
    assert code == 1
    assert document["failures"] == {"oracle-0": "the oracle needs a stream with labels"}
    assert [row["strategy"] for row in document["rows"]] == ["edge-only"]


def _no_labels():
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (64, 48), (number, 90, 90)).save(f"{number}.png")
    return ["-s", "run.stream.drift=[]", "-s", "run.stream.source={kind: images, path: .}"]


def test_a_run_has_a_page_of_its_own(call, tmp_path, loaded_after, monkeypatch):
    short = ["-s", "stream.source.num_frames=6", "-s", "strategy=edge-only", "-s", "overlays=[2]"]
    assert call("collab", "run", "-c", "collab/smoke", "--device=cpu", *short, "--out", "r", "-q")[0] == 0
    assert "torch" not in loaded_after(["runs", "report", "r"])  # made in a moment, on any machine
    page = (tmp_path / "r" / "report.html").read_text()
    assert "edge and cloud differ" in page
    assert "How it was made" in page
    monkeypatch.chdir("r")
    assert call("runs", "report", ".", "--out", "again.html")[0] == 0
    assert (tmp_path / "r" / "again.html").read_text() == page


def test_pretrain_trains_goes_on_and_says_how_to_use_it(call, tmp_path):
    code, out, _ = call("collab", "pretrain", "edge", "--device=cpu", *SMALL, "--out", "p", "-q")
    assert code == 0
    assert out.splitlines()[-1] == ("run it:  edgeai collab run -c collab/default -s edge.model.weights=p")
    assert (tmp_path / "p" / "best").is_dir()
    code, out, _ = call("collab", "pretrain", "--resume", "p", "--json", "-q")
    assert (code, json.loads(out)["num_steps"]) == (0, 1)


@pytest.mark.parametrize("part", ["edge", "cloud", "sam"])
def test_each_part_has_a_config(call, part):
    code, out, _ = call("collab", "pretrain", part, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["config"]["part"]["kind"] == part


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "edge", "-c", "collab/pretrain-edge"], "PART and -c both name a config"),
        (["pretrain", "edge", "--resume", "x"], "--resume takes its config and folder from the run"),
        (["compare", "--resume", "x", "-s", "seeds=[1]"], "--resume takes its config and folder from the run"),
        (["compare", "-s", "seeds=[1, 1]"], "seeds contains duplicates"),
        (["compare", "-s", "equal_rate=random"], "random cannot take its upload rate from itself"),
        (["compare", "-s", "strategies=[laecip]"], "strategies.0"),
    ],
)
def test_what_does_not_go_together_is_refused(call, words, message):
    code, _, err = call("collab", *words)
    assert code == 2
    assert message in err


def test_shipped_comparisons_are_complete_and_play_the_default_drive():
    from edgeai.collab.config.run import CollabCompareConfig, CollabRunConfig, StrategyName

    names = set(StrategyName.__args__)
    compare = load_config(CollabCompareConfig, "collab/compare")
    assert set(compare.strategies) == names
    default = load_config(CollabRunConfig, "collab/default")
    assert compare.run.model_copy(update={"strategy": default.strategy, "seed": default.seed}) == default
    camvid = load_config(CollabCompareConfig, "collab/camvid")
    assert camvid.run.stream.source.sequences[-1] == "0001TP"
    for name, path in shipped_configs().items():
        if name.startswith("collab/"):
            assert path.read_text().startswith("# edgeai collab "), name
