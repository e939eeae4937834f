"""Preparation of a run: number formats, draft vocabulary, head shape, unusable answers, and the split."""

import numpy as np
import pytest

from edgeai.core.errors import UsageError
from edgeai.core.run import Run
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.training import prepare as preparation
from edgeai.spec.training.distributed import ALONE
from edgeai.spec.training.prepare import build_head, settle_formats, split
from edgeai.spec.training.train import run_train


def test_number_formats_are_settled_once(train_config, make_run, monkeypatch):
    """A timing that comes out otherwise on resume must not change the arithmetic."""
    cfg = train_config(optim={"autocast": True})
    cfg = cfg.model_copy(update={"target": cfg.target.model_copy(update={"dtype": "auto"})})
    run = make_run(cfg)
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 3.0)
    monkeypatch.setattr(preparation, "choose_dtype", lambda name, device: "bfloat16")
    assert settle_formats(cfg, run, ALONE) == {"target": "bfloat16", "products": "bfloat16"}
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 0.5)
    monkeypatch.setattr(preparation, "choose_dtype", lambda name, device: "float32")
    assert settle_formats(cfg, Run.open(run.path), ALONE) == {"target": "bfloat16", "products": "bfloat16"}
    assert settle_formats(cfg, make_run(cfg, "other"), ALONE) == {"target": "float32", "products": "float32"}
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 3.0)
    assert settle_formats(train_config(), make_run(cfg, "third"), ALONE)["products"] == "float32"  # autocast off


def test_draft_vocabulary_and_coverage_by_hand(train_config, tiny_target):
    """Answers hold 5 5 5 9 9 7 and prompts do not count: two tokens cover 5 of 6."""
    talks = [
        Conversation("a", (3, 3, 3, 3, 5, 5, 9), ((4, 7),), 0.0),
        Conversation("b", (3, 5, 3, 9, 7), ((1, 2), (3, 5)), 0.0),
    ]
    head, coverage = build_head(train_config(head={"draft_vocab": 2}), tiny_target, talks)
    assert head.draft_to_target.tolist() == [5, 9]
    assert coverage == pytest.approx(5 / 6)
    head, coverage = build_head(train_config(head={"draft_vocab": 10_000}), tiny_target, talks)
    assert head.shape.draft_vocab_size == 258
    assert coverage == 1.0


def test_head_takes_its_shape_from_target_and_config(train_config, tiny_target):
    talks = [Conversation("a", (3, 5, 9, 4), ((1, 4),), 0.0)]
    changes = {"draft_vocab": 20, "intermediate_size": 40, "fc_norm": False, "norm_output": False}
    shape = build_head(train_config(head=changes), tiny_target, talks)[0].shape
    assert (shape.hidden_size, shape.num_heads, shape.num_kv_heads, shape.head_dim) == (64, 4, 2, 16)
    assert (shape.intermediate_size, shape.fc_norm, shape.norm_output) == (40, False, False)


@pytest.mark.parametrize("layers", [(0, 4, 8), (2, 2, 5), (4, 2, 5), (-1, 2, 5)], ids=str)
def test_impossible_feature_layers(train_config, make_run, layers):
    cfg = train_config(head={"aux_layers": layers})
    with pytest.raises(UsageError) as caught:
        run_train(cfg, make_run(cfg))
    assert caught.value.message.startswith(f"feature layers {layers} are not three ascending ones of the 8 layers of ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "{file} contains no answers"),
        (['{"id": "a", "temperature": 0, "answers": [[1, 2]], "ids": [1, 2, 3]}'], "{file} contains no answers"),
        (
            ['{"id": "a", "temperature": 0, "answers": [[1, 5]], "ids": [1, 2, 3, 4, 5]}'],
            "one conversation cannot be split into training and validation",
        ),
        (
            ['{"id": "a", "temperature": 0, "answers": [[1, 5]], "ids": [1, 2, 3, 4, 258]}'],
            "{file}: a contains token 258, {model} has 258 tokens",
        ),
        (["{}"], "{file}:1: not a conversation: 'ids'"),
    ],
    ids=["empty", "too short", "one", "other model", "no conversation"],
)
def test_unusable_answers(train_config, make_run, tmp_path, lines, message):
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    cfg = train_config(data={"answers": file})
    with pytest.raises(UsageError) as caught:
        run_train(cfg, make_run(cfg))
    assert caught.value.message == message.format(file=file, model=cfg.target.model)


def _talks(count):
    return [Conversation(str(n), (0,) * 5, ((1, 5),), 0.0) for n in range(count)]


def test_split_keeps_at_least_one_of_each():
    talks = _talks(3)
    chosen, held_back = split(talks, 0.01)
    assert (len(chosen), len(held_back)) == (2, 1)
    assert sorted(c.id for c in chosen + held_back) == ["0", "1", "2"]
    many = _talks(100)
    assert len(split(many, 0.2)[1]) == 20
    # what runs with seed 0 have always held back
    order = np.random.default_rng((0, 1)).permutation(100)
    assert [c.id for c in split(many, 0.2)[1]] == [str(number) for number in order[:20]]
