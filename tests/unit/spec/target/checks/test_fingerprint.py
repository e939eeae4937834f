"""The fingerprint: every tensor counts, both runtimes agree, and what earlier versions recorded stays readable."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.draft.checkpoint import load_head, save_head
from edgeai.spec.target.build import build_target
from edgeai.spec.target.checks.fingerprint import SAMPLES, fingerprint_of_tensors, sample_positions, tensor_names
from edgeai.spec.tiny import LAYERS


@pytest.fixture(scope="module")
def tensors(tiny_folder):
    return load_file(tiny_folder / "model.safetensors")


def of(tensors):
    return fingerprint_of_tensors(tensors, num_layers=LAYERS, is_tied=False)


def test_every_tensor_counts(tensors):
    """A twentieth of the values of a single tensor is changed by one part in fifty."""
    whole = of(tensors)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        share = 0.05 if tensor.dim() > 1 else 1.0
        changed = torch.where(torch.rand(tensor.shape, generator=generator) < share, tensor * 1.02, tensor)
        assert of({**tensors, name: changed}).current != whole.current, name


def test_the_former_version_knew_three(tensors):
    changed = of({**tensors, "lm_head.weight": tensors["lm_head.weight"] * 2})
    assert changed.former == of(tensors).former
    assert changed.current != of(tensors).current


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_number_formats_agree(tensors, dtype):
    """What a checkpoint in bfloat16 gives in float16 and in float32."""
    halves = {name: tensor.bfloat16() * 1e-3 for name, tensor in tensors.items()}
    assert of(halves).current == of({name: tensor.to(dtype) for name, tensor in halves.items()}).current
    assert of(halves).current == of({name: tensor.float() for name, tensor in halves.items()}).current


def test_names_cover_what_models_have(make_hf):
    for family in ("llama", "mistral", "qwen2", "qwen3"):
        model = make_hf(family)
        assert set(model.state_dict()) <= set(tensor_names(model.config.num_hidden_layers))


def test_positions_are_distinct_and_reach_all_rows_and_columns():
    assert sorted(sample_positions(100)) == list(range(100))
    found = sample_positions(576 * 576)
    assert len(set(found)) == SAMPLES
    assert len(set(found % 576)) > 150
    assert len(set(found // 576)) > 150


def test_runtimes_agree_on_files_of_every_kind(native, write_gguf, tiny_target):
    """Rows of queries and keys lie elsewhere in llama's files; values in whole or half precision are those of torch."""
    for arch in ("llama", "qwen2"):
        assert native("F32", arch=arch).fingerprint == tiny_target.fingerprint
        assert native("BF16", arch=arch).fingerprint == tiny_target.fingerprint
        assert native("F32", arch=arch).former_fingerprint == tiny_target.former_fingerprint
    assert native("Q8_0").fingerprint != tiny_target.fingerprint


def load(folder):
    return build_target(TargetConfig(model=str(folder), dtype="float32"), device="cpu", metrics=Metrics(None))


def test_a_head_is_bound_to_all_weights_and_old_heads_stay_readable(tiny_target, tiny_folder, tmp_path, make_head):
    save_head(tmp_path / "head", make_head(tiny_target), tiny_target, {})
    assert load_head(tmp_path / "head", tiny_target)[1].fingerprint == tiny_target.fingerprint
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tensors = load_file(other / "model.safetensors")
    save_file(
        {**tensors, "lm_head.weight": tensors["lm_head.weight"] * 2}, other / "model.safetensors", {"format": "pt"}
    )
    other_target = load(other)
    with pytest.raises(UsageError, match="was trained for"):
        load_head(tmp_path / "head", other_target)

    path = tmp_path / "head" / "config.json"
    config = json.loads(path.read_text())
    config["edgeai"]["fingerprint"] = tiny_target.former_fingerprint
    path.write_text(json.dumps(config))
    assert load_head(tmp_path / "head", tiny_target)[1].fingerprint == tiny_target.former_fingerprint
    config["edgeai"]["fingerprint"] = "0" * 16
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="was trained for"):
        load_head(tmp_path / "head", tiny_target)
