"""Training: a resumed run equals an uninterrupted one, and what is logged, kept and refused."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics, read_metrics
from edgeai.core.run import Run
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.train import LossConfig, OptimConfig, TrainConfig
from edgeai.spec.data.conversation import load_conversations
from edgeai.spec.data.features import OnlineFeatures
from edgeai.spec.data.train_batch import query_positions
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.training import prepare as preparation
from edgeai.spec.training import train
from edgeai.spec.training.distributed import ALONE, Ranks
from edgeai.spec.training.losses import StepSums, TrainingTimeTest, step_means
from edgeai.spec.training.optimizers import learning_rate
from edgeai.spec.training.prepare import prepare, split
from edgeai.spec.training.steps import Step
from edgeai.spec.training.train import run_train
from edgeai.spec.training.validation import tree_accept_len


class Interrupt:
    """A listener like Ctrl-C at some progress of a task."""

    def __init__(self, task, done):
        self.at = (task, done)

    def on_progress(self, task, done, total, *, unit, fields):
        if (task, done) == self.at:
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


def _outcome(path):
    """Everything a run leaves that must not depend on interruptions, times left out."""
    state = torch.load(path / "state.pt", weights_only=True)
    rows = [{k: v for k, v in row.items() if k != "time_s"} for row in read_metrics(path)]
    heads = {name: load_file(path / name / "model.safetensors") for name in ("best", "last")}
    return {key: value for key, value in state.items() if key != "train_s"}, rows, heads


def _assert_identical(a, b, where="outcome"):
    """Bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            _assert_identical(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            _assert_identical(x, y, f"{where}[{number}]")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def usual(train_config, tmp_path_factory):
    """The usual run, uninterrupted: config, directory and report."""
    cfg = train_config()
    run = Run.create(cfg, out=tmp_path_factory.mktemp("usual"), argv=[], device="cpu", device_why="test")
    return SimpleNamespace(cfg=cfg, path=run.path, report=run_train(cfg, run))


# ----------------------------------------------------------------------------------------------------------------------
# Resume


@pytest.mark.parametrize(
    ("task", "done"), [("features", None), ("train", 2), ("train", 6), ("train", 8)], ids=lambda value: str(value)
)
def test_resumed_equals_uninterrupted(usual, make_run, task, done):
    """Interrupted while features are written, before the first checkpoint, between two, and just before one.

    Weights, optimiser, counters, random state, metrics and both heads, bit for bit.
    """
    ear = Interrupt(task, done)
    if done is None:
        ear.on_progress = lambda task_, *_, **__: (_ for _ in ()).throw(KeyboardInterrupt) if task_ == task else None
    run = make_run(usual.cfg, listener=ear)
    with pytest.raises(KeyboardInterrupt):
        run_train(usual.cfg, run)
    run.metrics.close()
    report = run_train(usual.cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(usual.path))
    assert report.num_steps == usual.report.num_steps > 10
    assert report.step_accuracy == usual.report.step_accuracy
    assert report.accept_len == usual.report.accept_len


def test_resumed_with_the_same_muon(train_config, make_run, monkeypatch):
    """A run continues with the number format of its orthogonalization, whatever the timing says next time."""
    cfg = train_config(epochs=1, max_steps=4, val_every=2, optim={"kind": "muon"})
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 0.5)
    whole, run = make_run(cfg, "whole"), make_run(cfg, listener=Interrupt("train", 3))
    run_train(cfg, whole)
    with pytest.raises(KeyboardInterrupt):
        run_train(cfg, run)
    run.metrics.close()
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 3.0)
    run_train(cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(whole.path))
    other = make_run(cfg, "other")
    run_train(cfg, other)
    heads = (load_file(path / "last" / "model.safetensors") for path in (whole.path, other.path))
    assert not all(map(torch.equal, *(head.values() for head in heads)))  # the formats differ in their results


def test_resumed_after_an_interruption_of_the_answers(train_config, tiny_prompts, make_run):
    """Text included: the same answers, the same split, the same weights."""
    data = {"answers": None, "prompts": (str(tiny_prompts),), "max_prompts": 12, "max_answer_tokens": 24, "max_len": 96}
    cfg = train_config(data=data, epochs=1)
    whole = make_run(cfg, "whole")
    run_train(cfg, whole)
    run = make_run(cfg, "broken", Interrupt("answers", 5))
    with pytest.raises(KeyboardInterrupt):
        run_train(cfg, run)
    run_train(cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(whole.path))


def test_resumed_after_a_kill_while_saving(usual, make_run, monkeypatch):
    """The second checkpoint's heads are new already, its state is half written."""
    saves = []

    def torn(state, path):
        saves.append(path)
        if len(saves) == 2:
            path.write_bytes(b"half a state")
            raise KeyboardInterrupt
        real(state, path)

    real = torch.save
    run = make_run(usual.cfg)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(KeyboardInterrupt):
            run_train(usual.cfg, run)
    run_train(usual.cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(usual.path))


def test_disk_full_while_saving(usual, make_run, monkeypatch):
    def full(state, path):
        path.write_bytes(b"half a state")
        raise OSError(28, "No space left on device")

    run = make_run(usual.cfg)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(EdgeAIError) as caught:
            run_train(usual.cfg, run)
    assert caught.value.message == f"cannot write {run.path}/state.pt: [Errno 28] No space left on device"
    assert caught.value.hint == "free some space, then continue with --resume"
    assert not list(run.path.glob(".state.pt*"))
    run_train(usual.cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(usual.path))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from edgeai.core.config import load_config
from edgeai.core.run import Run
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.training.train import run_train

class Kill:
    def on_progress(self, task, done, total, *, unit, fields):
        if (task, done) == ("train", 6):
            os.kill(os.getpid(), signal.SIGKILL)
    def on_note(self, text): ...
    def on_log(self, step, values): ...

torch.set_num_threads(int(sys.argv[2]))
path = Path(sys.argv[1])
run_train(load_config(TrainConfig, path / "config.yaml"), Run.open(path, listener=Kill()))
"""


@pytest.mark.slow
def test_resumed_after_kill_9(usual, make_run):
    """A process of its own, killed without warning."""
    run = make_run(usual.cfg)
    command = [sys.executable, "-c", KILLED, str(run.path), str(torch.get_num_threads())]
    assert subprocess.run(command).returncode == -9
    assert Run.open(run.path).status == "running"
    assert torch.load(run.path / "state.pt", weights_only=True)["step"] == 4
    cfg = load_config(TrainConfig, run.config_path)
    run_train(cfg, Run.open(run.path), resume=True)
    _assert_identical(_outcome(run.path), _outcome(usual.path))


def test_resume_of_a_finished_run_trains_no_more(usual):
    before = _outcome(usual.path)
    report = run_train(usual.cfg, Run.open(usual.path), resume=True)
    assert report.num_steps == usual.report.num_steps
    _assert_identical(_outcome(usual.path), before)


def test_resumed_run_remembers_its_best_head(usual, make_run):
    """A head as good as that stays the best."""
    run = make_run(usual.cfg, listener=Interrupt("train", 6))
    with pytest.raises(KeyboardInterrupt):
        run_train(usual.cfg, run)
    state = torch.load(run.path / "state.pt", weights_only=True)
    torch.save({**state, "best_accept_len": 9.0}, run.path / "state.pt")
    best = (run.path / "best" / "model.safetensors").read_bytes()
    assert run_train(usual.cfg, Run.open(run.path), resume=True).accept_len == 9.0
    assert (run.path / "best" / "model.safetensors").read_bytes() == best
    assert (run.path / "last" / "model.safetensors").read_bytes() != best


# ----------------------------------------------------------------------------------------------------------------------
# Outcome


def test_a_head_learns_in_a_second(train_config, make_run):
    """Loss falls, and the tiny model's next token is right far more often than by chance, but not always."""
    cfg = train_config(epochs=8, val_every=1000)
    run = make_run(cfg)
    report = run_train(cfg, run)
    losses = [row["loss_0"] for row in read_metrics(run.path) if "loss_0" in row]
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    assert 0.3 < report.step_accuracy[0] < 0.99
    assert report.accept_len > 1.3


def test_report_and_metrics_agree(usual):
    """By hand: accuracies and accept_len of the last and best validation, tokens of the training split."""
    conversations = sorted(load_conversations(usual.cfg.data.answers), key=lambda c: c.id)
    chosen, held_back = split([c for c in conversations if c.num_answer_tokens > 2], 0.2)
    report = usual.report
    assert report.num_conversations == len(chosen)
    assert report.num_answer_tokens == sum(c.num_answer_tokens for c in chosen)
    assert not {c.id for c in chosen} & {c.id for c in held_back}
    rows = read_metrics(usual.path)
    validations = [row for row in rows if "val_tree_accept_len" in row]
    steps = [row["step"] for row in rows if "lr" in row]
    assert steps == list(range(1, report.num_steps + 1))
    expected = sorted({*range(4, report.num_steps + 1, 4), report.num_steps})
    assert [row["step"] for row in validations] == expected
    assert report.accept_len == max(row["val_tree_accept_len"] for row in validations)
    assert report.reference_accept_len is None
    assert report.step_accuracy == tuple(validations[-1][f"val_acc_{i}"] for i in range(3))
    assert report.tokens_seen == validations[-1]["tokens_seen"]
    assert report.to_json()["accept_len"] == report.accept_len
    best = json.loads((usual.path / "best" / "config.json").read_text())["edgeai"]["metrics"]
    assert best["val_tree_accept_len"] == report.accept_len
    last = json.loads((usual.path / "last" / "config.json").read_text())["edgeai"]["metrics"]
    assert last["val_acc_0"] == report.step_accuracy[0]


def test_accept_len_of_hand_made_sums():
    """Ten drafts: six right at once, three of them right twice; 1 + (6 + 3) / 10. Others are means over rows."""
    sums = StepSums(*(torch.tensor(v) for v in ([20.0, 24.0], [6.0, 4.0], [6.0, 3.0], [10.0, 8.0])))
    found = step_means([sums], ALONE)
    assert found == {"loss_0": 2.0, "acc_0": 0.6, "loss_1": 3.0, "acc_1": 0.5, "accept_len": 1.9}
    twice = step_means([sums, sums], ALONE)
    assert twice == found


def test_simulated_runs_are_those_of_the_decoding_drafter(usual, tiny_target):
    """At every position of greedy text: training's count of unbroken hits is how far decoding's own chain agrees."""
    head, _ = load_head(usual.path, tiny_target)
    tiny_target = tiny_target.with_aux_layers(head.shape.aux_layers)
    talks = [c for c in load_conversations(usual.cfg.data.answers) if c.temperature == 0][:6]
    module = TrainingTimeTest(
        head,
        embedding=tiny_target.embedding,
        lm_head=tiny_target.lm_head,
        cos=tiny_target.decoder.cos,
        sin=tiny_target.decoder.sin,
        config=LossConfig(),
        dtype=torch.float32,
    )
    batch = OnlineFeatures(tiny_target, talks).batch(range(len(talks)))
    with torch.no_grad():
        _, sums = module(batch, 3, torch.ones(3))
    drafter = Eagle3(head, tiny_target, name="test")
    chain = TreeConfig(nodes=3, depth=3, top_k=1)
    runs = [0.0, 0.0, 0.0]
    for row, talk in enumerate(talks):
        for t, end in query_positions(talk):
            drafter.start(talk.ids[: t + 1], batch.features[row, : t + 1])
            drafted = drafter.propose(talk.ids[t + 1], chain).tokens.tolist()[1:]
            for step in range(3):
                if t + 2 + step >= end or drafted[step] != talk.ids[t + 2 + step]:
                    break
                runs[step] += 1
    assert sums.run_hits.tolist() == runs
    assert runs[0] > runs[1] > 0


def test_val_tree_accept_len_is_what_decoding_accepts(usual, tiny_target):
    """The best head decodes the greedy ones among the validation texts anew; sampled ones are replayed elsewhere."""
    conversations = [c for c in load_conversations(usual.cfg.data.answers) if c.num_answer_tokens > 2]
    _, val = split(sorted(conversations, key=lambda c: c.id), 0.2)
    head, _ = load_head(usual.path, tiny_target)
    tiny_target = tiny_target.with_aux_layers(head.shape.aux_layers)
    greedy = [c for c in val if c.temperature == 0]
    drafter, counts = Eagle3(head, tiny_target, name="x"), []
    for talk in greedy:
        ids = talk.ids[: talk.answers[0][0]]
        options = {"sampling": SamplingConfig(), "max_tokens": 40, "context": 400}
        answer = generate_ids(tiny_target, drafter, ids, tree=usual.cfg.val_tree, **options)
        assert (*ids, *answer.ids) == talk.ids
        counts += answer.accept_counts
    features = OnlineFeatures(tiny_target, greedy)
    found = tree_accept_len(head, tiny_target, greedy, features, tree=usual.cfg.val_tree, max_tokens=40)
    assert found == sum(counts) / len(counts) > 1.1


def test_not_a_number_stops_and_keeps_the_last_good_head(train_config, make_run, monkeypatch, tiny_target):
    """Step 6 of the run takes a monstrous step; the loss of step 7 is no number. The head of step 4 stays."""
    real = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", lambda c, step, n: 1e30 if step == 5 else real(c, step, n))
    cfg = train_config()
    run = make_run(cfg)
    with pytest.raises(EdgeAIError) as caught:
        run_train(cfg, run)
    assert caught.value.message == "the loss is not finite at step 7"
    assert caught.value.hint == (
        f"the last good weights are in {run.path}/last; train again with a lower optim.lr (now 0.005)"
    )
    head, _ = load_head(run.path / "last", tiny_target)
    state = torch.load(run.path / "state.pt", weights_only=True)
    assert state["step"] == 4
    for name, parameter in head.named_parameters():
        assert torch.equal(parameter, state["head"][name].bfloat16().float())
        assert parameter.abs().max() < 100


def test_spoilt_weights_are_not_saved(train_config, make_run, monkeypatch):
    """The monstrous step is the one before a validation, and the first of all: there is no good head."""
    monkeypatch.setattr(train, "learning_rate", lambda *_: 1e30)
    cfg = train_config(val_every=1)
    run = make_run(cfg)
    with pytest.raises(EdgeAIError) as caught:
        run_train(cfg, run)
    assert caught.value.message == "the loss is not finite at step 1"
    assert caught.value.hint == "train again with a lower optim.lr (now 0.005)"
    assert not (run.path / "last").exists()


def test_init_from_a_head(usual, train_config, make_run, tiny_target):
    """With hardly any learning the second run validates as the first ended; vocabulary and layers are the head's."""
    cfg = train_config(
        init_from=usual.path / "last", epochs=1, val_every=1000, optim={"lr": 1e-12}, head={"draft_vocab": 7}
    )
    run = make_run(cfg)
    report = run_train(cfg, run)
    # weights went through bfloat16 once: an argmax here and there may turn
    assert report.step_accuracy == pytest.approx(usual.report.step_accuracy, abs=0.03)
    assert report.coverage_frac == usual.report.coverage_frac
    validations = {row["step"]: row["val_tree_accept_len"] for row in read_metrics(run.path) if "val_acc_0" in row}
    assert sorted(validations) == [0, report.num_steps]
    assert report.reference_accept_len == validations[0] == validations[report.num_steps]
    fresh = make_run(train_config(epochs=1, optim={"lr": 1e-12}), "fresh")
    assert (
        run_train(train_config(epochs=1, optim={"lr": 1e-12}), fresh).step_accuracy[0] < report.step_accuracy[0] - 0.1
    )


def test_online_features_train_alike(usual, train_config, make_run):
    """Cached and online features differ by the rounding of other batch shapes only."""
    cfg = train_config(data={"features": "online"})
    run = make_run(cfg)
    run_train(cfg, run)
    assert not (run.path / "features").exists()
    ours, theirs = (torch.load(p / "state.pt", weights_only=True)["head"] for p in (run.path, usual.path))
    for name, tensor in ours.items():
        # Adam turns a relative error of 1e-6 in a small gradient into a small share of its step of lr = 5e-3
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-3, msg=name)


# ----------------------------------------------------------------------------------------------------------------------
# Schedules and batches


def test_learning_rate_by_hand():
    """100 steps, 10 of warm-up: 1/10 of lr first, all at the tenth, (1 + 0.1) / 2 half way down, 0.1 in the end."""
    config = OptimConfig(lr=2.0, warmup_frac=0.1, min_lr_frac=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.1)
    assert rates[99] == pytest.approx(0.2, abs=1e-3)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert all(math.isfinite(learning_rate(OptimConfig(warmup_frac=0.0), 0, n)) for n in (1, 2))


def test_rows_weigh_the_same_however_they_are_batched(train_config, make_run):
    """One optimiser step over four conversations: in one micro-batch, in two uneven ones, in four."""
    cfg = train_config(loss={"ttt_steps": 3, "ttt_ramp_frac": 0.0})
    found = []
    for number, batches in enumerate(([[0, 1, 2, 3]], [[2], [0, 3, 1]], [[3], [2], [1], [0]])):
        run = make_run(cfg, str(number))
        target, _ = train.settle_target(cfg, run, ALONE, aux_layers=cfg.head.aux_layers)
        train.seed_everything(0)
        ready = prepare(cfg, run, ALONE, target)
        cos, sin = train.head_rotary(ready.head.shape, ready.target)
        module = TrainingTimeTest(
            ready.head,
            embedding=ready.target.embedding,
            lm_head=ready.target.lm_head,
            cos=cos,
            sin=sin,
            config=cfg.loss,
            dtype=torch.float32,
        )
        loop = train._Loop(cfg, run, ALONE, ready, module, muon_dtype=torch.float32)
        found.append(loop._train_step(Step(batches, 0)))
    assert len({len(c.ids) for c in ready.train[:4]}) > 1
    for values in found[1:]:
        assert values == pytest.approx(found[0], rel=1e-4)


# ----------------------------------------------------------------------------------------------------------------------
# Heads and refusals


def test_grad_accum_cannot_be_shared(train_config, make_run):
    cfg = train_config(optim={"grad_accum": 3})
    with pytest.raises(UsageError) as caught:
        run_train(cfg, make_run(cfg), ranks=Ranks(0, 2))
    assert caught.value.message == "optim.grad_accum 3 is not divisible by the 2 processes"
    assert caught.value.hint == "set optim.grad_accum to a multiple of 2"


def test_metrics_may_be_silent(train_config, make_run):
    """As on ranks above 0."""
    cfg = train_config(epochs=1)
    run = make_run(cfg)
    run.metrics = Metrics(None)
    run_train(cfg, run)
    assert read_metrics(run.path) == []
