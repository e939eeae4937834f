"""Comparisons on the tiny model: numbers against decoding, reuse of earlier work, and rejected configs."""

import json
from types import SimpleNamespace

import pytest

from edgeai.core.config import load_config
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.run import Run
from edgeai.spec.config.compare import CompareConfig, Variant
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.train import TrainConfig
from edgeai.spec.data.conversation import load_conversations
from edgeai.spec.data.prompts import load_prompts, select
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import chat_ids
from edgeai.spec.draft.checkpoint import load_head
from edgeai.spec.draft.eagle3 import Eagle3
from edgeai.spec.evaluation.compare import heads as heads_of
from edgeai.spec.evaluation.compare.compare import plan_compare, run_compare
from edgeai.spec.evaluation.compare.heads import compared_heads
from edgeai.spec.training.train import run_train

TREES = (TreeConfig(nodes=4, depth=3, top_k=3), TreeConfig(nodes=12, depth=4, top_k=3))


@pytest.fixture(scope="module")
def config(train_config, tiny_prompts):
    """config(**changes): one epoch of two losses."""

    def make(**changes):
        usual = {
            "train": train_config(epochs=1, val_every=100),
            "variants": {"ce": Variant(), "lk": Variant(set={"loss.kind": "lk"})},
            "seeds": (0,),
            "trees": TREES,
            "prompts": {"tiny": str(tiny_prompts)},
            "max_prompts": 3,
            "max_tokens": 24,
        }
        return CompareConfig(**{**usual, **changes})

    return make


def new_run(cfg, path, listener=None):
    return Run.create(cfg, out=path, argv=[], device="cpu", device_why="test", listener=listener)


@pytest.fixture(scope="module")
def usual(config, tmp_path_factory):
    """A completed comparison: config, directory and report."""
    cfg = config()
    run = new_run(cfg, tmp_path_factory.mktemp("compare"))
    report = run_compare(cfg, run)
    run.finish("done", report.to_json())
    return SimpleNamespace(cfg=cfg, path=run.path, report=report)


def test_greedy_accept_len_is_that_of_decoding(usual, tiny_target, tiny_prompts):
    """In float32, answers and cycles equal those of decoding prompt by prompt."""
    for name, path in usual.report.heads.items():
        head, _ = load_head(usual.path / path, tiny_target)
        for tree in TREES:
            counts = []
            for prompt in select(load_prompts(tiny_prompts), 3):
                answer = generate_ids(
                    tiny_target,
                    Eagle3(head, tiny_target, name="x"),
                    chat_ids(tiny_target.tokenizer, prompt.turns[0]),
                    tree=tree,
                    sampling=SamplingConfig(),
                    max_tokens=24,
                    context=512,
                )
                counts += answer.accept_counts
            cell = next(
                cell
                for cell in usual.report.cells
                if (cell.temperature, cell.tree.nodes, f"{cell.variant}-0") == (0.0, tree.nodes, name)
            )
            assert cell.accept_len == {"0": sum(counts) / len(counts)}


def test_files_of_a_comparison(usual):
    assert {"ce-0", "lk-0", "features", "texts.jsonl", "accept_len.png", "accept_len.svg"} <= {
        file.name for file in usual.path.iterdir()
    }
    assert not (usual.path / "lk-0" / "features").exists()
    assert Run.open(usual.path / "lk-0").status == "done"
    trained = load_config(TrainConfig, usual.path / "lk-0" / "config.yaml")
    assert (trained.loss.kind, trained.seed, trained.data.features_dir) == ("lk", 0, usual.path / "features")
    report = json.loads((usual.path / "report.json").read_text())
    assert report["baseline"] == "ce"
    assert len(report["cells"]) == 2 * 2 * 2  # temperatures, trees, variants
    assert [curve["name"] for curve in report["curves"]] == ["ce", "lk"]
    assert [cost["variant"] for cost in report["costs"]] == ["ce", "lk"]
    texts = load_conversations(usual.path / "texts.jsonl")
    assert [text.temperature for text in texts] == [0.0] * 3 + [1.0] * 3


def test_nothing_is_done_twice(usual, monkeypatch):
    """Completed trainings and texts are reused: the report is equal to the bit."""
    monkeypatch.setattr(heads_of, "run_train", None)  # not called
    monkeypatch.setattr("edgeai.spec.evaluation.compare.texts.decode_jobs", None)
    assert run_compare(usual.cfg, Run.open(usual.path)).to_json() == usual.report.to_json()


def test_given_runs_are_grouped_by_config(usual, config, train_config, tmp_path):
    """Two seeds of one config, one of another, and a checkpoint folder."""
    for seed in (0, 1):
        cfg = train_config(epochs=1, val_every=100, max_steps=1, seed=seed)
        run = new_run(cfg, tmp_path / f"short-{seed}")
        run.finish("done", run_train(cfg, run).to_json())
    paths = (tmp_path / "short-0", usual.path / "ce-0", tmp_path / "short-1", usual.path / "lk-0" / "best")
    cfg = config(variants={}, runs=paths, temperatures=(0.0,), trees=TREES[:1])
    report = run_compare(cfg, new_run(cfg, tmp_path / "out"))
    found = {cell.variant: sorted(cell.accept_len) for cell in report.cells}
    assert found == {"short": ["0", "1"], "ce": ["0"], "best": ["-"]}
    ours = {cell.variant: cell for cell in report.cells}
    theirs = {(cell.variant, cell.tree.nodes): cell for cell in usual.report.cells if cell.temperature == 0.0}
    assert ours["ce"].accept_len == theirs["ce", 4].accept_len
    assert ours["best"].mean == theirs["lk", 4].mean


class Interrupt:
    """Listener that raises KeyboardInterrupt in the second training."""

    def __init__(self):
        self.trainings = 0

    def on_progress(self, task, done, total, *, unit, fields):
        self.trainings += (task, done) == ("train", 1)
        if (task, done, self.trainings) == ("train", 2, 2):
            raise KeyboardInterrupt

    def on_note(self, text): ...
    def on_log(self, step, values): ...


def test_an_interrupted_comparison_is_continued(usual, tmp_path):
    """The numbers equal those of an uninterrupted comparison; the first training is not repeated."""
    run = new_run(usual.cfg, tmp_path / "out", Interrupt())
    with pytest.raises(KeyboardInterrupt):
        run_compare(usual.cfg, run)
    assert [Run.open(run.path / name).status for name in ("ce-0", "lk-0")] == ["done", "interrupted"]
    assert [head.is_done for head in plan_compare(usual.cfg, run.path).heads] == [True, False]
    report = run_compare(usual.cfg, Run.open(run.path))
    assert report.cells == usual.report.cells


def test_a_failed_training_does_not_stop_the_others(config, tmp_path):
    cfg = config(variants={"bad": Variant(set={"optim.lr": 1e30}), "good": Variant()}, temperatures=(0.0,))
    report = run_compare(cfg, new_run(cfg, tmp_path / "out"))
    assert report.failures == {"bad-0": "the loss is not finite at step 2"}
    assert (report.baseline, {cell.variant for cell in report.cells}) == ("bad", {"good"})
    assert all(cell.ratio is None for cell in report.cells)
    assert Run.open(tmp_path / "out" / "bad-0").status == "failed"
    cfg = config(variants={"bad": Variant(set={"optim.lr": 1e30})})
    with pytest.raises(EdgeAIError, match=r"^all runs failed; first error: the loss is not finite at step 2$"):
        run_compare(cfg, new_run(cfg, tmp_path / "none"))


def test_plan(usual, config, tmp_path):
    """Two temperatures, three prompts, two samples at temperature 1: 9 texts; 3 seeds and a given head; two trees."""
    given = Variant(head=usual.path / "ce-0")
    cfg = config(variants={"given": given, "ce": Variant()}, seeds=(0, 1, 2), samples=2)
    plan = plan_compare(cfg, tmp_path)
    steps = json.loads((usual.path / "ce-0" / "report.json").read_text())["num_steps"]
    assert [(head.name, head.is_done, head.num_steps) for head in plan.heads] == [
        ("given", True, 0),
        *((f"ce-{seed}", False, steps) for seed in range(3)),
    ]
    assert (plan.num_trainings, plan.num_steps, plan.num_texts, plan.num_replays) == (3, 3 * steps, 9, 9 * 4 * 2)


# ----------------------------------------------------------------------------------------------------------------------
# Rejected configs and runs; all are found before anything runs


def test_all_problems_at_once(usual, config, tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "run.json").write_text('{"verb": "spec bench"}')
    broken = tmp_path / "broken"
    for name in ("config.yaml", "run.json", "best/config.json", "best/model.safetensors"):
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_bytes((usual.path / "ce-0" / name).read_bytes())
    (broken / "metrics.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    cfg = config(
        variants={"gone": Variant(head=tmp_path / "nowhere"), "start": Variant(set={"init_from": "no-head"})},
        runs=tuple(tmp_path / name for name in ("empty", "bench", "broken")),
    )
    with pytest.raises(UsageError) as caught:
        compared_heads(cfg, tmp_path / "out")
    assert caught.value.message.split("\n  ") == [
        f"no draft head in {tmp_path / 'nowhere'}",
        "no draft head in no-head",
        f"no draft head in {tmp_path / 'empty'}",
        f"{tmp_path / 'bench'} is a run of `spec bench`, not of `spec train`",
        f"{broken / 'metrics.jsonl'} contains no readable metrics",
    ]


def test_a_run_with_another_training_config(usual):
    cfg = usual.cfg.model_copy(update={"train": usual.cfg.train.model_copy(update={"epochs": 7})})
    with pytest.raises(UsageError) as caught:
        compared_heads(cfg, usual.path)
    assert caught.value.message.split("\n  ") == [
        f"{usual.path / name} has another training config: epochs was 1 and is now 7" for name in ("ce-0", "lk-0")
    ]
    assert caught.value.hint == "give the comparison another --out, or move the run"


def test_the_features_folder_does_not_matter(usual):
    """A training outside of the comparison has no features folder."""
    file = usual.path / "ce-0" / "config.yaml"
    before = file.read_text()
    file.write_text(before.replace(f"features_dir: {usual.path / 'features'}", "features_dir: null"))
    assert file.read_text() != before
    assert all(head.is_done for head in compared_heads(usual.cfg, usual.path))
    file.write_text(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["variants={}"], "nothing to compare: set variants, or give run directories"),
        (["baseline=lx"], 'baseline: no variant "lx"; did you mean "lk"?'),
        (["variants.a/b.set={}"], "variants.a/b: a name consists of letters, digits, . _ -"),
        (
            ["variants.a.set={gto.lrr: 1, optim.kind: x}", "variants.b.set={phase: gto}"],
            "variants.a.set: optim.kind: should be 'adamw' or 'muon' (got 'x')\n  "
            'variants.a.set: gto.lrr: unknown key; did you mean "lr"?\n  '
            "variants.b.set: phase gto improves a trained head: set init_from, or phase: both to train one first",
        ),
        (["variants.a={head: x, set: {seed: 1}}"], "variants.a: a variant is either an existing head or a training"),
    ],
)
def test_invalid_configs(changes, message):
    with pytest.raises(UsageError) as caught:
        load_config(CompareConfig, None, ["variants={lk: {set: {loss.kind: lk}}}", *changes])
    assert message in caught.value.message


def test_changes_keep_the_other_keys():
    """Changes as a mapping or with dotted keys; other keys keep the values of the common training."""
    train = ["train.gto.groups=3", "train.gto.lr=5"]
    for change in ("variants.a.set={gto.lr: 7}", "variants.a.set={gto: {lr: 7}}", "variants.a.set.gto.lr=7"):
        cfg = load_config(CompareConfig, None, [*train, change])
        assert (cfg.training_of("a", 4).gto.groups, cfg.training_of("a", 4).gto.lr) == (3, 7.0)
        assert cfg.training_of("a", 4).seed == 4
