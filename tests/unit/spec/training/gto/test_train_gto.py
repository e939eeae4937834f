"""GTO in the training loop: phases, resume to the bit, what is logged and kept, and what is refused."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import read_metrics
from edgeai.core.run import Run
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import GtoConfig, TrainConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.target.build import build_target
from edgeai.spec.tiny import write_tiny_model
from edgeai.spec.training.steps import plan_steps
from edgeai.spec.training.train import run_train

GTO = {"groups": 2, "group_size": 4, "tree": TreeConfig(nodes=8, depth=3, top_k=4), "lr": 1e-3, "flat_std": 1e-6}
TREE_KEYS = {
    "active_group_frac",
    "advantage_spread",
    "reward",
    "reward_ref",
    "reward_exact",
    "reward_exact_ref",
    "greedy_accepted",
    "greedy_accepted_ref",
}


@pytest.fixture(scope="module")
def token_run(train_config, tmp_path_factory):
    """A trained head to start from."""
    cfg = train_config(epochs=4, val_every=1000)
    run = Run.create(cfg, out=tmp_path_factory.mktemp("tokens"), argv=[], device="cpu", device_why="test")
    return SimpleNamespace(path=run.path, report=run_train(cfg, run))


@pytest.fixture(scope="module")
def gto_config(train_config, token_run):
    """gto_config(gto={}, **others)."""

    def make(*, gto=None, **changes):
        parts = {"phase": "gto", "init_from": token_run.path, "val_every": 4, **changes}
        return train_config(gto=GtoConfig(**{**GTO, **(gto or {})}), **parts)

    return make


class Interrupt:
    """A listener like Ctrl-C after some training step."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, task, done, total, *, unit, fields):
        if (task, done) == ("train", self.step):
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


def _outcome(path):
    state = torch.load(path / "state.pt", weights_only=True)
    rows = [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(path)]
    heads = {name: load_file(path / name / "model.safetensors") for name in ("best", "last")}
    return {key: value for key, value in state.items() if key != "train_s"}, rows, heads


def _flat(value, where=""):
    """All leaves with their places."""
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _flat(part, f"{where}.{key}")]
    if isinstance(value, list | tuple):
        return [leaf for n, part in enumerate(value) for leaf in _flat(part, f"{where}[{n}]")]
    return [(where, value)]


def _assert_identical(a, b):
    ours, theirs = _flat(a), _flat(b)
    assert [place for place, _ in ours] == [place for place, _ in theirs]
    for (place, x), (_, y) in zip(ours, theirs, strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, place


# ----------------------------------------------------------------------------------------------------------------------
# Phases and resume


def test_steps_of_each_phase(gto_config, token_run):
    """Epochs of both phases, each with an order of its own; `both` goes on where tokens end."""
    talks = [Conversation(str(n), (0,) * 40, ((1, 40),), 0.0) for n in range(40)]
    plans = {
        phase: plan_steps(gto_config(phase=phase, epochs=2, gto={"epochs": 3}), talks)
        for phase in ("tokens", "gto", "both")
    }
    assert [step.epoch for step in plans["both"]] == sorted(step.epoch for step in plans["both"])
    assert {(step.epoch, step.is_gto) for step in plans["both"]} == {(n, n >= 2) for n in range(5)}
    assert plans["both"][: len(plans["tokens"])] == plans["tokens"]
    assert {(step.epoch, step.is_gto) for step in plans["gto"]} == {(n, True) for n in range(3)}
    short = plan_steps(gto_config(phase="both", epochs=2, gto={"epochs": 3}, max_steps=3), talks)
    num_token_steps = len(plans["tokens"])
    assert short == plans["both"][:3] + plans["both"][num_token_steps : num_token_steps + 3]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"gto": {"epochs": 2}}, (1, 6)),
        ({"phase": "both", "epochs": 1, "val_every": 3, "gto": {"epochs": 2, "starts": "fixed"}}, (4, 5, 7)),
    ],
    ids=["gto", "both, fixed starts"],
)
def test_resumed_equals_uninterrupted(gto_config, make_run, changes, steps):
    """Before the first checkpoint, between two, just before one, and around the turn from tokens to trees."""
    cfg = gto_config(**changes)
    whole = make_run(cfg, "whole")
    report = run_train(cfg, whole)
    assert report.num_steps > steps[-1]
    for step in steps:
        run = make_run(cfg, f"broken-{step}", Interrupt(step))
        with pytest.raises(KeyboardInterrupt):
            run_train(cfg, run)
        run.metrics.close()
        resumed = run_train(cfg, Run.open(run.path), resume=True)
        _assert_identical(_outcome(run.path), _outcome(whole.path))
        assert resumed.accept_len == report.accept_len
        assert resumed.reference_accept_len == report.reference_accept_len


def test_both_is_tokens_and_then_gto(gto_config, train_config, make_run):
    """Up to the turn the token phase alone; the reference is its last head, in full precision."""
    cfg = gto_config(phase="both", epochs=1, init_from=None)
    run = make_run(cfg, "both")
    report = run_train(cfg, run)
    tokens = make_run(train_config(epochs=1), "tokens")
    alone = run_train(train_config(epochs=1), tokens)
    state, reference = (torch.load(p / "state.pt", weights_only=True) for p in (run.path, tokens.path))
    for name, tensor in state["reference"].items():
        assert torch.equal(tensor, reference["head"][name]), name
        if tensor.is_floating_point() and tensor.ndim == 2:
            assert not torch.equal(tensor, state["head"][name]), name
    rows = {row["step"]: row for row in read_metrics(run.path) if "val_acc_0" in row}
    turn = rows[alone.num_steps]
    assert turn["val_acc_0"] == alone.step_accuracy[0]
    assert turn["val_reward_exact"] == turn["val_reward_exact_ref"]
    assert report.reference_accept_len == turn["val_tree_accept_len"]
    lrs = [row["lr"] for row in read_metrics(run.path) if "lr" in row]
    assert max(lrs[alone.num_steps :]) <= 1e-3 < max(lrs[: alone.num_steps]) <= 5e-3


# ----------------------------------------------------------------------------------------------------------------------
# Outcome


def test_what_is_logged_and_kept(gto_config, make_run, token_run):
    """From a head that has hardly moved to one that has: active groups, ratios, rewards beside the reference's."""
    cfg = gto_config(gto={"epochs": 3})
    run = make_run(cfg)
    report = run_train(cfg, run)
    rows = read_metrics(run.path)
    first, *steps = [row for row in rows if "loss_gto" in row]
    assert first["step"] == 1
    # the head is still the reference: nothing to gain, and no gradient but the token loss's
    assert (first["active_group_frac"], first["advantage_spread"], first["loss_gto"]) == (0.0, 0.0, 0.0)
    assert first["reward"] == first["reward_ref"]
    assert steps[-1]["active_group_frac"] > 0
    assert steps[-1]["advantage_spread"] > 0
    assert steps[-1]["ratio"] != 1.0
    assert all(0.0 <= row["clip_frac"] <= 1.0 for row in steps)
    assert all(row.keys() >= TREE_KEYS for row in (first, *steps))
    validations = [row for row in rows if "val_tree_accept_len" in row]
    assert validations[0]["step"] == 0
    assert validations[0]["val_reward_exact"] == validations[0]["val_reward_exact_ref"]
    assert len({row["val_reward_exact_ref"] for row in validations}) == 1  # the same places throughout
    assert report.reference_accept_len == validations[0]["val_tree_accept_len"]
    assert report.accept_len == max(row["val_tree_accept_len"] for row in validations)
    assert report.accept_len > report.reference_accept_len
    assert all(row["ttt_steps"] == 3 for row in steps)


def test_without_a_learning_rate_the_head_stays_the_reference(gto_config, make_run, token_run, tiny_target):
    """Zero advantage and zero gradient in every step: identical heads have identical trees."""
    cfg = gto_config(gto={"lr": 1e-30, "flat_std": 0.0})
    run = make_run(cfg)
    run_train(cfg, run)
    rows = [row for row in read_metrics(run.path) if "loss_gto" in row]
    assert len(rows) > 3
    assert {(row["active_group_frac"], row["loss_gto"], row["ratio"]) for row in rows} == {(0.0, 0.0, 1.0)}
    best, _ = load_head(run.path, tiny_target)
    given, _ = load_head(token_run.path, tiny_target)
    for ours, theirs in zip(best.parameters(), given.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_omega_zero_is_more_token_training(gto_config, make_run):
    """The same steps as with the tree loss, without its gradient: the kind of reward makes no difference."""
    heads = {}
    for name, gto in {"plain": {"omega": 0.0}, "max": {"omega": 0.0, "reward": "max"}, "gto": {}}.items():
        run = make_run(gto_config(gto=gto), name)
        run_train(gto_config(gto=gto), run)
        heads[name] = torch.load(run.path / "state.pt", weights_only=True)["head"]["lm_head.weight"]
    assert torch.equal(heads["plain"], heads["max"])
    assert not torch.equal(heads["plain"], heads["gto"])


# ----------------------------------------------------------------------------------------------------------------------
# Refusals


def test_gto_needs_a_head():
    with pytest.raises(UsageError, match="phase gto improves a trained head: set init_from, or phase: both"):
        load_config(TrainConfig, None, ["phase=gto"])


def test_head_of_another_target(gto_config, make_run, tmp_path):
    """Refused before anything is written for it."""
    write_tiny_model(tmp_path / "other", seed=5)
    cfg = gto_config()
    cfg = cfg.model_copy(update={"target": cfg.target.model_copy(update={"model": str(tmp_path / "other")})})
    run = make_run(cfg)
    other = build_target(cfg.target, device="cpu", metrics=run.metrics)
    with pytest.raises(UsageError) as caught:
        run_train(cfg, run)
    assert caught.value.message.startswith(f"{cfg.init_from}/best was trained for ")
    assert caught.value.message.endswith(f"not for {tmp_path / 'other'} (weights {other.fingerprint})")
    assert caught.value.hint == "give the target that the head was trained for, or train a head for this one"
    assert not (run.path / "features").exists()


@pytest.mark.parametrize("phase", ["gto", "both"])
def test_group_longer_than_the_answers(gto_config, make_run, phase):
    """Said at once, not after the token phase."""
    cfg = gto_config(phase=phase, gto={"group_size": 64})
    run = make_run(cfg)
    with pytest.raises(
        UsageError, match=r"^no answer has room for a group of 64 adjacent positions: the longest has \d+$"
    ):
        run_train(cfg, run)
    assert read_metrics(run.path) == []


def test_not_a_number_names_the_learning_rate_of_the_phase(gto_config, make_run):
    cfg = gto_config(gto={"lr": 1e30})
    run = make_run(cfg)
    with pytest.raises(EdgeAIError) as caught:
        run_train(cfg, run)
    assert caught.value.hint == (
        f"the last good weights are in {run.path}/last; train again with a lower gto.lr (now 1e+30)"
    )
