"""The Python API: what it exports, that calls are silent, and how wrong input is answered."""

import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pydantic
import pytest

import edgeai
from edgeai import EdgeAIError, Progress, UsageError, collab, fedsplit, spec
from edgeai.core.run import Run
from edgeai.spec.tiny import write_tiny_model

AREAS = (spec, collab, fedsplit)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def target(model):
    return spec.load_target(model, dtype="float32", device="cpu")


@pytest.fixture(autouse=True)
def no_output(capfd):
    """Every call of this file prints nothing."""
    yield
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


class TestSurface:
    @pytest.mark.parametrize("area", AREAS, ids=lambda area: area.__name__)
    def test_all_names_exist_and_are_listed(self, area):
        assert area.__all__ == dir(area)
        for name in area.__all__:
            assert getattr(area, name).__name__ == name

    @pytest.mark.parametrize("area", AREAS, ids=lambda area: area.__name__)
    def test_no_name_is_hidden_by_a_submodule(self, area):
        assert not {module.name for module in pkgutil.iter_modules(area.__path__)} & set(area.__all__)

    @pytest.mark.parametrize("area", AREAS, ids=lambda area: area.__name__)
    def test_functions_are_documented(self, area):
        for name in area.__all__:
            function = getattr(area, name)
            if not inspect.isfunction(function):
                assert function.__doc__, name
                continue
            parameters = inspect.signature(function).parameters
            missing = [parameter for parameter in parameters if f"        {parameter}: " not in function.__doc__]
            assert not missing, name
            assert "Returns:" in function.__doc__, name
            assert "Examples:" in function.__doc__, name
            assert ("Raises:" in function.__doc__) == (name != "verify"), name

    def test_unknown_name(self):
        with pytest.raises(AttributeError, match=r"^module 'edgeai\.spec' has no attribute 'genrate'$"):
            spec.genrate  # noqa: B018

    def test_package_is_typed(self):
        assert (Path(edgeai.__file__).parent / "py.typed").is_file()


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


class TestImport:
    def test_loads_neither_torch_nor_pydantic(self):
        code = """
            import sys
            import edgeai
            from edgeai import collab, fedsplit, spec
            dir(spec)
            print(sorted({"torch", "pydantic", "numpy", "typer", "rich"} & set(sys.modules)))
        """
        assert run_python(inspect.cleandoc(code)) == "[]\n"

    def test_help_and_configs_load_no_torch(self):
        code = """
            import pydoc, sys
            from edgeai import collab, fedsplit, spec
            text = pydoc.render_doc(spec.generate, renderer=pydoc.plaintext)
            spec.TrainConfig(), collab.CollabRunConfig(), fedsplit.SimConfig()
            print("torch" in sys.modules, "Raises:" in text)
        """
        assert run_python(inspect.cleandoc(code)) == "False True\n"

    def test_helper_reads_the_typed_imports(self, tmp_path, monkeypatch):
        package = tmp_path / "somepackage"
        package.mkdir()
        (package / "__init__.py").write_text(
            "from typing import TYPE_CHECKING\n"
            "from edgeai.core.python_api.lazy_names import lazy_names\n"
            "if TYPE_CHECKING:\n    from somepackage.inner import value\n"
            "else:\n    __getattr__, __dir__ = lazy_names(__name__, __file__)\n"
        )
        (package / "inner.py").write_text("value = object()\nhidden = 1\n")
        monkeypatch.syspath_prepend(tmp_path)
        module = importlib.import_module("somepackage")
        assert dir(module) == ["value"]
        assert module.value is module.value is importlib.import_module("somepackage.inner").value
        with pytest.raises(AttributeError):
            module.hidden  # noqa: B018


class TestSpec:
    def test_generate_equals_plain_decoding(self, target):
        plain = spec.generate(target, ["Hello", "World"], draft="none", max_tokens=24)
        tree = spec.TreeConfig(nodes=4, depth=2, top_k=2)
        drafted = spec.generate(
            target, ["Hello", "World"], draft=spec.NgramDraft(max_ngram=2), tree=tree, max_tokens=24
        )
        assert [answer.ids for answer in drafted.answers] == [answer.ids for answer in plain.answers]
        assert plain.drafter == "none"
        assert drafted.tree == tree
        assert isinstance(drafted, spec.GenerateReport)
        assert all(isinstance(answer, spec.Generation) for answer in drafted.answers)

    def test_one_prompt_may_be_a_string(self, target):
        (answer,) = spec.generate(target, "Hello", draft="none", max_tokens=4).answers
        assert answer.text == spec.generate(target, ["Hello"], draft="none", max_tokens=4).answers[0].text

    def test_sampling_follows_the_seed(self, target):
        first, again, other = (
            spec.generate(target, "Hello", draft="none", max_tokens=24, temperature=1.0, seed=seed).answers[0].ids
            for seed in (1, 1, 2)
        )
        assert first == again != other

    def test_callbacks(self, target):
        pieces, events = [], []
        report = spec.generate(
            target,
            ["Hello", "World"],
            draft="none",
            max_tokens=8,
            on_text=lambda number, text: pieces.append((number, text)),
            on_progress=events.append,
        )
        for number, answer in enumerate(report.answers):
            assert "".join(text for index, text in pieces if index == number) == answer.text
        assert events[-1] == Progress("answering", 2, 2, "prompt", {})

    def test_train_then_use_the_head(self, model, target, tmp_path):
        events = []
        overrides = {
            "target.model": model,
            "data.self_prompt": 0,
            "data.prompts": [Path(spec.__file__).parent / "data" / "prompts_builtin.txt"],
            "data.max_prompts": 12,
            "max_steps": 2,
        }
        report = spec.train(
            "spec/smoke", overrides=overrides, out=tmp_path / "run", device="cpu", on_progress=events.append
        )
        assert report.num_steps == 2
        assert any(event.task == "train" for event in events)
        run = Run.open(tmp_path / "run")
        assert (run.status, run.info["argv"], run.report()["num_steps"]) == ("done", ["edgeai.spec.train"], 2)
        head = spec.load_head(report.head, target)
        tree = spec.TreeConfig(nodes=4, depth=2, top_k=2)
        drafted = spec.generate(target, "Hello", draft=head, tree=tree, max_tokens=16)
        assert drafted.drafter.startswith("eagle3-")
        assert drafted.answers[0].ids == spec.generate(target, "Hello", draft="none", max_tokens=16).answers[0].ids
        again = spec.train(out=tmp_path / "run", resume=True, device="cpu")
        assert again.step_accuracy == report.step_accuracy

    def test_bench(self, model):
        overrides = {
            "target": {"model": str(model), "dtype": "float32"},
            "draft": {"kind": "ngram"},
            "tree": {"nodes": 2, "depth": 2, "top_k": 1},
            "max_prompts": 1,
            "max_tokens": 8,
            "repeats": 1,
        }
        report = spec.bench(overrides=overrides, device="cpu")
        assert report.mode == "speculative"
        assert report.lossless is not None
        assert report.lossless.ok


class TestCollab:
    def test_run(self):
        events = []
        report = collab.run("collab/smoke", overrides={"stream.source.num_frames": 12}, on_progress=events.append)
        assert report.num_frames == 12
        assert report.strategy == "laecips"
        assert [event.done for event in events] == list(range(1, 13))
        assert events[-1].task == "play"

    def test_run_directory_and_config_object(self, tmp_path):
        config = collab.CollabRunConfig.model_validate(
            {
                "strategy": "edge-only",
                "stream": {"source": {"kind": "street", "height": 64, "width": 96, "num_frames": 4}},
            }
        )
        report = collab.run(config, overrides={"probe_frames": 0, "shadow_cloud": False}, out=tmp_path / "run")
        assert Run.open(tmp_path / "run").report()["num_frames"] == report.num_frames == 4
        assert len((tmp_path / "run" / "frames.jsonl").read_text().splitlines()) == 4

    def test_interrupt_keeps_the_report(self, tmp_path):
        def stop(event):
            if event.done == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            collab.run("collab/smoke", out=tmp_path / "run", on_progress=stop)
        run = Run.open(tmp_path / "run")
        assert run.status == "interrupted"
        assert 0 < run.report()["num_frames"] < 60

    def test_stream_and_model(self):
        stream = collab.open_stream("collab/smoke")
        model = collab.load_edge_model("collab/smoke", device="cpu")
        frame = next(stream.frames())
        assert frame.image.shape == (64, 96, 3)
        assert model.logits(frame.image).shape == (len(stream.classes), 64, 96)


class TestFedsplit:
    def test_simulate(self, tmp_path):
        events = []
        report = fedsplit.simulate("fedsplit/smoke", out=tmp_path / "run", on_progress=events.append)
        assert len(report.rounds) == 2
        assert [event.done for event in events if event.task == "train"] == [1, 2]
        silent = fedsplit.simulate("fedsplit/smoke")
        assert silent.weights_hash == report.weights_hash

    def test_resume_takes_the_stored_config(self, tmp_path):
        def stop(event):
            if event.done == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fedsplit.simulate("fedsplit/smoke", overrides={"seed": 3}, out=tmp_path / "run", on_progress=stop)
        resumed = fedsplit.simulate(out=tmp_path / "run", resume=True)
        assert resumed.weights_hash == fedsplit.simulate("fedsplit/smoke", overrides={"seed": 3}).weights_hash

    def test_recommend_and_describe(self):
        assert fedsplit.recommend("fedsplit/advise").choices
        report = fedsplit.describe_partition("fedsplit/smoke", overrides={"num_clients": 4})
        assert report.num_clients == 4

    def test_notes_go_to_the_logger(self, caplog):
        with caplog.at_level(logging.INFO, logger="edgeai"):
            fedsplit.simulate("fedsplit/smoke", overrides={"rounds": 1})
        assert any(record.message.startswith("round 1/1") for record in caplog.records)

    def test_temporary_run_directory_is_removed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        fedsplit.simulate("fedsplit/smoke", overrides={"rounds": 1})
        assert not list(tmp_path.iterdir())


def error_of(call, *args, **options):
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    return caught.value.message, caught.value.hint


class TestWrongInput:
    def test_missing_model_folder(self):
        message, hint = error_of(spec.load_target, "no-such-model")
        assert message == "no model called 'no-such-model'"
        assert "smollm2-135m-instruct" in hint

    def test_folder_without_a_model(self, tmp_path):
        assert error_of(spec.load_target, tmp_path)[0] == f"{tmp_path} is not a model folder: config.json is missing"

    def test_unknown_device(self, model):
        assert error_of(spec.load_target, model, device="gpu")[0] == 'unknown device "gpu"'

    def test_unknown_dtype(self, model):
        assert error_of(spec.load_target, model, dtype="float8")[0].startswith("dtype: ")

    def test_missing_head(self, target, tmp_path):
        assert error_of(spec.load_head, tmp_path, target)[0] == f"no draft head in {tmp_path}"

    def test_no_shipped_head(self, target):
        assert error_of(spec.generate, target, "Hello")[0] == f"no draft head is shipped for {target.name}"

    @pytest.mark.parametrize("prompts", [[], ()])
    def test_no_prompt(self, target, prompts):
        assert error_of(spec.generate, target, prompts)[0] == "no prompt given"

    @pytest.mark.parametrize(("prompts", "number"), [("", 0), (["Hello", " \n"], 1)])
    def test_empty_prompt(self, target, prompts, number):
        assert error_of(spec.generate, target, prompts)[0] == f"prompt {number} is empty"

    def test_prompt_beyond_the_context(self, target):
        message, _ = error_of(spec.generate, target, "Hello " * 100, draft="none", context=64)
        assert "64" in message

    @pytest.mark.parametrize("temperature", [float("nan"), -0.1, "hot"])
    def test_temperature(self, target, temperature):
        message, _ = error_of(spec.generate, target, "Hello", draft="none", temperature=temperature)
        assert message.startswith("sampling.temperature: ")
        assert str(temperature) in message

    def test_several_values_at_once(self, target):
        message, _ = error_of(spec.generate, target, "Hello", draft="none", max_tokens=0, top_p=2.0)
        assert [line.split(":")[0] for line in message.splitlines()] == ["sampling.top_p", "max_tokens"]

    def test_unknown_draft(self, target):
        message, _ = error_of(spec.generate, target, "Hello", draft="engram")
        assert message == "draft: 'kind' cannot be 'engram'; did you mean \"ngram\"?"

    @pytest.mark.parametrize(
        ("call", "name", "near"),
        [
            (collab.run, "colab/smoke", "collab/smoke"),
            (fedsplit.simulate, "fedsplit/smok", "fedsplit/smoke"),
            (spec.bench, "spec/bensh", "spec/bench"),
        ],
    )
    def test_unknown_shipped_name(self, call, name, near):
        message, hint = error_of(call, name)
        assert message == f'no config "{name}": neither a file nor a shipped name'
        assert hint == f'did you mean "{near}"? list them: edgeai config list'
        assert error_of(call, name, overrides={"seed": 1}) == (message, hint)

    def test_config_of_another_verb(self):
        assert 'is a config for "fedsplit sim", not for "collab run"' in error_of(collab.run, "fedsplit/smoke")[0]
        other = error_of(collab.run, "fedsplit/smoke", overrides={"seed": 1})[0]
        assert 'is a config for "fedsplit sim", not for "collab run"' in other
        message, hint = error_of(collab.run, fedsplit.SimConfig())
        assert message == "expected a CollabRunConfig, got a SimConfig"
        assert hint == "see the keys: edgeai config schema collab run"

    def test_unknown_override(self):
        message, _ = error_of(fedsplit.simulate, "fedsplit/smoke", overrides={"round": 3})
        assert message == 'round: unknown key; did you mean "rounds"?'

    def test_config_objects_check_themselves(self):
        with pytest.raises(pydantic.ValidationError):
            spec.TreeConfig(nodes=0)

    def test_out_holds_a_run(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        assert error_of(collab.run, "collab/smoke", out=tmp_path)[0] == f"{tmp_path} already holds a run"

    def test_resume(self, tmp_path):
        assert error_of(fedsplit.simulate, resume=True)[0] == "resume=True needs the run directory to continue"
        message, hint = error_of(fedsplit.simulate, "fedsplit/smoke", out=tmp_path, resume=True)
        assert (message, hint) == ("resume=True takes the config from the run", "leave out config and overrides")
        assert error_of(fedsplit.simulate, out=tmp_path, resume=True)[0].startswith(str(tmp_path))

    def test_usage_error_is_an_edgeai_error(self):
        assert issubclass(UsageError, EdgeAIError)


USER_PROGRAM = """
from edgeai import Progress, collab, fedsplit, spec

def show(progress: Progress) -> None:
    print(progress.task, progress.done)

target: spec.Target = spec.load_target("smollm2-135m-instruct", dtype="float32")
head: spec.Drafter = spec.load_head("runs/head", target)
report = spec.generate(target, ["Hello"], draft=head, tree=spec.TreeConfig(nodes=5), on_progress=show)
text: str = report.answers[0].text
counts: tuple[int, ...] = report.answers[0].accept_counts
rate: float = collab.run("collab/smoke", overrides={"link": "wifi"}).evaluation.total.upload_rate
losses = [row.loss for row in fedsplit.simulate(fedsplit.SimConfig(rounds=1)).rounds]
"""
WRONG_PROGRAM = """
from edgeai import spec

spec.genrate()
spec.load_target(1)
reveal: int = spec.load_target("x").name
"""


@pytest.mark.slow
def test_user_program_type_checks(tmp_path):
    """mypy --strict sees the types of the API, and what is wrong in a program that misuses it."""
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(USER_PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG_PROGRAM)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nfollow_imports = silent\n")
    source = str(Path(edgeai.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "right.py", "wrong.py"],
        cwd=tmp_path,
        env={"MYPYPATH": source, "PATH": ""},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.rpartition("[")[2] for line in lines] == ["attr-defined]", "arg-type]", "assignment]"], done.stdout
    assert all(line.startswith("wrong.py:") for line in lines)


def test_the_runtime_of_a_target_can_be_chosen(tmp_path):
    with pytest.raises(UsageError, match=r"is not a model folder: config\.json is missing|there is no C\+\+ compiler"):
        spec.load_target(tmp_path, runtime="native", device="cpu")
    with pytest.raises(UsageError, match="runtime"):
        spec.load_target(tmp_path, runtime="cuda", device="cpu")
