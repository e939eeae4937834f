"""Preparation of a run: number formats, draft vocabulary, head shape, unusable answers, and the split."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.answers import write_conversations
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.data.features import cache_features
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.target import build, loading
from edgeai.spec.target.native.library import Unavailable
from edgeai.spec.training import prepare as preparation
from edgeai.spec.training.distributed import ALONE
from edgeai.spec.training.plan import plan
from edgeai.spec.training.prepare import build_head, settle_target, split, usable_conversations
from edgeai.spec.training.train import run_train


def test_number_formats_are_settled_once(train_config, make_run, monkeypatch):
    """A timing that comes out otherwise on resume must not change the arithmetic."""
    cfg = train_config(optim={"autocast": True})
    cfg = cfg.model_copy(update={"target": cfg.target.model_copy(update={"dtype": "auto"})})
    run = make_run(cfg)
    half = {"runtime": "torch", "target": "bfloat16", "products": "bfloat16", "muon": "bfloat16"}
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 3.0)
    monkeypatch.setattr(loading, "choose_dtype", lambda name, device: "bfloat16" if name == "auto" else name)
    assert settle_target(cfg, run, ALONE)[1] == half
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 0.5)
    monkeypatch.setattr(loading, "choose_dtype", lambda name, device: "float32" if name == "auto" else name)
    target, formats = settle_target(cfg, Run.open(run.path), ALONE)
    assert (formats, target.dtype) == (half, torch.bfloat16)
    whole = {"runtime": "torch", "target": "float32", "products": "float32", "muon": "float32"}
    assert settle_target(cfg, make_run(cfg, "other"), ALONE)[1] == whole
    monkeypatch.setattr(preparation, "bf16_gain", lambda: 3.0)
    _, formats = settle_target(train_config(), make_run(cfg, "third"), ALONE)  # autocast off
    assert (formats["products"], formats["muon"]) == ("float32", "bfloat16")


@pytest.fixture
def gguf_config(train_config, write_gguf, tiny_tokenizer):
    """A training whose target is a GGUF file, with the runtime left to `auto`."""
    return train_config(**{"epochs": 1, "max_steps": 2}).model_copy(
        update={"target": TargetConfig(model=str(write_gguf("Q4_1")))}
    )


def test_the_runtime_is_settled_once(gguf_config, library, make_run, monkeypatch):
    """A run that began on the native runtime does not go on with torch where it finds no compiler."""
    run = make_run(gguf_config)
    assert settle_target(gguf_config, run, ALONE)[0].runtime == "native"

    def unavailable():
        raise Unavailable("there is no compiler")

    monkeypatch.setattr(build, "load_library", unavailable)
    with pytest.raises(UsageError, match=r"^the run began on the native runtime: .* there is no compiler$") as caught:
        settle_target(gguf_config, Run.open(run.path), ALONE)
    assert caught.value.hint == "`edgeai doctor` says what it needs; or begin a new run"


def test_runs_of_versions_without_the_choice_go_on_with_torch_and_its_muon(gguf_config, library, make_run, monkeypatch):
    run = make_run(gguf_config)
    (run.path / "formats.json").write_text('{"target": "float32", "products": "float32"}')
    asked = []
    monkeypatch.setattr(preparation, "build_target", lambda config, **_: asked.append(config))
    _, formats = settle_target(gguf_config, run, ALONE)
    assert (formats["runtime"], asked[0].runtime, asked[0].dtype) == ("torch", "torch", "float32")
    assert formats["muon"] == "bfloat16"  # as torch.optim.Muon had it


def test_a_head_trained_on_the_native_runtime_drafts_for_it(gguf_config, library, make_run):
    """The features of both runtimes are never mixed, and the report names the runtime."""
    run = make_run(gguf_config)
    report = run_train(gguf_config, run)
    assert report.runtime == "native"
    target, _ = settle_target(gguf_config, run, ALONE)
    drafter = build_drafter(Eagle3Draft(path=Path(report.head)), target, run.metrics)
    prompt, texts = target.tokenizer.encode("Tell me about"), []
    for each in (None, drafter):
        answer = generate_ids(
            target, each, prompt, tree=TreeConfig(nodes=5), sampling=SamplingConfig(), max_tokens=32, context=128
        )
        texts.append(answer.ids)
    assert texts[0] == texts[1]
    texts, folder = usable_conversations(gguf_config.data.answers), run.path / "features" / "train"
    with pytest.raises(UsageError, match="contains features of other text, another target or other layers"):
        cache_features(_AsTorch(target), texts, folder=folder, batch_tokens=512, metrics=run.metrics)


class _AsTorch:
    """The same target, on another runtime."""

    runtime = "torch"

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        return getattr(self._target, name)


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


class Notes:
    """A listener that keeps the notes."""

    def __init__(self):
        self.texts = []

    def on_note(self, text):
        self.texts.append(text)

    def on_progress(self, *_, **__):
        pass


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


@pytest.mark.parametrize("scaling", [None, YARN])
def test_a_target_whose_heads_cannot_be_exported_is_named_before_the_training(
    train_config, tiny_folder, tmp_path, scaling
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_scaling": scaling}))
    cfg = train_config().model_copy(update={"target": TargetConfig(model=str(folder), dtype="float32")})
    notes = Notes()
    plan(cfg, device="cpu", metrics=Metrics(None, listener=notes))
    wanted = [
        f"a head for this target cannot be exported to other servers: {folder} scales its positions by 'yarn'; known "
        "are default, linear and llama3"
    ]
    assert [text for text in notes.texts if "exported" in text] == (wanted if scaling else [])


def test_without_a_template_a_plan_refuses_prompts_by_the_target(train_config, tiny_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": None}))
    cfg = train_config(data={"answers": None, "self_prompt": 4})
    cfg = cfg.model_copy(update={"target": TargetConfig(model=str(folder), dtype="float32")})
    with pytest.raises(UsageError, match="has no chat template, so it cannot write prompts"):
        plan(cfg, device="cpu", metrics=Metrics(None))


def test_a_template_that_drops_earlier_answers_is_named_before_any_answer(train_config, tiny_folder, tmp_path):
    folder, prompts, written = tmp_path / "model", tmp_path / "p.jsonl", tmp_path / "answers.jsonl"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    last_turn = "user: {{ messages[-1]['content'] }} assistant: "
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": last_turn}))
    prompts.write_text('{"id": 1, "turns": ["a"]}\n{"id": 2, "turns": ["a", "b"]}\n')
    cfg = train_config(data={"answers": None, "prompts": (str(prompts),)})
    cfg = cfg.model_copy(update={"target": TargetConfig(model=str(folder), dtype="float32")})
    message = r"the chat template drops earlier answers, so that turn 2 cannot follow them$"
    with pytest.raises(UsageError, match=message):
        plan(cfg, device="cpu", metrics=Metrics(None))
    target = build.build_target(cfg.target, device="cpu", metrics=Metrics(None))
    with pytest.raises(UsageError, match=message):
        write_conversations(target, cfg.data, path=written, seed=0, metrics=Metrics(None))
    assert not written.exists()
