"""Help is quick, and ends with something to paste."""

import subprocess
import sys

import click
import pytest
import typer

from edgeai.cli import app, main


def verbs():
    """Yields every verb's words and its command."""

    def walk(words, command):
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk([*words, name], inner)
        else:
            yield words, command

    return list(walk([], typer.main.get_command(app)))


def test_the_check_sees_a_heavy_import(loaded_after):
    """`assets where` of a Hub id asks huggingface_hub: the check below would catch such an import."""
    assert "huggingface_hub" in loaded_after(["assets", "where", "no-one/nothing"])


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["spec", "--help"], ["collab", "--help"], ["config", "list"], ["runs", "list"], ["assets", "list"]],
)
def test_loads_nothing_heavy(argv, loaded_after):
    assert loaded_after(argv) == []


def test_help_answers_well_under_a_second():
    """0.3 s of processor time: the clock's depends on what else runs. Importing torch alone takes 1.5 s."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "edgeai", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.8


@pytest.mark.parametrize("words", [words for words, _ in verbs()], ids=" ".join)
def test_every_verbs_help_ends_with_a_runnable_example(capsys, words):
    assert main([*words, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    command = f"Example: edgeai {' '.join(words)}"
    assert command in text
    assert "╯" not in text[text.index(command) :]


def test_every_verb_takes_json():
    assert [
        words for words, command in verbs() if "--json" not in {opt for p in command.params for opt in p.opts}
    ] == []
