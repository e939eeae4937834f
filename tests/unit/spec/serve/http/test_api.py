"""OpenAI's client against a running server; texts equal plain decoding of the same prompt."""

from __future__ import annotations

import json

import openai
import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.target.loading import read_tokenizer
from edgeai.spec.tiny import write_tiny_model

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "u:hello\na:"  # after the byte tokenizer's chat template


def plain_ids(target, text, max_tokens, **sampling):
    ids = target.tokenizer.encode(text)
    sampling = SamplingConfig(**sampling)
    return generate_ids(target, None, ids, tree=TreeConfig(), sampling=sampling, max_tokens=max_tokens, context=128).ids


def text_of(target, ids):
    return target.tokenizer.decode(ids)


def tiny_vocab_size(folder):
    return json.loads((folder / "config.json").read_text())["vocab_size"]


@pytest.fixture
def running(serve, target):
    return serve(target)


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat(client, target):
    ids = plain_ids(target, CHAT, 24)
    reply = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_completion_tokens=24)
    (choice,) = reply.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == text_of(target, ids)
    assert choice.finish_reason == "length"
    assert reply.object == "chat.completion"
    assert reply.model == "tiny"
    assert reply.id.startswith("chatcmpl-")
    assert reply.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": len(CHAT),
        "completion_tokens": 24,
        "total_tokens": len(CHAT) + 24,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_metrics_of_a_request_have_the_names_of_vllm(client):
    reply = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_tokens=24)
    stats = reply.metrics["speculative_decoding"]
    steps = sum(stats["acceptance_histogram"].values())
    accepted = sum(int(count) * steps for count, steps in stats["acceptance_histogram"].items())
    assert stats == {
        "mean_acceptance_length": pytest.approx(1 + accepted / steps),
        "draft_acceptance_rate": pytest.approx(accepted / stats["num_draft_tokens"]),
        "acceptance_histogram": stats["acceptance_histogram"],
        "num_spec_steps": steps,
        "num_accepted_draft_tokens": accepted,
        "num_draft_tokens": stats["num_draft_tokens"],
        "num_spec_tokens": 6,
    }
    assert steps + accepted + 1 <= 24 <= steps + accepted + 3  # the first token, and perhaps a last without a draft
    off = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=24, extra_body={"speculative": "off"}
    )
    assert off.metrics["speculative_decoding"] is None
    assert off.choices[0].message.content == reply.choices[0].message.content


def test_stream(client, target):
    ids = plain_ids(target, CHAT, 24)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            temperature=0,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert len(middle) > 3
    assert "".join(chunk.choices[0].delta.content for chunk in middle) == text_of(target, ids)
    assert {chunk.choices[0].finish_reason for chunk in middle} == {None}
    assert last.choices[0].finish_reason == "length"
    assert last.choices[0].delta.content is None
    assert usage.choices == []
    assert usage.usage.completion_tokens == 24
    assert usage.usage.prompt_tokens == len(CHAT)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def test_a_stream_marks_draft_tokens_on_request(client, target):
    ids = plain_ids(target, CHAT, 24)
    stream = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        temperature=0,
        max_tokens=24,
        stream=True,
        extra_body={"stream_options": {"include_speculation": True}},
    )
    told = [chunk.speculation for chunk in stream if hasattr(chunk, "speculation")]
    pieces = [piece for part in told for piece in part["pieces"]]
    assert "".join(piece["text"] for piece in pieces) == text_of(target, ids)
    assert len(pieces) == 24
    assert sum(piece["is_draft"] for piece in pieces) == sum(part["num_accepted"] for part in told)


def test_completion_of_text_and_of_token_ids(client, target):
    ids = plain_ids(target, "once upon", 16)
    for prompt in ("once upon", target.tokenizer.encode("once upon")):
        reply = client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=16)
        assert reply.choices[0].text == text_of(target, ids)
        assert reply.object == "text_completion"
    chunks = list(
        client.completions.create(model="tiny", prompt="once upon", temperature=0, max_tokens=16, stream=True)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == text_of(target, ids)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"


def test_several_prompts_with_several_answers(client, target):
    reply = client.completions.create(model="tiny", prompt=["ab", "xyz"], n=2, temperature=0, max_tokens=8)
    texts = [text_of(target, plain_ids(target, prompt, 8)) for prompt in ("ab", "ab", "xyz", "xyz")]
    assert [choice.text for choice in reply.choices] == texts
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.usage.prompt_tokens == 5
    assert reply.usage.completion_tokens == 32
    assert reply.metrics is None


def test_stop(client, target):
    whole = text_of(target, plain_ids(target, CHAT, 60))
    stop = whole[9:12]
    for stream in (False, True):
        reply = client.chat.completions.create(
            model="tiny", messages=HELLO, temperature=0, max_tokens=60, stop=[stop, "\x01never"], stream=stream
        )
        if stream:
            chunks = list(reply)
            text = "".join(c.choices[0].delta.content or "" for c in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = reply.choices[0].message.content, reply.choices[0].finish_reason
        assert text == whole[: whole.find(stop)]
        assert reason == "stop"


def test_n_and_seed(client, target):
    def ask(**changes):
        changes = {"temperature": 1.0, "seed": 7, "max_tokens": 16, **changes}
        return client.chat.completions.create(model="tiny", messages=HELLO, **changes)

    one, three = ask(), ask(n=3)
    assert one.choices[0].message.content == text_of(target, plain_ids(target, CHAT, 16, temperature=1.0, seed=7))
    texts = [choice.message.content for choice in three.choices]
    assert texts[0] == one.choices[0].message.content
    assert len(set(texts)) == 3
    assert [choice.message.content for choice in ask(n=3).choices] == texts
    assert three.usage.completion_tokens >= 3
    stream = ask(n=3, stream=True)
    streamed = {0: "", 1: "", 2: ""}
    for chunk in stream:
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert [streamed[index] for index in range(3)] == texts


def test_logprobs(client):
    reply = client.chat.completions.create(
        model="tiny", messages=HELLO, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    entries = reply.choices[0].logprobs.content
    assert "".join(entry.token for entry in entries) == reply.choices[0].message.content
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token  # greedy
        assert entry.top_logprobs[0].logprob == entry.logprob
        assert bytes(entry.bytes).decode() == entry.token
    old = client.completions.create(model="tiny", prompt=CHAT, temperature=0, max_tokens=6, logprobs=2)
    logprobs = old.choices[0].logprobs
    assert logprobs.tokens == [entry.token for entry in entries]
    assert logprobs.token_logprobs == pytest.approx([entry.logprob for entry in entries], abs=1e-4)
    assert logprobs.text_offset == list(range(6))
    assert [len(top) for top in logprobs.top_logprobs] == [2] * 6


@pytest.mark.parametrize("speculative", ["auto", "off"])
def test_logprobs_of_partial_characters(serve, make_hf, make_target, tmp_path, speculative):
    """Four tokens, each a byte of one emoji, are the whole answer."""
    write_tiny_model(tmp_path)
    target = make_target(make_hf(vocab_size=tiny_vocab_size(tmp_path), seed=2))
    target.tokenizer = read_tokenizer(tmp_path, "tiny")[0]
    ids = target.tokenizer.encode("🙂")
    byte_of = dict(zip(ids, "🙂".encode(), strict=True))
    asked = {"model": "tiny", "max_tokens": 60, "temperature": 2.0, "seed": 5, "logit_bias": dict.fromkeys(ids, 100)}
    asked["extra_body"] = {"speculative": speculative}
    with openai.OpenAI(base_url=f"{serve(target).url}/v1", api_key="none", max_retries=0) as client:
        chat = client.chat.completions.create(**asked, messages=HELLO, logprobs=True, top_logprobs=20)
        prompt = target.tokenizer.render(HELLO, open_answer=True)
        text = client.completions.create(**asked, prompt=prompt, logprobs=20)
    (choice,), (old,) = chat.choices, text.choices
    entries = choice.logprobs.content
    assert len(entries) == 60
    raw = b"".join(bytes(entry.bytes) for entry in entries)
    assert {byte for entry in entries for byte in entry.bytes} == set(byte_of.values())
    assert raw.decode(errors="replace") == choice.message.content == old.text
    assert [entry.token for entry in entries] == [f"\\x{byte:02x}" for byte in raw]
    assert old.logprobs.tokens == [f"bytes:\\x{byte:02x}" for byte in raw]
    assert [len(top) for top in old.logprobs.top_logprobs] == [20] * 60
    for new, top in zip(entries, old.logprobs.top_logprobs, strict=True):
        assert list(top.values()) == pytest.approx([entry.logprob for entry in new.top_logprobs], abs=1e-4)


@pytest.mark.parametrize("stream", [False, True])
def test_stop_token_ids_and_token_ids(client, target, stream):
    ids = plain_ids(target, CHAT, 24)
    stop = ids[9]
    wanted = ids[: ids.index(stop) + 1]
    extra = {"stop_token_ids": [stop], "return_token_ids": True}
    asked = {"model": "tiny", "temperature": 0, "max_tokens": 24, "extra_body": extra, "stream": stream}
    chat = client.chat.completions.create(messages=HELLO, **asked)
    text = client.completions.create(prompt=[list(CHAT.encode()), list(CHAT.encode())], n=2, **asked)
    prompt_ids = target.tokenizer.encode(CHAT)
    if stream:
        first, *chunks = chat
        assert first.prompt_token_ids == prompt_ids
        found = [token for chunk in chunks[:-1] for token in chunk.choices[0].token_ids]
        assert tuple(found) == wanted
        assert chunks[-1].choices[0].finish_reason == "stop"
        parts = [chunk.choices[0].model_dump() for chunk in text]
        for index in range(4):
            mine = [part for part in parts if part["index"] == index]
            assert mine[0]["prompt_token_ids"] == prompt_ids
            assert not any("prompt_token_ids" in part for part in mine[1:])
            assert tuple(token for part in mine for token in part.get("token_ids", ())) == wanted
    else:
        assert chat.prompt_token_ids == prompt_ids
        assert tuple(chat.choices[0].token_ids) == wanted
        assert chat.choices[0].finish_reason == "stop"
        assert chat.choices[0].message.content == text_of(target, wanted)
        assert chat.usage.completion_tokens == len(wanted)
        assert [choice.prompt_token_ids for choice in text.choices] == [prompt_ids] * 4
        assert [tuple(choice.token_ids) for choice in text.choices] == [wanted] * 4


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "edgeai"


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "no such model; this server serves 'tiny'"),
        ({"messages": []}, openai.BadRequestError, "messages: List should have at least 1 item"),
        (
            {"messages": [{"role": "user", "content": "x" * 200}]},
            openai.BadRequestError,
            "This model's maximum context length is 128 tokens. However, your messages resulted in 205 tokens.",
        ),
        (
            {"max_tokens": 500},
            openai.BadRequestError,
            "you requested 510 tokens (10 in the messages, 500 in the completion)",
        ),
        ({"temperature": 3.0}, openai.BadRequestError, "temperature: Input should be less than or equal to 2"),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature: Input should be a valid number"),
        ({"n": 100}, openai.BadRequestError, "n: Input should be less than or equal to 16"),
        ({"stop": [""]}, openai.BadRequestError, "stop: empty stop text"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs needs logprobs: true"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            "tools: this model's chat template has no tools in a known format",
        ),
        ({"extra_body": {"temprature": 0}}, openai.BadRequestError, "unrecognized request argument: temprature"),
        (
            {"extra_body": {"stop_token_ids": [128]}},
            openai.BadRequestError,
            "stop_token_ids: token ids must be between 0 and 127",
        ),
        ({"logit_bias": {"999": 1}}, openai.BadRequestError, "logit_bias: token ids must be between 0 and 127"),
        (
            {"extra_body": {"speculative": "maybe"}},
            openai.BadRequestError,
            "speculative: Input should be 'auto' or 'off'",
        ),
    ],
)
def test_errors_are_those_of_openai(client, changes, error, text):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"model": "tiny", "messages": HELLO, **changes})
    assert text in caught.value.body["message"]
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_the_api_key_protects_the_api_but_not_the_health_check(serve, target):
    import httpx

    running = serve(target, api_key="s3cret")
    with pytest.raises(openai.AuthenticationError, match="wrong or missing API key"):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="guess", max_retries=0).models.list()
    assert openai.OpenAI(base_url=f"{running.url}/v1", api_key="s3cret").models.list().data[0].id == "tiny"
    assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{running.url}/v1/models").status_code == 401
