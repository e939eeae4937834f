"""Mask sources: user-defined functions, prompts for uncertain regions, and errors."""

import numpy as np
import pytest
import torch

from edgeai.collab.config.models import NoMasks, PythonMasks, SamMasksConfig
from edgeai.collab.models.masks.build import build_masks
from edgeai.collab.models.masks.prompts import innermost, uncertain_regions
from edgeai.collab.models.masks.sam_model import SamShape, build_tiny, save_tiny
from edgeai.collab.models.masks.source import NoMaskSource
from edgeai.collab.models.masks.user_function import FunctionMaskSource
from edgeai.core.errors import EdgeAIError, UsageError

IMAGE = np.zeros((12, 20, 3), dtype=np.uint8)


def logits_of(labels, sure):
    """Logits of 3 classes whose softmax gives `sure` [H,W] to the label."""
    labels, sure = torch.from_numpy(labels), torch.from_numpy(sure)
    probs = ((1 - sure) / 2).expand(3, *labels.shape).clone()
    probs.scatter_(0, labels[None], sure[None])
    return probs.log()


@pytest.fixture
def scene():
    """Sky that is sure; two blocks of class 1, the smaller one much less sure; a speck of class 2 that is unsure."""
    labels = np.zeros((12, 20), dtype=np.int64)
    labels[2:8, 3:9], labels[4:8, 12:16], labels[10, 18] = 1, 1, 2
    sure = np.full(labels.shape, 0.99)
    sure[2:8, 3:9], sure[4:8, 12:16], sure[10, 18] = 0.9, 0.5, 0.4
    return logits_of(labels, sure)


def test_prompts_go_to_uncertain_regions_worst_first(scene):
    prompts = uncertain_regions(scene, max_regions=9, uncertain_below=0.95, min_region_px=2)
    assert prompts.boxes.tolist() == [[12, 4, 15, 7], [3, 2, 8, 7]]  # 16 px of doubt 0.5, then 36 px of doubt 0.1
    for (x, y), (x0, y0, x1, y1) in zip(prompts.points, prompts.boxes, strict=True):
        assert x0 < x < x1
        assert y0 < y < y1


def test_prompts_are_limited(scene):
    assert len(uncertain_regions(scene, max_regions=1, uncertain_below=0.95, min_region_px=2).points) == 1
    assert len(uncertain_regions(scene, max_regions=9, uncertain_below=0.8, min_region_px=2).points) == 1
    assert len(uncertain_regions(scene, max_regions=9, uncertain_below=0.95, min_region_px=1).points) == 3
    nothing = uncertain_regions(scene, max_regions=9, uncertain_below=0.0, min_region_px=2)
    assert nothing.points.shape == (0, 2)
    assert nothing.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["#"], (0, 0)),
        (["#######", "#######", "#######"], (1, 3)),
        (["##.....", "##.....", "#######", "#######", "#######"], (3, 3)),  # an L: its thick part, not its mean
        (["#####", "#...#", "#...#"], (0, 2)),
    ],
)
def test_innermost_pixel(rows, expected):
    inside = np.array([[char == "#" for char in row] for row in rows])
    found = innermost(inside)
    assert inside[found]
    assert found == expected


def source(tmp_path, text, name="propose"):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return build_masks(PythonMasks(path=path, name=name), "cpu")


def test_a_users_own_function_by_path(tmp_path, scene):
    mine = source(
        tmp_path,
        "import numpy as np\n"
        "def halves(image, probs):\n"
        "    assert image.dtype == np.uint8 and abs(probs.sum(0) - 1).max() < 1e-5\n"
        "    left = np.zeros(image.shape[:2], bool); left[:, :10] = True\n"
        "    image[:] = 7\n"
        "    return np.stack([left, ~left]), [0.9, 0.8]\n",
        "halves",
    )
    masks = mine.propose(IMAGE, scene)
    assert [mask.iou_pred for mask in masks] == [0.9, 0.8]
    assert masks[0].mask[:, :10].all()
    assert not masks[0].mask[:, 10:].any()
    assert not IMAGE.any()  # what it does to its image is its own affair


def test_user_masks_without_ious_have_iou_one(scene):
    masks = FunctionMaskSource(lambda image, probs: probs > 0.5, "mine.py:f").propose(IMAGE, scene)
    assert [mask.iou_pred for mask in masks] == [1.0, 1.0, 1.0]
    assert FunctionMaskSource(lambda image, probs: [], "mine.py:f").propose(IMAGE, scene) == []


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (np.zeros((2, 3, 4), bool), "returned bool [2, 3, 4], not bool ['N', 12, 20]"),
        (np.zeros((2, 12, 20)), "returned float64 [2, 12, 20], not bool ['N', 12, 20]"),
        ((np.zeros((2, 12, 20), bool), [1.0]), "returned 2 masks, but IoUs of shape [1]"),
    ],
)
def test_invalid_masks_are_rejected(scene, result, text):
    with pytest.raises(EdgeAIError) as caught:
        FunctionMaskSource(lambda image, probs: result, "mine.py:f").propose(IMAGE, scene)
    assert caught.value.message == f"mine.py:f {text}"


def test_a_users_mistake_names_its_place(tmp_path, scene):
    mine = source(tmp_path, "def propose(image, probs):\n    return 1 / 0\n")
    with pytest.raises(EdgeAIError) as caught:
        mine.propose(IMAGE, scene)
    assert caught.value.message == f"{tmp_path}/mine.py:propose failed: ZeroDivisionError: division by zero"
    assert caught.value.hint == f"look at {tmp_path}/mine.py:2"


@pytest.mark.parametrize(
    ("text", "message"), [("x = 1\n", "has no function propose"), ("1 / 0\n", " failed: ZeroDivisionError")]
)
def test_files_without_the_function_are_rejected(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        source(tmp_path, text)
    with pytest.raises(UsageError, match="no Python file at"):
        build_masks(PythonMasks(path=tmp_path / "absent.py"), "cpu")


def test_no_masks(scene):
    none = build_masks(NoMasks(), "cpu")
    assert isinstance(none, NoMaskSource)
    assert none.propose(IMAGE, scene) == []


@pytest.mark.parametrize("guide", ["point", "box"])
def test_sam_by_grid_by_guidance_and_by_both(tmp_path, scene, guide):
    torch.manual_seed(0)
    shape = SamShape(64, 8, 16, 1, 2, 4, 16, 2)
    save_tiny(tmp_path / "tiny", build_tiny(shape), shape, {})

    def propose(prompts, logits=scene):
        config = SamMasksConfig(
            checkpoint=tmp_path / "tiny",
            prompts=prompts,
            guide=guide,
            points_per_side=2,
            min_region_px=2,
            iou_min=0.0,
            stability_min=0.0,
            nms_iou_max=1.0,
        )
        return build_masks(config, "cpu").propose(IMAGE, logits)

    grid, guided, both = propose("grid"), propose("guided"), propose("both")
    assert len(guided) <= 2
    assert len(both) == len(grid) + len(guided)
    assert all(mask.mask.shape == (12, 20) for mask in both)
    certain = torch.zeros(3, 12, 20)
    certain[0] = 50.0
    assert propose("guided", certain) == []


def test_an_official_model_needs_its_file():
    with pytest.raises(ValueError, match="vit_b needs checkpoint"):
        SamMasksConfig(model="vit_b")
