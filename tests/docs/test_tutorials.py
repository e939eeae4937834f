"""The commands of the tutorials work as shown and print what is shown."""

import re
from pathlib import Path

import pytest

from .tutorial_runner import ROOT, run_steps

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
MACHINE = re.compile(
    r"^(machine|peak memory|time|training time|simulator|tokens/s|plain|speculative|mean cycle|draft(?= +[\d.]+ )"
    r"|verify|accept and commit|outside of cycles|ratio|T\(n\)|The target accuracy)"
)
"""Lines whose numbers are times, speeds or memory of the machine, or the round that first reached an accuracy, which
depends on the course of the training: their labels are compared, not their numbers."""
LEARNED = {
    # training and decoding carry rounding on: the text that the tiny model writes may differ from some token on
    "spec": re.compile(""),
    # a frame is uploaded or not by a learned score
    "collab": re.compile(""),
    # accuracy, loss and leakage are learned; bytes, seconds, joules and memory are not
    "fedsplit": re.compile(r"^(accuracy|best accuracy|dCor|decoder)"),
}
RELATIVE, ABSOLUTE = 0.35, 0.25
"""Learned numbers agree within 35 % or 0.25: the sign of a mistake is a factor, not a digit."""
SIZE = re.compile(r"([\d.]+) (kB|MB|GB)")
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}
ROUND = re.compile(r"^( +\d+ +\d+ +\d+) +[\d.]+ +[\d.]+%")
"""The start of a row of rounds, up to its loss and accuracy: on the way these may differ by more than at the end."""
BARS = re.compile("[▏▎▍▌▋▊▉█]+")


def shape(line: str) -> str:
    """A line without its numbers, bars and column widths; of a machine's line only its label."""
    label = MACHINE.match(line)
    return label[0] if label else " ".join(NUMBER.sub("#", BARS.sub("", in_bytes(line))).split())


def numbers(line: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(in_bytes(line))]


def in_bytes(line: str) -> str:
    """A line with every size in bytes, so that 990 kB and 1.0 MB are close."""
    return SIZE.sub(lambda found: f"{float(found[1]) * UNITS[found[2]]:.0f} B", line)


def assert_same_output(tutorial: str, shown: str, printed: str) -> None:
    old, new = shown.splitlines(), printed.splitlines()
    assert [shape(line) for line in new] == [shape(line) for line in old]
    for before, now in zip(old, new, strict=True):
        if MACHINE.match(before):
            continue
        if LEARNED[tutorial].match(before):
            for a, b in zip(numbers(before), numbers(now), strict=True):
                assert abs(a - b) <= max(ABSOLUTE, RELATIVE * max(abs(a), abs(b))), (before, now)
        else:
            assert words_without_course(now) == words_without_course(before)


def words_without_course(line: str) -> list[str]:
    """The words of a line; of a row of rounds without loss and accuracy."""
    return ROUND.sub(r"\1", line).split()


@pytest.mark.parametrize(
    "tutorial",
    ["spec", pytest.param("collab", marks=pytest.mark.slow), "fedsplit"],
)
def test_tutorial(tutorial: str, tmp_path: Path) -> None:
    steps = run_steps(ROOT / "docs" / "tutorials" / f"{tutorial}.md", tmp_path)
    assert len(steps) >= 3
    for step in steps:
        if step.shown is not None:
            assert_same_output(tutorial, step.shown, step.stdout)


def test_a_changed_output_is_noticed() -> None:
    shown = "accuracy      94.43%\nup            22.3 MB: activations 22.1 MB\ntime          4.3 s\n"
    assert_same_output("fedsplit", shown, shown.replace("94.43", "93.1").replace("4.3 s", "9.9 s"))
    for wrong in (
        shown.replace("94.43", "50.0"),
        shown.replace("22.3", "22.4"),
        shown.replace("activations", "labels"),
    ):
        with pytest.raises(AssertionError):
            assert_same_output("fedsplit", shown, wrong)
