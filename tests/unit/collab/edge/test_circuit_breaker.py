"""The circuit breaker, step by step."""

from edgeai.collab.edge.circuit_breaker import CircuitBreaker


def test_the_breaker_opens_probes_and_closes():
    breaker = CircuitBreaker(failures=2, probe_s=1.0)
    breaker.failed(0.0)
    breaker.succeeded()  # the count starts over
    breaker.failed(1.0)
    assert breaker.allows(1.1)
    breaker.failed(1.2)
    assert breaker.is_open
    assert [breaker.allows(time_s) for time_s in (1.3, 2.1, 2.2, 2.3, 3.3)] == [False, False, True, False, True]
    breaker.failed(3.4)  # a try that fails changes nothing
    assert not breaker.allows(3.5)
    breaker.succeeded()
    assert breaker.allows(3.6)
    assert breaker.num_opened == 1
