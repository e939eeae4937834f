"""Diagnosis by hand on one cycle, and against decoding itself on the tiny model."""

import json

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run
from edgeai.spec.config.diagnose import DiagnoseConfig
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding import decode
from edgeai.spec.draft.tree import build_tree
from edgeai.spec.evaluation.diagnose import CycleOutcome, DraftedCycle, judge, run_diagnose
from edgeai.spec.training.train import run_train

TREE = TreeConfig(nodes=5, depth=3, top_k=3)


@pytest.fixture(scope="module")
def head_folder(train_config, tmp_path_factory):
    """A head that is right now and then."""
    cfg = train_config(epochs=3, val_every=1000)
    run = Run.create(cfg, out=tmp_path_factory.mktemp("head"), argv=[], device="cpu", device_why="test")
    run_train(cfg, run)
    return run.path


@pytest.fixture(scope="module")
def config(tiny_folder, tiny_prompts, head_folder):
    def make(**changes):
        usual = {
            "target": {"model": str(tiny_folder), "dtype": "float32"},
            "draft": Eagle3Draft(path=head_folder),
            "tree": TREE,
            "prompts": str(tiny_prompts),
            "max_prompts": 3,
            "max_tokens": 40,
        }
        return DiagnoseConfig(**{**usual, **changes})

    return make


#        9 -> 3 (1/2) -> 5 (1/4)      greedy path 3, 5, 7; the tree has 4 in place of 7
#          -> 4 (1/4)
HALF = build_tree([9, 3, 4, 5], [-1, 0, 0, 1], [0.0, *torch.tensor([0.5, 0.25, 0.25]).log().tolist()])


@pytest.mark.parametrize(
    ("written", "greedy_len", "tree_len"),
    [([3, 5, 7, 1], 3, 2), ([3, 5, 8], 2, 2), ([4, 2], 0, 1), ([3], 1, 1), ([], 0, 0)],
    ids=str,
)
def test_one_cycle_by_hand(written, greedy_len, tree_len):
    """Predicted: 1/2 + 1/4 at depth 1, 1/4 at depth 2, nothing below."""
    sight = judge(DraftedCycle(2, HALF, (3, 5, 7)), [0, 0, 9, *written], 3)
    assert sight == CycleOutcome(True, greedy_len, tree_len, pytest.approx((0.75, 0.25, 0.0)))
    assert not judge(DraftedCycle(0, HALF, (3, 5)), [9], 2).is_pruned


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_measured_is_what_decoding_accepts(config, make_run, monkeypatch, temperature):
    """Judged afterwards from the text, against what verification accepted in the cycles with room for a whole tree."""
    found, real = [], decode.accept

    def accept(*args, limit, **options):
        accepted = real(*args, limit=limit, **options)
        found.extend([accepted.num_accepted] if limit > TREE.depth else [])
        return accepted

    monkeypatch.setattr(decode, "accept", accept)
    cfg = config(sampling=SamplingConfig(temperature=temperature))
    report = run_diagnose(cfg, make_run(cfg))
    assert report.num_cycles == len(found) > 30
    assert report.tree_accept_len == pytest.approx(1 + sum(found) / len(found))
    assert report.measured == pytest.approx([sum(n >= d for n in found) / len(found) for d in (1, 2, 3)])
    assert report.predicted_accept_len == pytest.approx(1 + sum(report.predicted))
    assert 0 < report.pruned_frac < 1
    assert 0 < report.same_path_frac < 1
    assert 1 < report.greedy_accept_len < 4
    json.dumps(report.to_json())


def test_a_chain_is_the_greedy_path(config, make_run):
    """Nothing is pruned, and both have the same accepted."""
    cfg = config(tree=TreeConfig(nodes=3, depth=3, top_k=1))
    report = run_diagnose(cfg, make_run(cfg))
    assert (report.pruned_frac, report.same_path_frac) == (0.0, 1.0)
    assert report.greedy_accept_len == report.tree_accept_len > 1.0


def test_a_tree_of_everything_holds_the_greedy_path(config, make_run):
    """No node is pruned, so the tree never has less accepted than the greedy path."""
    cfg = config(tree=TreeConfig(nodes=3 + 9 + 9, depth=3, top_k=3), max_prompts=2)
    report = run_diagnose(cfg, make_run(cfg))
    assert report.pruned_frac == 0.0
    assert report.tree_accept_len > report.greedy_accept_len


def test_answers_too_short_for_a_tree(config, make_run):
    cfg = config(max_tokens=3)
    with pytest.raises(EdgeAIError) as caught:
        run_diagnose(cfg, make_run(cfg))
    assert caught.value.message == "no answer was long enough for a tree of depth 3"
    assert caught.value.hint == "raise max_tokens, lower tree.depth or give other prompts"


def test_a_prompt_that_does_not_fit(config, make_run):
    cfg = config(context=16)
    with pytest.raises(UsageError, match="and the context holds 16, answer included"):
        run_diagnose(cfg, make_run(cfg))
