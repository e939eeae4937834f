"""Training of SAM: prompts lie in their regions, losses equal their definitions, only the best mask is trained."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgeai.collab.models.regions import connected_regions
from edgeai.collab.pretrain.sam_losses import dice_loss, focal_loss, mask_iou, mask_losses, sample_prompts, shrink_masks


@pytest.fixture
def labels():
    canvas = np.zeros((40, 60), dtype=np.uint8)
    canvas[5:20, 5:25], canvas[10:35, 30:40], canvas[36, 50], canvas[25:39, 3:12] = 1, 2, 3, 255
    return canvas


def draw(labels, num, seed=0, **changes):
    settings = {"min_region_px": 4, "box_noise_frac": 0.1, **changes}
    return sample_prompts(labels, num, rng=np.random.default_rng(seed), **settings)


def test_prompts_lie_on_regions_that_are_large_enough_and_labelled(labels):
    regions = connected_regions(labels)
    seen = set()
    for seed in range(20):
        prompts = draw(labels, 5, seed)
        assert prompts.points.shape == (3, 2)
        assert prompts.boxes.shape == (2, 4)
        for mask, (x, y) in zip(prompts.masks, prompts.points, strict=False):
            assert mask[int(y), int(x)]
        for mask in prompts.masks:
            region = np.unique(regions[mask])
            assert region.size == 1
            assert mask.sum() == (regions == region[0]).sum()  # the whole region
            seen.add(int(labels[mask][0]))
    assert seen == {0, 1, 2}  # neither the speck nor what is not labelled


def test_regions_repeat_only_when_there_are_no_more(labels):
    areas = [int(mask.sum()) for mask in draw(labels, 6).masks]
    assert len(set(areas[:3])) == len(set(areas[3:])) == 3


def test_boxes_without_noise_are_tight_and_with_noise_are_near(labels):
    for seed in range(20):
        tight, noisy = (draw(labels, 6, seed, box_noise_frac=frac) for frac in (0.0, 0.1))
        for mask, box in zip(tight.masks[3:], tight.boxes, strict=True):
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max(), ys.max()]
        for box in noisy.boxes:
            assert (box[:2] <= box[2:]).all()
            assert (box >= 0).all()
            assert (box <= [59, 39, 59, 39]).all()


def test_no_region_gives_no_prompts():
    assert draw(np.full((8, 8), 255, dtype=np.uint8), 4) is None
    assert draw(np.zeros((8, 8), dtype=np.uint8), 4, min_region_px=65) is None


def test_losses_are_their_definitions():
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 5, 7), (torch.rand(2, 3, 5, 7) > 0.6).float()
    p = logits.sigmoid()
    pt = torch.where(truth == 1, p, 1 - p)
    alpha = torch.where(truth == 1, 0.25, 0.75)
    torch.testing.assert_close(focal_loss(logits, truth), (-alpha * (1 - pt) ** 2 * pt.log()).mean((2, 3)))
    overlap = (p * truth).sum((2, 3))
    torch.testing.assert_close(
        dice_loss(logits, truth), 1 - (2 * overlap + 1) / (p.sum((2, 3)) + truth.sum((2, 3)) + 1)
    )
    a, b = (logits > 0).numpy(), truth.bool().numpy()
    assert mask_iou(logits, truth).numpy() == pytest.approx((a & b).sum((2, 3)) / (a | b).sum((2, 3)))


def test_perfect_masks_have_no_loss():
    truth = torch.zeros(1, 6, 6)
    truth[:, 2:4] = 1
    losses = mask_losses((truth[:, None] * 2 - 1).repeat(1, 3, 1, 1) * 50, torch.ones(1, 3), truth, focal_weight=20.0)
    assert float(losses.focal) == pytest.approx(0, abs=1e-6)
    assert float(losses.dice) == pytest.approx(0, abs=1e-6)
    assert float(losses.iou_error) == 0
    assert losses.iou_picked.tolist() == losses.iou_best.tolist() == [1.0]


def test_only_the_best_mask_but_all_iou_predictions_are_trained():
    torch.manual_seed(0)
    truth = (torch.rand(4, 6, 6) > 0.5).float()
    logits, ious = torch.randn(4, 3, 6, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    losses = mask_losses(logits, ious, truth, focal_weight=20.0)
    (20.0 * losses.focal + losses.dice + losses.iou_error).backward()
    wanted = truth[:, None].expand(4, 3, 6, 6)
    cost = 20.0 * focal_loss(logits, wanted) + dice_loss(logits, wanted)
    learns = logits.grad.abs().sum((2, 3)) > 0
    assert torch.equal(learns, F.one_hot(cost.argmin(1), 3).bool())
    assert (ious.grad != 0).all()
    picked = mask_iou(logits, wanted)[torch.arange(4), ious.argmax(1)]
    torch.testing.assert_close(losses.iou_picked, picked)


def test_shrunk_masks_keep_pixels_that_were_at_least_half_inside():
    mask = np.zeros((1, 4, 6), dtype=bool)
    mask[0, :2, :3] = True  # left block whole; of the middle block's 4 pixels 2; nothing of the right one
    assert shrink_masks(mask, (2, 3), "cpu").tolist() == [[[1, 1, 0], [0, 0, 0]]]
