"""Tokenizers that add BOS: raw text gets it as transformers gives it, rendered chats have it once."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from edgeai.core.errors import UsageError
from edgeai.core.metrics import Metrics
from edgeai.spec.config.generate import GenerateConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.training_prompts import opening_ids
from edgeai.spec.decoding.generate import answer_prompts, chat_ids
from edgeai.spec.serve.http.jobs.request_jobs import chat_jobs, completion_jobs
from edgeai.spec.serve.http.jobs.served_model import ServedModel
from edgeai.spec.serve.http.request_schema import ChatRequest, CompletionRequest
from edgeai.spec.target.build import build_target
from edgeai.spec.target.loading import ChatTokenizer
from edgeai.spec.target.saved_tokenizer import SavedTokenizer, read_saved, save
from edgeai.spec.tiny import write_tiny_model

BOS = 0
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"


@pytest.fixture(params=["transformers", "saved"])
def read(request, tmp_path):
    """read(template, adds_bos=True): the tiny model's tokenizer, changed."""

    def make(template, adds_bos=True):
        folder = tmp_path / "tiny"
        write_tiny_model(folder)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
        if adds_bos:
            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
            backend.post_processor = TemplateProcessing(
                single="<|im_start|> $A", special_tokens=[("<|im_start|>", BOS)]
            )
            backend.save(str(folder / "tokenizer.json"))
        theirs = AutoTokenizer.from_pretrained(folder)
        chat = ChatTokenizer(theirs, frozenset({1}))
        if request.param == "transformers":
            return chat, theirs
        save(folder, chat, theirs)
        found = read_saved(folder)
        assert isinstance(found, SavedTokenizer)
        return found, theirs

    return make


def served(tokenizer):
    return ServedModel("tiny", "", tokenizer, 258, 512)


def test_raw_text_gets_what_the_tokenizer_adds(read):
    tokenizer, theirs = read(TEMPLATE)
    ids = tokenizer.encode_raw("Hello")
    assert ids == theirs.encode("Hello")
    assert ids == [BOS, *tokenizer.encode("Hello")]
    (job,) = completion_jobs(served(tokenizer), CompletionRequest(model="tiny", prompt="Hello"))
    assert list(job.prompt_ids) == ids
    assert tokenizer.encode_raw("<|im_start|>Hello") == ids  # a text that begins with it does not get it twice


def test_a_template_has_it_once(read):
    tokenizer, theirs = read(TEMPLATE)
    messages = [{"role": "user", "content": "Hello"}]
    ids = chat_ids(tokenizer, "Hello")
    assert ids == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ids.count(BOS) == 1
    (job,) = chat_jobs(served(tokenizer), ChatRequest(model="tiny", messages=messages))
    assert list(job.prompt_ids) == ids
    assert list(opening_ids(tokenizer)) == [BOS, *tokenizer.encode("[")]


def test_without_a_template_chats_are_raw_text(read):
    tokenizer, theirs = read(None)
    assert chat_ids(tokenizer, "Hello") == theirs.encode("Hello\n\n")
    assert list(opening_ids(tokenizer)) == [BOS]


def test_a_tokenizer_that_adds_nothing_adds_nothing(read):
    tokenizer, _ = read(None, adds_bos=False)
    assert tokenizer.encode_raw("aab") == tokenizer.encode("aab")
    with pytest.raises(UsageError, match="has no chat template, so it cannot write prompts"):
        opening_ids(tokenizer)


def test_the_loaded_target_adds_it(tmp_path):
    write_tiny_model(tmp_path)
    target = build_target(TargetConfig(model=str(tmp_path), dtype="float32"), device="cpu", metrics=Metrics(None))
    assert target.tokenizer.encode_raw("Hello") == AutoTokenizer.from_pretrained(tmp_path).encode("Hello")


def test_a_tokenizer_larger_than_the_embedding_is_named(tmp_path):
    """Its additional tokens have no embedding: neither noise nor a traceback."""
    write_tiny_model(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|more|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    target = build_target(TargetConfig(model=str(tmp_path), dtype="float32"), device="cpu", metrics=Metrics(None))
    answer_prompts(GenerateConfig(max_tokens=2), target, None, ["Hello"], metrics=Metrics(None))
    with pytest.raises(UsageError) as caught:
        answer_prompts(GenerateConfig(max_tokens=2), target, None, ["Hello <|more|>"], metrics=Metrics(None))
    assert caught.value.message == (
        f"the prompt holds the token '<|more|>' (258), but the embedding of {tmp_path} has 258 tokens"
    )
