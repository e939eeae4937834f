"""A user's own TorchScript edge model and own mask source, plugged in by a config file alone."""

import json

import pytest
import torch
import yaml
from torch import nn

from edgeai.cli import main
from edgeai.collab.reports.frame_records import read_records
from edgeai.core.config import find_config

NAMES = ["heaven", "tarmac", "house", "vehicle"]  # the net's own words, not the street's
MASKS = '''"""Two masks a frame: the upper half, surely, and the lower one, perhaps."""

import numpy as np


def propose(image, probs):
    assert image.dtype == np.uint8
    assert probs.shape[1:] == image.shape[:2]
    upper = np.zeros(image.shape[:2], dtype=bool)
    upper[: len(upper) // 2] = True
    return np.stack([upper, ~upper]), np.array([0.99, 0.1])
'''


class Net(nn.Module):
    """Class scores at half the size, as foreign nets have them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, len(NAMES), 1))

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def plugged(tmp_path):
    """The config file."""
    torch.manual_seed(0)
    torch.jit.script(Net().eval()).save(tmp_path / "net.pt")
    (tmp_path / "masks.py").write_text(MASKS)
    tree = yaml.safe_load(find_config("collab/smoke").read_text())
    tree["stream"]["source"]["num_frames"] = 30
    tree["strategy"] = "random"
    tree["upload_rate"] = 1.0
    tree["edge"]["model"] = {
        "kind": "torch_file",
        "path": str(tmp_path / "net.pt"),
        "classes": NAMES,
        "class_map": {"heaven": "sky", "tarmac": "road", "house": "building", "vehicle": "car"},
        "input": {"order": "bgr", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    tree["cloud"]["masks"] = {"kind": "python", "path": str(tmp_path / "masks.py"), "name": "propose"}
    tree["cloud"]["fusion"] = {"vote": "logits", "purity_min": 0.0, "iou_min": 0.7}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def test_both_play(plugged, capsys):
    """The edge model's frames are painted by the mask that its source trusts, and by that one alone."""
    run = plugged / "r"
    assert main(["collab", "run", "-c", str(plugged / "mine.yaml"), "--out", str(run), "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_frames"] == 30
    answered = [record for record in read_records(run) if record.answer == "cloud"]
    assert answered
    assert {record.num_painted for record in answered} == {1}


def test_the_own_net_learns_and_is_pushed(plugged, capsys):
    args = ["-s", "strategy=laecips", "-s", "threshold={kind: fixed, delta: 1.0}", "-s", "update.gate=false"]
    run = str(plugged / "r")
    assert main(["collab", "run", "-c", str(plugged / "mine.yaml"), *args, "--out", run, "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_accepted"] > 0
    assert report["num_swaps"] > 0


def test_a_name_that_maps_to_no_class_is_one_line(plugged, capsys):
    args = ["-s", "edge.model.class_map={heaven: sea}"]
    assert main(["collab", "run", "-c", str(plugged / "mine.yaml"), *args, "--out", str(plugged / "r"), "-q"]) == 2
    error = capsys.readouterr().err
    assert "sea" in error
    assert "Traceback" not in error
