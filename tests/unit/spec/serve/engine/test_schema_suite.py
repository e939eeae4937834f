"""200 JSON schemas on the tiny random model: finished answers are valid, and equal to those of plain decoding."""

from __future__ import annotations

import json

import jsonschema
import pytest

from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.constraints.grammar import GrammarCompiler, GrammarSource
from edgeai.spec.serve.engine.jobs import GenerationJob

from .schemas import SCHEMAS

pytest.importorskip("llguidance")
TREE = TreeConfig(nodes=12, depth=4, top_k=4)
TEMPERATURES = (0.0, 1.0)


@pytest.fixture(scope="module")
def model(tiny_target):
    return tiny_target.with_aux_layers((1, 3, 5))


@pytest.fixture(scope="module")
def compiler(model):
    return GrammarCompiler(model.tokenizer, model.shape.vocab_size)


@pytest.fixture
def answer_all(model, compiler, make_engine, ask, finish):
    """answer_all(schemas, kind): tokens and statistics of checked answers: valid, and equal to plain decoding."""

    def run(schemas, kind):
        # a random model would write text without end
        ending = {model.tokenizer.encode(char)[0]: 3.0 for char in '"}]'}
        jobs = [
            GenerationJob(
                prompt_ids=tuple(model.tokenizer.encode(f"Answer {number}")),
                max_tokens=300,
                sampling=SamplingConfig(temperature=TEMPERATURES[number % 2], seed=number),
                logit_bias=ending,
                frequency_penalty=0.2,
                grammar=compiler.compile(GrammarSource("json_schema", json.dumps(schema))),
                speculates=speculates,
            )
            for number, schema in enumerate(schemas)
            for speculates in (True, False)
        ]
        engine = make_engine(model, kind, context=330, num_slots=8, queue=2 * len(schemas), tree=TREE)
        heard = [ask(engine, job) for job in jobs]
        finish(engine, *heard, limit=50_000)
        ended = 0
        for number, schema in enumerate(schemas):
            drafted, plain = heard[2 * number : 2 * number + 2]
            assert (drafted.ids, drafted.end.reason) == (plain.ids, plain.end.reason), schema
            assert plain.end.stats.num_draft_tokens == 0
            if plain.end.reason == "stop":
                ended += 1
                jsonschema.validate(
                    json.loads(drafted.text),
                    schema,
                    jsonschema.Draft202012Validator,
                    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
                )
        assert ended >= 0.95 * len(schemas)
        return [(one.end.num_tokens, one.end.stats) for one in heard[::2]]

    return run


@pytest.mark.parametrize("kind", ["eagle3", "none"])
def test_some_schemas(answer_all, kind):
    answers = answer_all(SCHEMAS[3::25], kind)
    assert sum(stats.num_accepted for _, stats in answers) > 0.2 * sum(tokens for tokens, _ in answers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eagle3", "ngram", "none"])
def test_all_schemas(answer_all, kind):
    assert len(SCHEMAS) == 200
    answer_all(SCHEMAS, kind)
