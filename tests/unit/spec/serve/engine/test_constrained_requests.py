"""Requests with grammars in a batch, with everything that combines with them, against plain constrained decoding."""

from __future__ import annotations

import json

import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.constraint import ConstraintError
from edgeai.spec.constraints.grammar import GrammarCompiler, GrammarSource
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.draft.ngram import Ngram
from edgeai.spec.serve.engine.events import Failed, Text
from edgeai.spec.serve.engine.jobs import GenerationJob

pytest.importorskip("llguidance")
TREE = TreeConfig(nodes=6, depth=3, top_k=3)
SCHEMA = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 6},
        "colors": {"type": "array", "items": {"enum": ["red", "redder", "green"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["first_name", "colors"],
    "additionalProperties": False,
}
VARIANTS = [
    {},
    {"sampling": SamplingConfig(temperature=1.0, seed=3)},
    {"sampling": SamplingConfig(temperature=0.8, top_k=5, top_p=0.9, min_p=0.05, seed=4)},
    {"frequency_penalty": 1.5, "presence_penalty": -0.5},
    {"logit_bias": {40: 100.0, 70: -100.0}},
    {"stop": ("lors",)},
    {"stop_ids": frozenset({70})},
    {"num_logprobs": 3},
    {"max_tokens": 5},
    {"max_tokens": 1},
    {"grammar": None},
    {"num_logprobs": 2, "echoes": True, "sampling": SamplingConfig(temperature=1.0, seed=5)},
]


@pytest.fixture(scope="module")
def model(tiny_target):
    return tiny_target.with_aux_layers((1, 3, 5))


@pytest.fixture(scope="module")
def compiled(model):
    compiler = GrammarCompiler(model.tokenizer, model.shape.vocab_size)
    return lambda kind, text: compiler.compile(GrammarSource(kind, text))


@pytest.fixture(scope="module")
def schema(compiled):
    return compiled("json_schema", json.dumps(SCHEMA))


@pytest.fixture
def job(model, schema):
    def make(text="Hello", **changes):
        usual = {"max_tokens": 90, "sampling": SamplingConfig(), "grammar": schema}
        return GenerationJob(prompt_ids=tuple(model.tokenizer.encode(text)), **{**usual, **changes})

    return make


@pytest.mark.parametrize("kind", ["eagle3", "ngram", "none"])
def test_batches_equal_plain_decoding(model, make_engine, ask, finish, job, kind):
    jobs = [job(f"Prompt {number}", **changes) for number, changes in enumerate(VARIANTS)]
    engine = make_engine(model, kind, num_slots=5, tree=TREE)
    drafted = [ask(engine, one) for one in jobs]
    finish(engine, *drafted)
    plain_engine = make_engine(model, "none", num_slots=1)
    for one, heard in zip(jobs, drafted, strict=True):
        plain = ask(plain_engine, GenerationJob(**{**vars(one), "speculates": False}))
        finish(plain_engine, plain)
        assert plain.end.stats.num_draft_tokens == 0
        assert (heard.ids, heard.text, heard.end.reason) == (plain.ids, plain.text, plain.end.reason)
        assert [p.logprobs and p.logprobs.token for e in heard.events if isinstance(e, Text) for p in e.pieces] == [
            p.logprobs and p.logprobs.token for e in plain.events if isinstance(e, Text) for p in e.pieces
        ]
        if one.grammar and one.max_tokens > 1 and not one.stop_ids:
            assert heard.end.stats.num_accepted > 0
    assert json.loads(drafted[0].text)["first_name"] is not None


def test_the_engine_equals_decoding_alone(model, make_engine, ask, finish, job, schema):
    """The loop of `spec generate` masks in its own way, with a drafter and without."""
    engine = make_engine(model, "eagle3", tree=TREE)
    for seed, temperature in enumerate((0.0, 1.0, 1.0)):
        one = job(sampling=SamplingConfig(temperature=temperature, seed=seed))
        heard = ask(engine, one)
        finish(engine, heard)
        for drafter in (None, Ngram(max_ngram=3, min_ngram=1)):
            alone = generate_ids(
                model,
                drafter,
                one.prompt_ids,
                tree=TREE,
                sampling=one.sampling,
                max_tokens=90,
                context=128,
                grammar=schema,
            )
            assert alone.ids == heard.ids
            assert (alone.accept_len > 2) == (drafter is not None)


def test_forced_tokens_need_no_cycles_of_their_own(model, make_engine, ask, finish, job, compiled):
    text = "a text without any choice of the model"
    engine = make_engine(model, "none")
    heard = ask(engine, job(grammar=compiled("choice", json.dumps([text]))))
    engine.step()  # reads the prompt and yields the first token
    engine.step()  # the rest, and the end of the text
    assert (heard.text, heard.end.reason) == (text, "stop")
    assert heard.end.stats.num_accepted == heard.end.num_tokens - 1 == len(text)


def test_a_chain_of_forced_tokens_needs_no_drafter(model, make_engine, ask, finish, job, compiled):
    engine = make_engine(model, "eagle3", tree=TREE)
    proposed = []
    pool = engine._cycles._drafts
    propose = pool.propose
    pool.propose = lambda rows, *others: proposed.append(rows) or propose(rows, *others)
    heard = ask(engine, job(grammar=compiled("choice", '["without any choice"]')))
    finish(engine, heard)
    assert (heard.text, proposed) == ("without any choice", [])
    finish(engine, ask(engine, job(grammar=compiled("regex", "[a-z]{3}"))))
    assert proposed


def test_the_context_is_never_exceeded(model, make_engine, ask, finish, job, compiled):
    """The longest chain of forced tokens ends with the context."""
    grammar = compiled("choice", json.dumps(["x" * 300]))
    for kind in ("none", "eagle3"):
        engine = make_engine(model, kind, context=64, num_slots=1, tree=TREE)
        heard = ask(engine, job("Hi", grammar=grammar, max_tokens=62))
        finish(engine, heard)
        assert heard.text == "x" * 62
        assert heard.end.reason == "length"


class Failing:
    """Grammar that fails at its third mask, as one that exceeds a limit of the library."""

    def __init__(self, grammar):
        self._grammar = grammar

    def start(self):
        constraint, count = self._grammar.start(), 0
        mask = constraint.mask

        def failing():
            nonlocal count
            count += 1
            if count == 3:
                raise ConstraintError("too complex")
            return mask()

        constraint.mask = failing
        return constraint


def test_an_error_ends_its_own_request_only(model, make_engine, ask, finish, job, schema):
    engine = make_engine(model, "eagle3", tree=TREE)
    failing, other = ask(engine, job(grammar=Failing(schema))), ask(engine, job())
    finish(engine, failing, other)
    assert isinstance(failing.end, Failed)
    assert isinstance(failing.end.error, ConstraintError)
    assert other.end.reason == "stop"
    again = ask(engine, job())
    finish(engine, again)
    assert again.ids == other.ids
    assert engine.num_active == 0
