"""Extras are read from the installed metadata; a failed import names the extra that provides the package."""

import importlib.metadata
import subprocess
import sys

import pytest

from edgeai.core import requirements as module
from edgeai.core.errors import EdgeAIError, UsageError
from edgeai.core.python_api.missing import names_missing_packages
from edgeai.core.requirements import missing, missing_package_error, name_of, requirements

LINES = [
    "torch>=2.9",
    "torch>=2.9; extra == 'core'",
    "torch>=2.9; extra == 'spec'",
    "transformers>=4.56; extra == 'spec'",
    "transformers>=4.56; extra == 'collab'",
    "no-such-package; extra == 'spec'",
    "scikit-image; extra == 'collab'",
    'flwr[simulation]<1.42,>=1.41; extra == "ray"',
    "datasets; extra == 'fedsplit'",
    "absent-two; extra == 'fedsplit'",
    "absent-one; extra == 'fedsplit'",
]


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: LINES)


def test_requirements_of_an_extra():
    assert requirements("spec") == ("no-such-package", "torch>=2.9", "transformers>=4.56")
    assert requirements("ray") == ("flwr[simulation]<1.42,>=1.41",)
    assert requirements("vision") == ()


@pytest.mark.parametrize(
    ("requirement", "name"),
    [("torch>=2.9", "torch"), ("flwr[simulation]<1.42", "flwr"), ("dp-accounting", "dp-accounting")],
)
def test_name(requirement, name):
    assert name_of(requirement) == name


def test_missing():
    assert missing("spec") == ("no-such-package",)
    assert missing("collab") == ()


def import_in(room, package):
    """The error of a failed import in a module of that name."""
    try:
        exec(f"raise ModuleNotFoundError('not found', name={package!r})", {"__name__": room})
    except ModuleNotFoundError as error:
        return error


@pytest.mark.parametrize(
    ("room", "package", "extra", "distribution"),
    [
        ("edgeai.spec.target.loading", "transformers", "spec", "no-such-package"),
        ("edgeai.collab.models.hf", "transformers", "collab", "transformers"),
        ("edgeai.fedsplit.data.hub", "datasets", "fedsplit", "absent-one, absent-two"),
        ("edgeai.core.device", "torch", "core", "torch"),
        ("edgeai.specials", "transformers", "spec", "no-such-package"),  # not a room: the first extra that has it
        ("edgeai.collab.models.regions", "skimage", "collab", "scikit-image"),
        ("edgeai.fedsplit.flower.simulation", "flwr", "ray", "flwr"),
        ("edgeai.spec.tiny", "no_such_package", "spec", "no-such-package"),
    ],
)
def test_failed_import_names_the_extra(room, package, extra, distribution):
    error = missing_package_error(import_in(room, package))
    assert (error.message, error.hint, error.exit_code) == (
        f"{extra} needs {distribution}, which {'are' if ',' in distribution else 'is'} not installed",
        f"pip install 'edgeai[{extra}]'",
        1,
    )


@pytest.mark.parametrize("package", ["somebodys_module", "transformers.nosuchmodule", "edgeai.nosuchmodule"])
def test_other_failed_imports_stay_bugs(package):
    assert missing_package_error(import_in("edgeai.spec.tiny", package)) is None


def test_without_metadata_a_failed_import_stays_as_it_is(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert missing_package_error(import_in("edgeai.spec.tiny", "torch")) is None


def test_library_functions_raise_an_edgeai_error():
    @names_missing_packages
    def call(package):
        raise import_in("edgeai.spec.target.loading", package)

    with pytest.raises(EdgeAIError, match=r"^spec needs no-such-package, which is not installed$"):
        call("transformers")
    with pytest.raises(ModuleNotFoundError):
        call("somebodys_module")


def test_command_prints_requirements(capsys):
    module._main(["spec", "ray"])
    assert capsys.readouterr().out.split("\n") == [
        "flwr[simulation]<1.42,>=1.41",
        "no-such-package",
        "torch>=2.9",
        "transformers>=4.56",
        "",
    ]


@pytest.mark.parametrize(("extras", "what"), [([], "no extra given"), (["spec", "speech"], "no extra speech")])
def test_command_refuses_other_names(extras, what):
    with pytest.raises(UsageError, match=rf"^{what}: choose from core, spec, serve, "):
        module._main(extras)


def test_command_needs_the_standard_library_only():
    code = (
        "import runpy, sys; sys.argv = ['x', 'spec']; runpy.run_module('edgeai.core.requirements', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": _source()}
    )
    assert "ModuleNotFoundError" not in done.stderr
    assert "PackageNotFoundError" in done.stderr  # -S hides site-packages, where edgeai's metadata is


def _source():
    import edgeai

    return str(next(iter(edgeai.__path__)).removesuffix("edgeai"))
