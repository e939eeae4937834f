"""Segment Anything: equality with its own mask generator, guided prompts, both checkpoint formats, errors."""

import hashlib

import numpy as np
import pytest
import torch

from edgeai.collab.models.masks import sam_model
from edgeai.collab.models.masks.sam_masks import SamMasks
from edgeai.collab.models.masks.sam_model import SamShape, build_sam, build_tiny, load_tiny, save_tiny
from edgeai.collab.models.masks.torchvision_stand_in import torchvision_stand_in
from edgeai.core.errors import UsageError

with torchvision_stand_in():
    from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
    from segment_anything.modeling import Sam

SMALL = SamShape(64, 8, encoder_width=32, encoder_depth=4, encoder_heads=2, window=4, decoder_width=32, decoder_heads=2)


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    model = build_tiny(SMALL)
    with torch.no_grad():  # random weights give masks and IoUs that are nearly alike: spread them for the thresholds
        model.mask_decoder.output_upscaling[3].weight.mul_(100.0)
        model.prompt_encoder.point_embeddings[1].weight.mul_(3.0)
        last = model.mask_decoder.iou_prediction_head.layers[-1]
        last.weight.mul_(40.0)
        last.bias.sub_(1.5)
    return model


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (5, 8, 3))
    return np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)  # 40x64


def proposals(sam, **changes):
    settings = {"points_per_side": 4, "points_per_batch": 5, "iou_min": 0.3, "stability_min": 0.05, "nms_iou_max": 0.95}
    return SamMasks(sam, **{**settings, **changes})


@pytest.mark.parametrize("nms", [0.95, 1.0])
def test_everything_equals_the_packages_own_generator(sam, image, nms):
    generator = SamAutomaticMaskGenerator(
        sam,
        points_per_side=4,
        points_per_batch=5,
        pred_iou_thresh=0.3,
        stability_score_thresh=0.05,
        box_nms_thresh=nms,
    )
    theirs = generator.generate(image)
    masks = proposals(sam, nms_iou_max=nms)
    ours = masks.everything(masks.embed(image))
    assert len(ours) == len(theirs) > (5 if nms == 1.0 else 0)  # boxes of random masks span the image
    for mask, record in zip(ours, theirs, strict=True):
        assert np.array_equal(mask.mask, record["segmentation"])
        assert mask.iou_pred == pytest.approx(min(max(record["predicted_iou"], 0.0), 1.0))


def test_thresholds_drop_masks(sam, image):
    def count(**changes):
        masks = proposals(sam, **changes)
        return len(masks.everything(masks.embed(image)))

    assert count(iou_min=0.0, stability_min=0.0) > count(iou_min=0.6) > count(iou_min=10.0) == 0
    assert count(nms_iou_max=1.0) > count(nms_iou_max=0.5)


def test_guided_takes_the_best_mask_of_each_prompt(sam, image):
    points, boxes = np.array([[10.0, 20.0]]), np.array([[5.0, 5.0, 40.0, 30.0]])
    masks = proposals(sam, iou_min=-1e9, stability_min=0.0, nms_iou_max=1.0)
    found = masks.guided(masks.embed(image), points=points, boxes=boxes)
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    expected = []
    for prompt in ({"point_coords": points, "point_labels": np.array([1])}, {"box": boxes[0]}):
        logits, ious, _ = predictor.predict(**prompt)
        expected.append((float(ious.max()), logits[ious.argmax()]))
    expected.sort(key=lambda pair: -pair[0])
    assert len(found) == 2
    for mask, (_, wanted) in zip(found, expected, strict=True):
        assert np.array_equal(mask.mask, wanted)


def test_guided_by_nothing_finds_nothing(sam, image):
    masks = proposals(sam)
    assert masks.guided(masks.embed(image), points=np.empty((0, 2)), boxes=np.empty((0, 4))) == []


def test_sam_tiny_is_the_packages_own_and_small():
    tiny = build_tiny(SamShape())
    assert isinstance(tiny, Sam)
    assert sum(p.numel() for p in tiny.parameters()) <= 6_000_000


def test_sam_tiny_reads_back(tmp_path, sam):
    digest = save_tiny(tmp_path / "tiny", sam, SMALL, {"seed": 0})
    again = load_tiny(tmp_path / "tiny")
    assert save_tiny(tmp_path / "again", again, SMALL, {"seed": 0}) == digest
    for (name, stored), own in zip(again.state_dict().items(), sam.state_dict().values(), strict=True):
        rounding = 2**-11 if own.ndim > 1 else 0.0  # matrices are stored as float16
        torch.testing.assert_close(stored, own, rtol=rounding, atol=2**-25, msg=name)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="patch_px must divide image_px"):
        build_tiny(SamShape(image_px=100))
    with pytest.raises(UsageError, match="must divide decoder_width"):
        build_tiny(SamShape(decoder_heads=7))


def test_wrong_checkpoints_are_refused_in_one_line(tmp_path, sam, monkeypatch):
    monkeypatch.setitem(sam_model.sam_model_registry, "vit_b", lambda: build_tiny(SMALL))  # the real one is large
    path = tmp_path / "sam.pth"

    def refusal(**options):
        with pytest.raises(UsageError) as caught:
            build_sam("vit_b", path, **options)
        assert "\n" not in caught.value.message
        assert caught.value.hint
        return caught.value.message

    assert refusal() == f"no checkpoint at {path}"
    path.write_bytes(b"not a checkpoint")
    assert "is not a checkpoint of tensors" in refusal()
    torch.save(sam, path)  # a pickled module could run code: it is not even opened
    assert "is not a checkpoint of tensors" in refusal()
    torch.save([1, 2], path)
    assert refusal() == f"{path} holds a list, not named tensors"
    torch.save({"model": sam.state_dict()}, path)
    assert refusal() == f"{path} holds a dict, not named tensors"
    other = build_tiny(SamShape(64, 8, 48, 4, 2, 4, 32, 2))
    torch.save(other.state_dict(), path)
    assert f"{path} as vit_b: the tensors do not match the net: image_encoder.pos_embed is [1, 8, 8, 48]" in refusal()
    torch.save(sam.state_dict(), path)
    assert refusal(sha256="0" * 64).startswith(f"{path}: SHA-256 is ")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = build_sam("vit_b", path, sha256=digest.upper())
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), sam.parameters(), strict=True))


def test_missing_sam_weights_suggest_training(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeai.collab.models.checkpoint.SHIPPED", tmp_path)
    with pytest.raises(UsageError, match="this package does not contain weights for sam-tiny"):
        build_sam("sam-tiny", None)


@pytest.mark.slow
def test_an_official_vit_b_file_is_loaded_the_same_way(tmp_path, image):
    """375 MB, freshly built, saved as the official files are: a plain state dict."""
    torch.manual_seed(0)
    fresh = sam_model_registry["vit_b"]()
    torch.save(fresh.state_dict(), tmp_path / "sam_vit_b.pth")
    loaded = build_sam("vit_b", tmp_path / "sam_vit_b.pth")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), fresh.parameters(), strict=True))
    del fresh
    masks = proposals(loaded, points_per_side=2, iou_min=-1e9, stability_min=0.0, nms_iou_max=1.0)
    found = masks.everything(masks.embed(image))
    assert len(found) == 12  # three masks for each of four points
    assert found[0].mask.shape == image.shape[:2]
