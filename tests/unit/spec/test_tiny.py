"""The model for smoke tests: an ordinary folder whose text is worth drafting."""

import json
import subprocess
import sys

import torch
from safetensors.torch import load_file

from edgeai.spec.data.batch_decoding import DecodeJob, decode_jobs
from edgeai.spec.data.conversation import load_conversations
from edgeai.spec.tiny import write_tiny_model


def test_it_loads_as_any_model(tiny_target):
    """Eight layers, so that the default feature layers are three different ones."""
    shape = tiny_target.shape
    assert (shape.vocab_size, shape.hidden_size, shape.num_layers, shape.max_positions) == (258, 64, 8, 512)
    assert tiny_target.aux_layers == (2, 4, 5)
    tokenizer = tiny_target.tokenizer
    for text in ("Plain words, 3 < 4.\n", "Grüße, 東京"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode(tokenizer.render([{"role": "user", "content": "hi"}], open_answer=True))
    assert ids.count(0) == 2  # <|im_start|> is one token, for the user's turn and the answer's
    assert ids.count(1) == 1
    assert tokenizer.eos_ids == {1}


def test_greedy_text_is_varied_and_sometimes_ends(tiny_target):
    """Not one token repeated, not the same text for each prompt, and printable for the most part."""
    found = []
    prompts = ("Hello", "What is the sea?", "1 + 1", "Name three birds.", "Why?", "Tell me about trees")
    jobs = []
    for n, text in enumerate(prompts):
        rendered = tiny_target.tokenizer.render([{"role": "user", "content": text}], open_answer=True)
        jobs.append(DecodeJob(n, tuple(tiny_target.tokenizer.encode(rendered)), 64, 0.0, (n,)))
    decode_jobs(tiny_target, jobs, batch=8, on_done=lambda _, new: found.append(tuple(new)))
    assert len(set(found)) >= 3
    assert all(len(set(new)) >= 10 for new in found if len(new) == 64)
    assert any(new[-1] == 1 for new in found)
    texts = [tiny_target.tokenizer.decode(new) for new in found]
    assert all(char.isprintable() or char == "\n" for text in texts for char in text)
    assert all(len(text) > 4 for text in texts)


def test_sampled_answers_end_now_and_then(tiny_answers):
    """By themselves, not at the limit of 40: neither never nor at once."""
    lengths = [c.num_answer_tokens for c in load_conversations(tiny_answers)]
    assert 2 <= sum(length < 40 for length in lengths) < len(lengths)
    assert sum(lengths) / len(lengths) > 12


def test_seed_decides_the_weights(tmp_path, tiny_folder):
    for name, seed in (("same", 0), ("other", 1)):
        write_tiny_model(tmp_path / name, seed=seed)
    weights = {name: load_file(tmp_path / name / "model.safetensors") for name in ("same", "other")}
    expected = load_file(tiny_folder / "model.safetensors")
    assert all(torch.equal(weights["same"][name], tensor) for name, tensor in expected.items())
    assert not torch.equal(weights["other"]["lm_head.weight"], expected["lm_head.weight"])


def test_written_from_the_command_line(tmp_path):
    subprocess.run([sys.executable, "-m", "edgeai.spec.tiny", str(tmp_path / "m")], check=True)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["vocab_size"] == 258
