"""GGUF files on torch: converted to exactly what the file describes, or refused; the cache heals itself."""

from functools import partial

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgeai.core.errors import EdgeAIError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.target.build import build_target


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path, tiny_folder, library, tiny_tokenizer):
    """An empty cache; the files hold no tokenizer, so the tiny model's is taken."""
    read = transformers.AutoTokenizer.from_pretrained

    def of_file(folder, *, gguf_file=None, **options):
        return read(tiny_folder if gguf_file else folder, **options)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", of_file)
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def write_file(write_gguf):
    """As `write_gguf`; without a tokenizer the file needs the size of the vocabulary."""
    return partial(write_gguf, vocab_size=258)


def load(path, runtime="torch"):
    config = TargetConfig(model=str(path), runtime=runtime, dtype="float32")
    return build_target(config, device="cpu", metrics=Metrics(None))


def refused(path, runtime="torch"):
    with pytest.raises(EdgeAIError) as caught:
        load(path, runtime)
    assert "\n" not in caught.value.message
    return f"{caught.value.message} | {caught.value.hint}"


def folders(cache):
    return list((cache / "models").iterdir()) if (cache / "models").is_dir() else []


IDS = list(range(60))


def logits(target):
    return target.prefill(IDS, target.new_cache(64)).logits


def test_torch_computes_what_the_native_runtime_computes(write_file, cache):
    """Both with weights in bfloat16 and sums in float32: 1e-3 is far above their rounding."""
    path = write_file("BF16")
    ours, theirs = load(path), load(path, "native")
    assert ours.fingerprint == theirs.fingerprint
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-3, rtol=1e-3)
    (folder,) = folders(cache)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    load(path)
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("runtime", ["torch", "native"])
def test_a_part_of_a_split_file_is_refused_and_not_cached(write_file, cache, runtime):
    path = write_file("BF16", split__count=3, split__no=0)
    assert "is part 1 of 3 of a split GGUF file" in refused(path, runtime)
    assert "llama-gguf-split --merge" in refused(path, runtime)
    assert folders(cache) == []


BAD = [
    ({"drop": ("blk.7.ffn_norm.weight",)}, "lacks the tensor blk.7.ffn_norm.weight"),
    ({"drop": ("blk.3.attn_q.weight", "blk.3.ffn_up.weight")}, "lacks the tensors blk.3.attn_q.weight, blk.3.ffn_up"),
    ({"block_count": 7}, "has the tensors blk.7."),
    ({"extra": {"blk.0.attn_q.bias": np.ones(64, np.float32)}}, "has the tensor blk.0.attn_q.bias"),
    ({"extra": {"blk.0.post_norm.weight": np.ones(64, np.float32)}}, "has the tensor blk.0.post_norm.weight"),
    ({"expert_count": 8}, "it has the key 'llama.expert_count': 8"),
    ({"rope__scaling__yarn_ext_factor": 0.5}, "it has the key 'llama.rope.scaling.yarn_ext_factor': 0.5"),
    ({"logit_scale": 0.25}, "it has the key 'llama.logit_scale': 0.25"),
    ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, "target.runtime=native"),
    ({"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}, "target.runtime=native"),
    ({"extra": {"rope_freqs.weight": np.full(8, 2, np.float32)}}, "target.runtime=native"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_transformers_would_ignore_is_refused(write_file, cache, change, message):
    assert message in refused(write_file("BF16", **change))
    assert folders(cache) == []


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def empty_config(folder):
    (folder / "config.json").write_text("{}")


@pytest.mark.parametrize("damage", [cut, drop_a_tensor, empty_config])
def test_a_bad_cache_entry_is_made_again(write_file, cache, damage):
    path = write_file("BF16")
    first = logits(load(path))
    (folder,) = folders(cache)
    damage(folder)
    assert torch.equal(logits(load(path)), first)
    assert folders(cache) == [folder]
