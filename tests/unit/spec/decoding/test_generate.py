import json

import pytest
import torch

from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.metrics import Metrics
from edgeai.core.run import Run
from edgeai.spec.config.draft import Eagle3Draft, NgramDraft, NoDraft, TreeConfig
from edgeai.spec.config.generate import GenerateConfig
from edgeai.spec.config.sampling import SamplingConfig
from edgeai.spec.config.target import TargetConfig
from edgeai.spec.data.prompts import Prompt
from edgeai.spec.decoding.decode import generate_ids
from edgeai.spec.decoding.generate import run_generate
from edgeai.spec.draft.build import build_drafter
from edgeai.spec.draft.checkpoint import save_head
from edgeai.spec.target.build import build_target

TREE = TreeConfig(nodes=7, depth=3, top_k=4)
PROMPTS = ["Hello there", "To be, or not", "abcabcabc"]


@pytest.fixture(scope="module")
def model(tiny_folder):
    return TargetConfig(model=str(tiny_folder), dtype="float32")


@pytest.fixture(scope="module")
def head_folder(model, make_head, tmp_path_factory):
    target = build_target(model, device="cpu", metrics=Metrics(None))
    folder = tmp_path_factory.mktemp("head") / "best"
    save_head(folder, make_head(target, draft_vocab=200), target, {})
    return folder


def generate(tmp_path, prompts=PROMPTS, on_text=None, **fields):
    cfg = GenerateConfig(**{"max_tokens": 24, "context": 200, "tree": TREE, **fields})
    run = Run.create(cfg, out=tmp_path, argv=[], device="cpu", device_why="test")
    return run_generate(cfg, run, prompts, on_text=on_text)


def test_every_drafter_gives_the_same_answers(model, head_folder, tmp_path):
    plain = generate(tmp_path / "a", target=model, draft=NoDraft())
    ngram = generate(tmp_path / "b", target=model, draft=NgramDraft())
    eagle = generate(tmp_path / "c", target=model, draft=Eagle3Draft(path=head_folder))
    texts = [[answer.ids for answer in report.answers] for report in (plain, ngram, eagle)]
    assert texts[0] == texts[1] == texts[2]
    assert [report.drafter.split("-")[0] for report in (plain, ngram, eagle)] == ["none", "ngram", "eagle3"]
    assert (plain.tree, ngram.tree) == (None, TREE)
    assert plain.accept_len == 1.0
    document = json.loads(json.dumps(ngram.to_json()))
    assert document["num_tokens"] == sum(answer["num_tokens"] for answer in document["answers"]) > 3
    assert [answer["prompt"] for answer in document["answers"]] == PROMPTS


def test_streamed_text_is_the_answer(model, tmp_path):
    pieces: dict[int, str] = {}

    def on_text(number: int, text: str) -> None:
        pieces[number] = pieces.get(number, "") + text

    sampling = SamplingConfig(temperature=1.0, seed=3)
    report = generate(tmp_path / "a", target=model, draft=NgramDraft(), sampling=sampling, on_text=on_text)
    for number, answer in enumerate(report.answers):
        # bytes of a random model are mostly no characters; those at the very end are still held back
        assert pieces.get(number, "") == answer.text[: len(pieces.get(number, ""))]
        assert answer.text[len(pieces.get(number, "")) :].count("\ufffd") >= (pieces.get(number) != answer.text)


def test_system_prompts(model, tmp_path):
    """A prompt's own system prompt wins over the one of the config; both reach the chat template."""
    given = [Prompt("p:1", "p", ("hi", "second turn"), system="mine"), "hi"]
    report = generate(tmp_path / "a", given, target=model, draft=NoDraft(), system="default")
    target = build_target(model, device="cpu", metrics=Metrics(None))
    for answer, system in zip(report.answers, ("mine", "default"), strict=True):
        chat = [{"role": "system", "content": system}, {"role": "user", "content": "hi"}]
        ids = target.tokenizer.encode(target.tokenizer.render(chat, open_answer=True))
        wanted = generate_ids(target, None, ids, tree=TREE, sampling=SamplingConfig(), max_tokens=24, context=200)
        assert answer.num_prompt_tokens == len(ids)
        assert answer.ids == wanted.ids
    assert [answer["prompt"] for answer in report.to_json()["answers"]] == ["hi", "hi"]
    assert [tuple(answer["ids"]) for answer in report.to_json()["answers"]] == [a.ids for a in report.answers]


def test_auto_decodes_plainly_where_nothing_is_accepted(model, head_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_CACHE", str(tmp_path / "cache"))
    report = generate(tmp_path / "a", target=model, draft=Eagle3Draft(path=head_folder), tree="auto")
    assert report.choice is not None
    assert (report.drafter == "none") == (report.choice.tree is None)
    assert report.choice.why in (tmp_path / "a" / "log.txt").read_text()


def test_a_long_prompt_is_refused_before_anything_is_generated(model, tmp_path):
    seen = []
    with pytest.raises(UsageError, match=r"the prompt has \d+ tokens and the context holds 200, answer included"):
        generate(
            tmp_path / "a", ["hi", "x" * 300], target=model, draft=NoDraft(), on_text=lambda *text: seen.append(text)
        )
    assert not seen


def test_no_head(model, tmp_path):
    with pytest.raises(UsageError) as error:
        generate(tmp_path / "a", target=model)
    assert error.value.message == f"no draft head is shipped for {model.model}"
    with pytest.raises(EdgeAIError, match="no draft head in"):
        generate(tmp_path / "b", target=model, draft=Eagle3Draft(path=tmp_path))


def test_a_head_brings_its_feature_layers_and_its_name(model, make_head, tmp_path):
    target = build_target(model, device="cpu", metrics=Metrics(None), aux_layers=(1, 3, 6))
    names = set()
    for seed in (0, 1):
        save_head(tmp_path / str(seed), make_head(target, draft_vocab=50, seed=seed), target, {})
        fresh = build_target(model, device="cpu", metrics=Metrics(None))
        drafter = build_drafter(Eagle3Draft(path=tmp_path / str(seed)), fresh, Metrics(None))
        assert drafter.aux_layers == (1, 3, 6)
        assert fresh.aux_layers == (2, 4, 5)  # as before: another drafter may share the target
        names.add(drafter.name)
    assert len(names) == 2
    assert not torch.is_inference_mode_enabled()


class TestJsonSchema:
    SCHEMA = json.dumps({"enum": [{"color": "red"}, {"color": "green"}]})

    @pytest.fixture(autouse=True)
    def needs_library(self):
        pytest.importorskip("llguidance")

    def test_answers_follow_the_schema(self, model, tmp_path):
        file = tmp_path / "schema.json"
        file.write_text(self.SCHEMA)
        for draft in (NoDraft(), NgramDraft()):
            report = generate(tmp_path / draft.kind, target=model, draft=draft, json_schema=file)
            assert {answer.text for answer in report.answers} <= {'{"color": "red"}', '{"color": "green"}'}
            assert all(answer.finish_reason == "stop" for answer in report.answers)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "json_schema: cannot read {}: No such file or directory"),
            (b"\xff", "json_schema: cannot read {}: not UTF-8"),
            (b"[]", "json_schema: a JSON schema is an object or a boolean"),
            (b'{"type": "strng"}', "json_schema: Invalid type: strng"),
        ],
    )
    def test_errors(self, model, tmp_path, content, message):
        file = tmp_path / "schema.json"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UsageError) as error:
            generate(tmp_path / "run", target=model, json_schema=file)
        assert error.value.message == message.format(file)
