"""`echo` and log probabilities of prompts, as evaluation harnesses ask for them."""

from __future__ import annotations

import httpx
import openai
import pytest
import torch

PROMPT = "once upon a time"


@pytest.fixture
def running(serve, target):
    return serve(target, prompt_chunk=3)  # the prompt is read in six parts


@pytest.fixture
def client(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(make_hf, target):
    """Log probabilities [T, V] of transformers after each token of the prompt."""
    ids = torch.tensor([target.tokenizer.encode(PROMPT)])
    with torch.no_grad():
        return make_hf()(ids).logits[0].log_softmax(-1)


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_log_probabilities_of_the_prompt(client, target, expected, max_tokens):
    ids = target.tokenizer.encode(PROMPT)
    for _ in range(2):  # the second time, the prompt is in the KV cache
        reply = client.completions.create(
            model="tiny", prompt=[ids], max_tokens=max_tokens, logprobs=1, echo=True, temperature=0, seed=1
        )
        (choice,) = reply.choices
        logprobs = choice.logprobs
        assert choice.text.startswith(PROMPT)
        assert choice.text == "".join(logprobs.tokens)
        assert len(choice.text) == len(logprobs.tokens) == len(ids) + max_tokens
        assert choice.finish_reason == "length"
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), max_tokens)
        assert logprobs.text_offset == list(range(len(choice.text)))
        assert logprobs.token_logprobs[0] is None
        assert logprobs.top_logprobs[0] is None
        found = logprobs.token_logprobs[1 : len(ids)]
        wanted = [float(expected[place, token]) for place, token in enumerate(ids[1:])]
        assert found == pytest.approx(wanted, abs=1e-4)  # float32 in another order of operations
        for place, top in enumerate(logprobs.top_logprobs[1 : len(ids)]):
            assert top == pytest.approx({chr(expected[place].argmax()): float(expected[place].max())}, abs=1e-4)


def test_the_sum_of_an_evaluation_harness(client, target, expected):
    """The formula of lm-evaluation-harness: log-likelihood of a continuation, and whether it is the greedy one."""
    ids, num_context = target.tokenizer.encode(PROMPT), 6
    choice = client.completions.create(
        model="tiny", prompt=[ids], max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1
    ).choices[0]
    tokens = choice.logprobs.token_logprobs[num_context:-1]
    tops = choice.logprobs.top_logprobs[num_context:-1]
    wanted = [float(expected[place - 1, ids[place]]) for place in range(num_context, len(ids))]
    assert sum(tokens) == pytest.approx(sum(wanted), abs=1e-3)
    is_greedy = all(int(expected[place - 1].argmax()) == ids[place] for place in range(num_context, len(ids)))
    assert all(token == max(top.values()) for token, top in zip(tokens, tops, strict=True)) == is_greedy


@pytest.mark.parametrize("stream", [False, True])
def test_echo_of_several_prompts(client, stream):
    prompts = ["ab", "once"]
    plain = client.completions.create(model="tiny", prompt=prompts, n=2, max_tokens=4, temperature=0)
    reply = client.completions.create(
        model="tiny", prompt=prompts, n=2, max_tokens=4, temperature=0, echo=True, stream=stream
    )
    texts = [""] * 4
    for chunk in reply if stream else [reply]:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    wanted = [prompts[choice.index // 2] + choice.text for choice in plain.choices]
    assert texts == wanted


def test_echo_without_generation_fills_the_context(client):
    reply = client.completions.create(model="tiny", prompt="x" * 128, max_tokens=0, echo=True)
    assert reply.choices[0].text == "x" * 128


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_tokens": 0}, "max_tokens: 0 needs echo: true"),
        ({"max_tokens": 1, "echo": 1}, "echo: Input should be a valid boolean"),
        ({"max_tokens": 1, "echo": True, "prompt": ""}, "prompt: empty text"),
    ],
)
def test_refusals(running, body, message):
    reply = httpx.post(f"{running.url}/v1/completions", json={"model": "tiny", "prompt": "hi", **body})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, message)
