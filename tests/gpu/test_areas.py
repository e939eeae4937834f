"""One short run of collab and of fedsplit on a device, against the CPU."""

from __future__ import annotations

import pytest

from edgeai import collab, fedsplit


def test_edge_model_labels_pixels_as_on_the_cpu(device):
    frame = next(collab.open_stream("collab/smoke").frames())
    labels, expected = (
        collab.load_edge_model("collab/smoke", device=on).logits(frame.image).argmax(0).cpu() for on in (device, "cpu")
    )
    # a pixel whose two best classes are tied within rounding may get either
    assert (labels == expected).float().mean() > 0.999


def test_collab_run(device):
    report = collab.run("collab/smoke", device=device)
    assert report.num_frames == 60
    assert report.num_updates > 0


@pytest.mark.parametrize("method", ["fedavg", "splitfed-v1"])
def test_fedsplit_losses_equal_those_on_the_cpu(method, device):
    overrides = {"method.kind": method, "privacy": {}, "codec": {}, "leakage": {}}
    found, expected = (
        [row.loss for row in fedsplit.simulate("fedsplit/smoke", overrides=overrides, device=on).rounds]
        for on in (device, "cpu")
    )
    assert found == pytest.approx(expected, rel=1e-3)  # float32 on both sides, two rounds of a few steps
