"""Pretraining: losses fall, a resumed run equals an uninterrupted one, properties of scenes, errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edgeai.collab.config.pretrain import (
    CloudPart,
    EdgePart,
    PretrainConfig,
    PretrainOptimConfig,
    SamPart,
    SamShapeConfig,
    StreetNetConfig,
)
from edgeai.collab.config.streams import MaskFolderConfig, StreetConfig
from edgeai.collab.models.checkpoint import load_model
from edgeai.collab.models.masks.sam_model import load_tiny
from edgeai.collab.pretrain import build, scenes
from edgeai.collab.pretrain.build import build_part, build_scenes
from edgeai.collab.pretrain.scenes import Scenes
from edgeai.collab.pretrain.street_part import StreetPart
from edgeai.collab.pretrain.train import run_pretrain
from edgeai.collab.streams.classes import STREET
from edgeai.collab.streams.stream import Frame
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import read_metrics

TINY_SAM = SamShapeConfig(
    image_px=48, patch_px=8, encoder_width=32, encoder_depth=2, encoder_heads=2, window=3, decoder_width=32,
    decoder_heads=2,
)  # fmt: skip
TINY_NET = StreetNetConfig(width=16, depth=2)
PARTS = {
    "edge": EdgePart(net=TINY_NET),
    "cloud": CloudPart(net=TINY_NET),
    "sam": SamPart(net=TINY_SAM, prompts=6, min_region_px=8),
}


def draw_blocks(seed, new_looks):
    """A scene of a few colored blocks, cheap and easy."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((32, 48), dtype=np.uint8)
    for _ in range(4):
        y, x, height, width = rng.integers((0, 0, 8, 8), (24, 40, 16, 20))
        labels[y : y + height, x : x + width] = rng.integers(1, 8)
    image = labels[..., None] * np.array([30, 17, 5]) + np.array([20, 60, 100])
    image = (image + rng.integers(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
    return Frame("0", 0.0, 255 - image if new_looks else image, labels, segment="")


@pytest.fixture(autouse=True)
def cheap_scenes(monkeypatch):
    monkeypatch.setattr(build, "draws_of", lambda source, seed: (draw_blocks, draw_blocks, STREET))


class Interrupt:
    """A listener like Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, task, done, total, *, unit, fields):
        if done == self.step:
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


def config(part, **changes):
    settings = {"steps": 6, "val_scenes": 3, "val_every": 2, "optim": PretrainOptimConfig(batch=2, lr=3e-3), **changes}
    return PretrainConfig(part=PARTS[part], **settings)


def outcome(path):
    """Everything a run leaves that must not depend on interruptions, times left out."""
    state = torch.load(path / "state.pt", weights_only=True)
    flat = {name: value for name, value in state.items() if name not in ("train_s", "module", "optimizer")}
    moments = {(i, n): t for i, s in state["optimizer"]["state"].items() for n, t in s.items()}
    weights = {
        (name, n): t for name in ("best", "last") for n, t in load_file(path / name / "model.safetensors").items()
    }
    rows = [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(path)]
    return flat, rows, {**state["module"], **moments, **weights}


@pytest.mark.parametrize("part", PARTS)
def test_a_resumed_run_equals_an_uninterrupted_one(part, start_run, tmp_path):
    cfg = config(part)
    whole = run_pretrain(cfg, start_run(cfg, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run_pretrain(cfg, start_run(cfg, tmp_path / "parts", Interrupt(5)))  # one step after the last saved state
    resumed = run_pretrain(cfg, start_run(cfg, tmp_path / "parts"), resume=True)

    first, second = outcome(tmp_path / "whole"), outcome(tmp_path / "parts")
    assert first[0] == second[0]
    assert first[1] == second[1]
    assert first[2].keys() == second[2].keys()
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])
    assert whole.num_steps == resumed.num_steps == 6
    assert whole.scenes_seen == 12
    assert (whole.digest, whole.val) == (resumed.digest, resumed.val)


def test_resuming_before_the_first_checkpoint_starts_anew(start_run, tmp_path):
    cfg = config("edge", val_every=4)
    with pytest.raises(KeyboardInterrupt):
        run_pretrain(cfg, start_run(cfg, tmp_path / "parts", Interrupt(2)))
    resumed = run_pretrain(cfg, start_run(cfg, tmp_path / "parts"), resume=True)
    assert resumed.digest == run_pretrain(cfg, start_run(cfg, tmp_path / "whole")).digest
    assert len(read_metrics(tmp_path / "parts")) == len(read_metrics(tmp_path / "whole"))


def test_a_street_net_learns_blocks(start_run, tmp_path):
    cfg = config("edge", steps=60, val_every=60, optim=PretrainOptimConfig(batch=4, lr=1e-2))
    report = run_pretrain(cfg, start_run(cfg, tmp_path / "run"))
    losses = [row["loss"] for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert report.val["accuracy_clear"] > 0.6  # sky alone is about 0.45 of the pixels
    assert report.score == report.val["score"] == report.val["miou_clear"]
    assert load_model(tmp_path / "run", "cpu").digest == report.digest
    assert Path(report.weights) == tmp_path / "run/best"


def test_sam_tinys_loss_falls(start_run, tmp_path):
    cfg = config("sam", steps=30, val_every=30, optim=PretrainOptimConfig(batch=2, lr=2e-3))
    report = run_pretrain(cfg, start_run(cfg, tmp_path / "run"))
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    for parts, share in ((("focal", "dice", "iou_error"), 0.6), (("naming",), 0.9)):
        losses = [sum(row[part] * (20 if part == "focal" else 1) for part in parts) for row in rows]
        assert sum(losses[-5:]) < share * sum(losses[:5])
    assert report.val["iou_best"] >= report.score
    load_tiny(tmp_path / "run")


def test_every_weight_of_sam_tiny_but_the_unused_prompts_learns():
    part = build_part(config("sam"), STREET, "cpu")
    # relative positions start at 0 and the IoU head behind ReLUs: one step is enough for all of them
    loss, _ = part.loss(build_scenes(config("sam"))[0].train(0, 4), np.random.default_rng(0))
    loss.backward()
    idle = {name for name, p in part.sam.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    unused = (
        "prompt_encoder.mask_downscaling",
        "prompt_encoder.point_embeddings.0",
        "mask_decoder.output_hypernetworks",
    )
    assert all(name.startswith(unused) for name in idle), idle  # masks as prompts, background points, the fourth mask


def test_the_edge_net_sees_clear_days_and_the_others_bad_weather_too():
    assert {scene.drift for scene in build_scenes(config("edge"))[0].train(0, 40)} == {""}
    drifts = [scene.drift for scene in build_scenes(config("cloud"))[0].train(0, 40)]
    assert 8 <= sum(map(bool, drifts)) <= 32  # binomial(40, 0.5): outside with probability below 1e-4
    assert len(set(drifts)) > 3
    assert any(scene.drift for scene in build_scenes(config("sam"))[0].val(10))


def blocks(num=4, step=0, draw=draw_blocks, **fracs):
    settings = {"drift_frac": 0.0, "max_level": 2.0, "new_looks_frac": 0.0, **fracs}
    return Scenes(1, **settings, draw=draw, draw_val=draw).train(step, num)


def test_scenes_depend_on_seed_and_number_and_validation_is_disjoint():
    def numbers(make):
        seen = []
        draw = lambda seed, new_looks: (seen.append(seed), draw_blocks(seed, new_looks))[1]  # noqa: E731
        make(Scenes(1, drift_frac=0.0, max_level=0.0, new_looks_frac=0.5, draw=draw, draw_val=draw))
        return seen

    train = numbers(lambda s: [s.train(step, 4) for step in range(5)])
    val = numbers(lambda s: s.val(20))
    assert len({*train, *val}) == 40
    assert numbers(lambda s: s.train(3, 4)) == train[12:16]
    first, again = (blocks(3, step=2, drift_frac=1.0) for _ in range(2))
    assert all(np.array_equal(a.image, b.image) and a.drift == b.drift for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("changed", ["drift_frac", "new_looks_frac"])
def test_drift_and_new_looks_change_a_scene_but_not_its_labels(changed):
    for a, b in zip(blocks(), blocks(**{changed: 1.0}), strict=True):
        assert np.array_equal(a.labels, b.labels)
        assert not np.array_equal(a.image, b.image)


def test_fog_knows_how_far_things_are():
    def draw(far_m):
        def frame(seed, new_looks):
            found = draw_blocks(seed, new_looks)
            return replace(found, depth_m=np.full(found.labels.shape, far_m, dtype=np.float32))

        return frame

    near, far = (blocks(40, drift_frac=1.0, draw=draw(m)) for m in (1.0, 400.0))
    differ = [not np.array_equal(a.image, b.image) for a, b in zip(near, far, strict=True)]
    assert differ == [scene.drift == "fog" for scene in near]
    assert any(differ)


def test_real_scenes_have_the_streets_classes():
    draw = scenes.Generated(StreetConfig())
    frame = draw(3, False)
    assert frame.image.shape == (*frame.labels.shape, 3)
    assert frame.image.dtype == frame.labels.dtype == np.uint8
    assert set(np.unique(frame.labels)) <= {*range(len(STREET)), 255}
    assert not np.array_equal(draw(3, True).image, frame.image)


def folder_of_frames(path, num):
    """Pictures whose gray value is their number, and a label map with a square that moves."""
    for folder in ("images", "masks"):
        (path / folder).mkdir(parents=True)
    for index in range(num):
        labels = np.full((40, 60), 2, dtype=np.uint8)
        labels[10:20, index : index + 10] = 1
        Image.fromarray(np.where(labels == 1, 250, index).astype(np.uint8)).convert("RGB").save(
            path / f"images/{index:03d}.png"
        )
        Image.fromarray(labels).save(path / f"masks/{index:03d}.png")
    return MaskFolderConfig(path=str(path), classes=("a", "b", "c"))


def test_recorded_frames_are_augmented_and_the_last_tenth_validates(tmp_path):
    draw, draw_val, classes = scenes.draws_of(folder_of_frames(tmp_path, 30), 0)
    assert classes == ("a", "b", "c")
    assert {draw(seed, False).id.split("/")[-1] for seed in range(400)} == {f"{i:03d}.png" for i in range(27)}
    seen = [draw_val(seed, False) for seed in range(60)]
    assert {int(frame.image[0, 0, 0]) for frame in seen} == {27, 28, 29}  # as they are
    for seed in range(20):
        frame = draw(seed, False)
        assert frame.image.shape == (40, 60, 3)
        bright = frame.image[..., 0] > 125
        assert (bright != (frame.labels == 1)).mean() < 0.06  # moved together, but for pixels at the border
    assert np.array_equal(draw(3, False).image, draw(3, False).image)


def test_too_few_frames_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"^9 frames with labels are too few to train on$"):
        scenes.draws_of(folder_of_frames(tmp_path, 9), 0)


def test_training_starts_from_given_weights(start_run, tmp_path):
    for part in ("edge", "sam"):
        cfg = config(part, steps=2)
        run_pretrain(cfg, start_run(cfg, tmp_path / part))
        given = load_file(tmp_path / part / "best/model.safetensors")
        built = build_part(config(part, init_from=tmp_path / part, seed=7), STREET, "cpu")
        state = (built.sam if part == "sam" else built.module).state_dict()
        assert all(torch.equal(state[name], tensor.to(state[name].dtype)) for name, tensor in given.items())
    other = PretrainConfig(part=EdgePart(net=StreetNetConfig(width=32, depth=2)), init_from=tmp_path / "edge")
    with pytest.raises(UsageError, match="holds a net of"):
        build_part(other, STREET, "cpu")
    other = PretrainConfig(part=SamPart(net=TINY_SAM.model_copy(update={"window": 2})), init_from=tmp_path / "sam")
    with pytest.raises(UsageError, match="holds a sam-tiny of another shape"):
        build_part(other, STREET, "cpu")


def test_a_loss_that_is_not_finite_stops_the_run_with_the_last_good_weights(start_run, tmp_path, monkeypatch):
    cfg = config("edge", val_every=1)
    run = start_run(cfg, tmp_path / "run")
    plain = StreetPart.loss

    def spoilt(self, batch, rng):
        loss, values = plain(self, batch, rng)
        return (
            (loss * float("nan"), {**values, "loss": float("nan")}) if (run.path / "last").exists() else (loss, values)
        )

    monkeypatch.setattr(StreetPart, "loss", spoilt)
    with pytest.raises(EdgeAIError, match="the loss is not finite at step 2") as caught:
        run_pretrain(cfg, run)
    assert str(run.path / "last") in caught.value.hint
    load_model(run.path / "last", "cpu")
