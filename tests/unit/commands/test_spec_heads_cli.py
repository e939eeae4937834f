"""`edgeai spec export` and `spec import` as a person meets them: results, errors word for word, exit codes, JSON."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeai.cli import main
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.draft.checkpoint import save_head
from edgeai.spec.formats import export_head as export
from edgeai.spec.target.build import build_target
from edgeai.spec.tiny import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_head):
    """model and head, in one folder."""
    here = tmp_path_factory.mktemp("heads")
    write_tiny_model(here / "model")
    target = build_target(TargetConfig(model=str(here / "model"), dtype="float32"), device="cpu", metrics=Metrics(None))
    target.name = "model"
    save_head(here / "head", make_head(target), target, {})
    return here


NOTE = "target.runtime: auto: torch, because the model is not a GGUF file\n"


@pytest.fixture
def spec(folder, tmp_path, monkeypatch, capsys):
    """spec("export", ...): exit code, stdout and stderr, in a folder that holds model and head.

    Stderr is without the note on the runtime, which is there once the model is loaded.
    """
    for name in ("model", "head"):
        shutil.copytree(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main(["spec", *args, "--device=cpu"])
        out, err = capsys.readouterr()
        return code, out, err.removeprefix(NOTE)

    return run


def test_export_and_import(spec):
    code, out, err = spec("export", "head", "--format", "sglang", "--out", "out")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rows = [line.split() for line in lines]
    for row in (["head", "head"], ["target", "model"], ["folder", "out"], ["written", "as", "sglang"]):
        assert row in rows
    assert ["size", "125", "kB"] in rows
    assert ["problems", "none"] in rows
    assert any(row[:3] == ["largest", "logit", "difference"] for row in rows)
    assert lines[-1] == (
        "serve it:  python -m sglang.launch_server --model-path model --speculative-algorithm EAGLE3 "
        "--speculative-draft-model-path out"
    )
    code, out, err = spec("import", "out", "--out", "back")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    for expected in (
        "written to back head out format EAGLE-3 target model parameters 61,",
        "number format bfloat16 draft vocabulary 64 tokens target vocabulary 258 tokens features 2, 4, 5 ",
        "positions as the target ",
        "switches fc_norm, norm_output ",
    ):
        assert expected in words, expected
    assert out.endswith("\nmeasure it:  edgeai spec bench -s draft.path=back -s target.model=model\n")
    before, after = (load_file(f"{name}/model.safetensors") for name in ("head", "back"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_json_is_one_document(spec):
    code, out, _ = spec(
        "export", "head", "--format", "speculators", "--out", "out", "--json", "-s", "verifier=org/model"
    )
    document = json.loads(out)
    assert code == 0
    assert (document["ok"], document["problems"], document["num_steps"]) == (True, [], 2)
    assert document["max_difference"] <= document["tolerance"]
    assert document["config"]["speculators_config"]["verifier"]["name_or_path"] == "org/model"
    assert {"name": "d2t", "shape": [64], "dtype": "int64"} in document["tensors"]
    code, out, _ = spec("import", "out", "--out", "back", "--json", "-s", "target.model=model")
    document = json.loads(out)
    assert (code, document["path"], document["format"]) == (0, "back", "speculators")


def test_dry_run_writes_nothing(spec, tmp_path):
    code, out, _ = spec("export", "head", "--format", "vllm", "--dry-run")
    assert code == 0
    assert '"architectures": [\n    "LlamaForCausalLMEagle3"\n  ]' in out
    assert ["midlayer.self_attn.k_proj.weight", "32,", "128", "bfloat16"] in [line.split() for line in out.splitlines()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head", "model"]
    spec("export", "head", "--format", "vllm", "--out", "out")
    code, out, _ = spec("import", "out", "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "nothing was written (--dry-run)")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head", "model", "out"]


def test_disagreement_exits_with_1(spec, monkeypatch):
    write = export.config_for
    monkeypatch.setattr(export, "config_for", lambda *args: {**write(*args), "norm_output": False})
    code, out, _ = spec("export", "head", "--format", "vllm", "--out", "out")
    assert code == 1
    assert ["folder", "out.partial"] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1] == "agrees: FALSE; do not serve it, and please report this as a bug"
    code, out, _ = spec("export", "head", "--format", "vllm", "--out", "out", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def _with(change):
    def apply():
        tensors = load_file("out/model.safetensors")
        change(tensors)
        save_file(tensors, "out/model.safetensors")

    return apply


EXPORT_EXAMPLE = "for example: edgeai spec export RUN --format sglang --out heads/sglang"
TENSORS = "out: tensors do not match the head's config:"
OTHER = "give the target that the head was trained for, or train a head for this one"


@pytest.mark.parametrize(
    ("args", "message", "hint", "exit_code"),
    [
        (["export"], "no head given", EXPORT_EXAMPLE, 2),
        (["export", "head", "--out", "x"], "no format given", EXPORT_EXAMPLE, 2),
        (
            ["export", "head", "--format", "mlx", "--out", "x"],
            "--set: format: should be 'sglang', 'vllm', 'speculators' or 'eagle' (got 'mlx')",
            "see the keys: edgeai config schema spec export",
            2,
        ),
        (
            ["export", "nowhere", "--format", "vllm", "--out", "x"],
            "no draft head in nowhere",
            "give a checkpoint folder or a run directory of `edgeai spec train`",
            2,
        ),
        (
            ["export", "head", "--format", "vllm"],
            "no folder given for the head",
            "add --out DIR, or --dry-run to check first",
            2,
        ),
        (
            ["export", "head", "--format", "vllm", "--out", "model"],
            "model already exists",
            "give a new folder as --out",
            2,
        ),
        (
            ["export", "head", "--format", "eagle", "--out", "x"],
            "eagle cannot run head: it does not support fc_norm, norm_output",
            "use another --format, or change head.fc_norm, head.norm_output or head.aux_layers and train again",
            1,
        ),
        (
            ["import"],
            "no head given",
            "for example: edgeai spec import DIR --out heads/mine -s target.model=org/model",
            2,
        ),
        (
            ["import", "head", "--out", "x"],
            "head is already an edgeai head",
            "use it with -s draft.path=head",
            2,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_and_a_hint(spec, tmp_path, args, message, hint, exit_code):
    code, out, err = spec(*args, "--json")
    assert (code, err) == (exit_code, f"edgeai: {message}\n  hint: {hint}\n")
    assert json.loads(out) == {"error": {"message": message, "hint": hint, "exit_code": exit_code}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head", "model"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.update({"extra.weight": torch.zeros(2)}), f"{TENSORS} unknown extra.weight"),
        (lambda t: t.pop("norm.weight"), f"{TENSORS} no norm.weight"),
        (lambda t: t.update({"fc.weight": torch.zeros(64, 128)}), f"{TENSORS} fc.weight is [64, 128], not [64, 192]"),
    ],
    ids=["extra", "missing", "shape"],
)
@pytest.mark.parametrize("verb", ["import", "bench"])
def test_a_damaged_file_is_refused(spec, verb, change, problem):
    """By import, and by whatever takes draft.path."""
    spec("export", "head", "--format", "vllm", "--out", "out")
    _with(change)()
    if verb == "import":
        code, _, err = spec("import", "out", "--out", "x", "-s", "target.model=model")
    else:
        code, _, err = spec("bench", "-s", "draft.path=out", "-s", "target.model=model", "-q", "--out", "run")
    assert (code, err) == (2, f"edgeai: {problem}\n  hint: take another checkpoint\n")


def test_another_target(spec, tmp_path):
    """Of another vocabulary; then of other weights."""
    spec("export", "head", "--format", "sglang", "--out", "out")
    write_tiny_model(tmp_path / "other", seed=1)
    code, _, err = spec("import", "out", "--out", "x", "-s", "target.model=other")
    assert code == 2
    assert err.startswith("edgeai: out was trained for model (weights ")
    assert err.endswith(f"  hint: {OTHER}\n")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "vocab_size": 128256}))
    code, _, err = spec("import", "out", "--out", "x", "-s", "target.model=model")
    message = "out drafts for model with 128256 tokens, but model has 258"
    assert (code, err) == (2, f"edgeai: {message}\n  hint: {OTHER}\n")
