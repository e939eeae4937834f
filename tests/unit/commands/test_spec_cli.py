"""`edgeai spec` as a person meets it: results, plans, errors word for word, exit codes, and JSON in every case."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edgeai.cli import main
from edgeai.commands.render import spec as spec_text
from edgeai.commands.render.reports import show_report
from edgeai.core.errors import EdgeAIError
from edgeai.core.report.plot import Line
from edgeai.spec.config.draft import TreeConfig
from edgeai.spec.config.train import GtoConfig, TrainConfig
from edgeai.spec.data.conversation import Conversation
from edgeai.spec.decoding import decode
from edgeai.spec.decoding.verify import Accepted
from edgeai.spec.evaluation.compare.report import Cell, CompareReport, Ratio, TrainingCost, TreeShape
from edgeai.spec.evaluation.diagnose_report import DiagnoseReport
from edgeai.spec.evaluation.peers.peer import PeerAnswer
from edgeai.spec.evaluation.peers.transformers_peers import TransformersPeer
from edgeai.spec.tiny import write_tiny_model
from edgeai.spec.training.plan import plan_trees
from edgeai.spec.training.train_report import PreviewToken, TrainPlan, TreePlan

PROMPT = "abcabcabcabc"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder)
    return folder


@pytest.fixture
def spec(model, tmp_path, monkeypatch, capsys):
    """spec("generate", ...): exit code, stdout and stderr on the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(verb, *args):
        code = main(["spec", verb, "-s", f"target.model={model}", "-s", "target.dtype=float32", "--device=cpu", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


# --------------------------------------------------------------------------------------------------------------------
# generate


def test_speculative_text_is_the_plain_text(spec):
    options = ["-s", "max_tokens=24", "-s", "tree.nodes=6", "--json", PROMPT]
    texts = []
    for kind in ("none", "ngram"):
        code, out, _ = spec("generate", "-s", f"draft.kind={kind}", *options)
        assert code == 0
        document = json.loads(out)
        texts.append(document["answers"][0]["text"])
    assert texts[0] == texts[1]
    assert document["drafter"].startswith("ngram")


def test_a_file_with_unusable_turns_is_read_with_a_note(spec, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"question": null}\n{"messages": [{"role": "user", "content": "hi"}]}\n')
    args = ("generate", "-f", "p.jsonl", "-s", "draft.kind=none", "-s", "max_tokens=2", "--json")
    code, out, err = spec(*args)
    assert code == 0
    (answer,) = json.loads(out)["answers"]
    assert answer["prompt"] == "hi"
    assert len(answer["ids"]) == answer["num_tokens"]
    assert "p.jsonl: skipped 1 turn without usable text, first at line 1: question is null\n" in err
    assert "skipped" not in spec(*args, "--quiet")[2]


def test_prompts_from_arguments_stdin_and_a_file(spec, tmp_path, monkeypatch):
    (tmp_path / "p.txt").write_text("from the file\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("from stdin\n"))
    code, out, _ = spec(
        "generate", "an argument", "-", "-f", "p.txt", "-s", "draft.kind=none", "-s", "max_tokens=2", "--json"
    )
    assert code == 0
    assert [answer["prompt"] for answer in json.loads(out)["answers"]] == ["an argument", "from stdin", "from the file"]


def test_answers_go_to_stdout_and_all_else_to_stderr(spec):
    code, out, err = spec("generate", "one", "two", "-s", "draft.kind=none", "-s", "max_tokens=3")
    assert code == 0
    assert out.startswith("> one\n")
    assert "\n\n> two\n" in out
    assert err.endswith("tokens/s, decoded plainly\n")


def test_quiet_prints_the_result_alone(spec):
    code, _, err = spec("generate", "one", "-s", "draft.kind=none", "-s", "max_tokens=3", "-q")
    assert (code, [line for line in err.splitlines() if line.startswith(("edgeai", "answering"))]) == (0, [])
    assert "tokens/s" not in err


# --------------------------------------------------------------------------------------------------------------------
# bench


BENCH = ["-s", "draft.kind=ngram", "-s", "tree.nodes=6", "-s", "max_tokens=24", "-s", "repeats=1", "--prompts", "p.txt"]


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "p.txt").write_text(f"{PROMPT}\n1 2 1 2 1 2 1 2\n")


def test_bench_ends_with_the_verdict(spec, prompts, tmp_path):
    code, out, _ = spec("bench", *BENCH, "--out", "r")
    assert code == 0
    assert out.splitlines()[-3:-1] == [
        "2 of 2 speculative answers equal plain ones token for token",
        "lossless: true",
    ]
    assert out.splitlines()[-1].startswith("ratio: ")
    assert json.loads((tmp_path / "r" / "report.json").read_text())["lossless"]["ok"] is True
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "done"


def test_bench_json_is_one_document(spec, prompts):
    code, out, _ = spec("bench", *BENCH, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["mode"] == "speculative"
    assert document["accept_len_definition"].startswith("tokens emitted by verify cycles / verify cycles")
    assert [cost["num_tokens"] for cost in document["cost_curve"]][:3] == [1, 2, 3]
    assert document["ratio"]["minimum"] > 0


def test_bench_that_finds_a_difference_exits_with_1(spec, prompts, tmp_path, monkeypatch):
    accept = decode.accept

    def accept_too_much(tree, logits, sampler, **options):
        found = accept(tree, logits, sampler, **options)
        if tree.size > 1 and found.num_accepted == 0 and options["limit"] > 1:
            return Accepted((0, 1), (int(tree.tokens[1]), found.tokens[0]))
        return found

    monkeypatch.setattr(decode, "accept", accept_too_much)
    code, out, _ = spec("bench", *BENCH, "--json", "--out", "r")
    assert code == 1
    assert json.loads(out)["lossless"]["ok"] is False
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "failed"
    code, out, _ = spec("bench", *BENCH)
    assert code == 1
    assert "lossless: FALSE" in out.splitlines()
    assert "the token does not follow from the logits" in out


def test_bench_with_peers(spec, prompts):
    code, out, _ = spec("bench", *BENCH, "--peers", "transformers", "--json")
    peers = json.loads(out)["peers"]
    assert code == 0
    assert [peer["name"] for peer in peers] == ["transformers generate", "transformers prompt lookup"]
    # the peer is an independent implementation: in float32 its greedy text is ours
    assert [peer["num_equal"] for peer in peers] == [2, 2]
    assert all(peer["prompt_tokens_per_s"]["minimum"] > 0 for peer in peers)
    assert [peer["num_unexplained"] for peer in peers] == [0, 0]


def test_a_peer_that_computes_something_else_is_an_alarm(spec, prompts, monkeypatch):
    answer = TransformersPeer.answer

    def other(peer, prompt_ids):
        found = answer(peer, prompt_ids)
        return replace(found, ids=(*found.ids[:5], (found.ids[5] + 1) % 200, *found.ids[6:]))

    monkeypatch.setattr(TransformersPeer, "answer", other)
    code, out, _ = spec("bench", *BENCH, "--peers", "transformers", "--json")
    assert code == 1
    assert [peer["num_unexplained"] for peer in json.loads(out)["peers"]] == [2, 2]
    code, out, _ = spec("bench", *BENCH, "--peers", "transformers")
    assert code == 1
    assert "transformers generate: 2 of 2 answers DIFFER by more than float32 rounding" in out.splitlines()


def test_bench_with_an_unknown_peer(spec, prompts):
    code, out, err = spec("bench", *BENCH, "--peers", "llama")
    assert (code, out) == (2, "")
    assert "peers.0: should be 'transformers' or 'llamacpp' (got 'llama')" in err


def test_bench_whose_peer_fails_keeps_the_report_and_exits_with_1(spec, prompts, tmp_path, monkeypatch):
    calls = []

    def answer(self, prompt_ids):
        calls.append(self.name)
        if len(calls) > 2:  # after the warm-up
            raise EdgeAIError("out of paper")
        return PeerAnswer((1, 2), 1, 0.1, len(prompt_ids), 0.1)

    monkeypatch.setattr(TransformersPeer, "answer", answer)
    code, out, err = spec("bench", *BENCH, "--peers", "transformers", "--out", "r")
    assert code == 1
    assert out.splitlines()[-1] == "transformers prompt lookup: FAILED: out of paper"
    assert "transformers generate failed and is left out: out of paper" in err
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] == "failed"
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["plain_tokens_per_s"]["median"] > 0
    assert report["failed_peers"][0] == {"name": "transformers generate", "reason": "out of paper"}


# --------------------------------------------------------------------------------------------------------------------
# Plans


@pytest.mark.parametrize("verb", ["bench", "generate"])
def test_dry_run_prints_the_config_and_starts_nothing(spec, tmp_path, verb):
    words = ["hello"] if verb == "generate" else []
    code, out, _ = spec(verb, *words, "--dry-run", "-s", "max_tokens=7")
    assert code == 0
    assert out.startswith(f"verb: spec {verb}\n")
    assert "max_tokens: 7\n" in out
    assert {"bench": "user turns ", "generate": "prompts "}[verb] in out
    assert "tokens, at most " in out
    assert list(tmp_path.iterdir()) == []
    code, out, _ = spec(verb, *words, "--dry-run", "--json")
    assert json.loads(out)["config"]["verb"] == f"spec {verb}"
    if verb == "generate":
        assert json.loads(out)["plan"] == {"num_prompts": 1, "max_tokens": 256}


def test_train_plan_marks_what_counts_in_the_loss(capsys):
    tokens = (("user: hi\n", False), ("bot:", False), (" he", True), ("llo", True), ("\n", False))
    plan = TrainPlan(
        target="tiny",
        dtype="float32",
        runtime="torch",
        aux_layers=(2, 4, 5),
        num_parameters=66_000,
        num_given_prompts=0,
        num_self_prompts=16,
        num_written_answers=0,
        max_feature_bytes=2_600_000,
        num_token_steps=120,
        num_gto_steps=40,
        trees=TreePlan(places=64.0, nodes=384.0, max_nodes=768.0, work=2.5, max_work=4.0),
        example=tuple(PreviewToken(text, in_loss) for text, in_loss in tokens),
    )
    spec_text.show_train_plan(plan, as_json=False)
    out = capsys.readouterr().out
    assert out.endswith("user: hi\nbot:>> hello<<\n\n")
    words = " ".join(out.split())
    for expected in (
        "prompts the target writes 16 at most",
        "features on disk 2.6 MB at most",
        "steps on tokens 120",
        "steps on trees 40",
        "trees per text 64",
        "nodes scored 384",
        "nodes scored, at most 768",
        "target work 2.5 tokens scored in a GTO step, relative to the tokens of the texts",
        "target work, at most 4",
    ):
        assert expected in words, expected


# --------------------------------------------------------------------------------------------------------------------
# Asked wrongly


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["generate"], "no prompt given", 'for example: edgeai spec generate "Why is the sky blue?"'),
        (["generate", " "], "a prompt is empty", "give some text"),
        (
            ["generate", "hi"],
            "no draft head is shipped for {model}",
            "train one with `edgeai spec train` and set draft.path, or use `-s draft.kind=ngram`",
        ),
        (
            ["bench", "--prompts", "none.jsonl"],
            "no data at none.jsonl",
            "give the path of a file you have, or set EDGEAI_DATA to the folder that holds it",
        ),
        (
            ["bench", "--peers", "transformers", "-s", "sampling.temperature=1", "-s", "draft.kind=ngram"],
            "peers are compared greedily, but sampling.temperature is above 0",
            "set sampling.temperature=0 or peers=[]",
        ),
        (
            ["bench", "--peers", "llamacpp", "--device", "cpu"],
            "llama.cpp runs GGUF files; {model} is not one",
            "set target.model to a .gguf file, or leave out llamacpp",
        ),
        (
            ["train", "--resume", "r"],
            "--resume takes its config and folder from the run",
            "leave out -c, -s and --out",
        ),
        (
            ["bench", "-s", "draft.path=nowhere"],
            "no draft head in nowhere",
            "give a checkpoint folder or a run directory of `edgeai spec train`",
        ),
    ],
)
def test_one_line_and_a_hint(spec, model, monkeypatch, args, message, hint):
    monkeypatch.delenv("EDGEAI_DATA", raising=False)
    message = message.format(model=model)
    code, out, err = spec(*args)
    assert (code, out) == (2, "")
    assert f"edgeai: {message}\n  hint: {hint}\n" in err
    code, out, _ = spec(*args, "--json")
    assert json.loads(out) == {"error": {"message": message, "hint": hint, "exit_code": 2}}
    assert code == 2


def test_prompt_longer_than_the_context(spec):
    code, _, err = spec("generate", "x" * 600, "-s", "draft.kind=none")
    assert code == 2
    assert re.search(
        r"edgeai: the prompt has 6\d\d tokens and the context holds 512, answer included\n"
        r"  hint: shorten the prompt, or raise `context` \(the model allows 512\)\n",
        err,
    )


def test_unknown_model(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no model")
    for name, message in (
        ("notes.txt", "notes.txt is not a model folder, a GGUF file or a Hub id"),
        ("gone.gguf", "no such GGUF file: gone.gguf"),
    ):
        assert main(["spec", "generate", "-s", f"target.model={name}", "-s", "draft.kind=none", "hi"]) == 2
        assert f"edgeai: {message}\n" in capsys.readouterr().err


def test_resume_of_no_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["spec", "train", "--resume", "gone"]) == 2
    assert capsys.readouterr().err == (
        "edgeai: gone is not a run directory: it has no readable run.json\n  hint: list them: edgeai runs list\n"
    )


# --------------------------------------------------------------------------------------------------------------------
# diagnose


def test_diagnose_table_by_hand(capsys):
    """Every number of a report, with its meaning beside it."""
    report = DiagnoseReport(
        target="tiny",
        runtime="torch",
        drafter="eagle3-1",
        tree={"nodes": 7, "depth": 2, "top_k": 4},
        temperature=0.0,
        num_prompts=3,
        num_cycles=1234,
        pruned_frac=0.25,
        same_path_frac=0.5,
        greedy_accept_len=1.5,
        tree_accept_len=2.25,
        predicted_accept_len=2.5,
        predicted=(0.9, 0.6),
        measured=(0.8, 0.45),
    )
    show_report("spec diagnose", Path("r"), report.to_json(), as_json=False)
    out = capsys.readouterr().out
    depths = ("1 90.0% 80.0%", "2 60.0% 45.0%")
    for words in ("prompts 3", "cycles 1,234", "pruned 25.0%", "same path 50.0%", "2.250", *depths):
        assert words in " ".join(out.split()), words


def test_diagnose_needs_a_head(spec):
    code, out, err = spec("diagnose")
    assert (code, out) == (2, "")
    assert "no draft head is shipped for" in err
    code, out, _ = spec("diagnose", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["plan"] == {"max_tokens": 16 * 128}
    _, out, _ = spec("diagnose", "--dry-run")
    assert out.splitlines()[-1].split() == ["tokens,", "at", "most", "2,048", "decoded", "in", "all"]


# --------------------------------------------------------------------------------------------------------------------
# compare, and the plan of trees


def test_tree_plan_by_hand():
    """Answers of 10 and 3 tokens have 9 and 2 places: two groups of 4 and none; texts of 20 and 5 tokens.

    8 places of 2 texts: 4 each, with 3 nodes 12; 12 nodes to a mean of 12.5 tokens.
    """
    texts = [Conversation("a", (0,) * 20, ((10, 20),), 0.0), Conversation("b", (0,) * 5, ((2, 5),), 0.0)]
    gto = GtoConfig(groups=3, group_size=4, tree=TreeConfig(nodes=2, depth=2, top_k=1), text_frac=0.5)
    found = plan_trees(TrainConfig(gto=gto), texts)
    assert found == TreePlan(4.0, 12.0, 24.0, pytest.approx(0.5 * 24.5 / 12.5), pytest.approx(0.5 * 36.5 / 12.5))


def test_compare_table_by_hand(capsys):
    tree = TreeShape(5, 3, 4)
    report = CompareReport(
        target="tiny",
        dtype="float32",
        runtime="torch",
        baseline="tokens",
        num_prompts={"mt": 3},
        max_tokens=24,
        heads={},
        cells=(
            Cell("mt", 0.0, tree, "tokens", {"0": 2.0, "1": 2.5}, 2.25, 2.0, 2.5, None),
            Cell("mt", 0.0, tree, "gto", {"0": 3.0, "1": 3.0}, 3.0, 3.0, 3.0, Ratio(1.35, 1.2, 1.5, 1.1, 1.6)),
            Cell("mt", 0.0, tree, "given", {"-": 2.0}, 2.0, 2.0, 2.0, Ratio(0.9, 0.9, 0.9, 0.8, 1.0)),
        ),
        costs=(TrainingCost("tokens", 1.25, 1.0), TrainingCost("gto", 2.5, 2.0)),
        curves=(Line("gto", (0.0,), (1.0,), (1.0,), (1.0,)),),
        failures={"gto-2": "the loss is not finite at step 7"},
    )
    show_report("spec compare", Path("r"), report.to_json(), as_json=False)
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "mt 0 tokens 2.250 (2.000 to 2.500) - -",
        "mt 0 gto 3.000 1.350 (1.200 to 1.500) 1.100 to 1.600",
        "mt 0 given 2.000 0.900 0.800 to 1.000",
        "tokens 1.25 s 1.000 gto 2.5 s 2.000",
        "gto-2 the loss is not finite at step 7",
    ):
        assert words in out, words


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone"], "no draft head in gone"),
        (["-s", "variants.x.set.lrr=1"], "defaults: variants.x.set: lrr: unknown key"),
        ([], "defaults: nothing to compare: set variants, or give run directories"),
        (["a", "--resume", "r"], "--resume takes its config and folder from the run"),
    ],
)
def test_compare_asked_wrongly(capsys, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    assert main(["spec", "compare", *args, "--dry-run"]) == 2
    assert f"edgeai: {message}\n" in capsys.readouterr().err
    assert main(["spec", "compare", *args, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"] == message
