"""schemathesis against the server's OpenAPI description: no response has status 500, and no slot is lost."""

from __future__ import annotations

import json
import warnings

import httpx
import pytest

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

pytestmark = pytest.mark.slow


def test_random_requests(serve, target):
    running = serve(target, num_slots=4, context=40)
    schema = schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json").json())
    statuses: set[int] = set()
    addresses: set[str] = set()

    @hypothesis.settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema.as_strategy())
    def fuzz(case):
        reply = case.call(base_url=running.url, timeout=60)
        statuses.add(reply.status_code)
        addresses.add(case.operation.path)
        assert reply.status_code < 500, (case.as_curl_command(), reply.text)
        if reply.status_code >= 400:
            assert set(json.loads(reply.content)["error"]) == {"message", "type", "param", "code"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/"} <= addresses
    assert {200, 400, 404} <= statuses
    assert running.idle()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_random_requests_with_the_right_model(serve, target, path):
    """Requests generated from the schema alone fail the check of the model's name."""
    running = serve(target, num_slots=4, context=40)
    schema = schemathesis.openapi.from_dict(httpx.get(f"{running.url}/openapi.json").json())
    statuses: set[int] = set()

    @hypothesis.settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema[path]["POST"].as_strategy())
    def fuzz(case):
        hypothesis.assume(isinstance(case.body, dict))
        case.body["model"] = "tiny"
        reply = case.call(base_url=running.url, timeout=60)
        statuses.add(reply.status_code)
        assert reply.status_code < 500, (case.as_curl_command(), reply.text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz()
    assert 200 in statuses
    assert running.idle()
