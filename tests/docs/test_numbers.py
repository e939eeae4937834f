"""Every number that README and docs quote from `results/` equals the stored report's."""

import re
from pathlib import Path

import pytest

from .stored_tables import TABLES, against, report

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKED_TABLE = re.compile(r"^<!-- (results/[^>]*?) -->\n\|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", re.MULTILINE)


def marked_tables() -> list[tuple[str, str, list[list[str]]]]:
    """Every table with a comment that names its report: page, comment, rows."""
    found = []
    for page in PAGES:
        for name, body in MARKED_TABLE.findall(page.read_text(encoding="utf-8")):
            rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in body.splitlines()]
            found.append((str(page.relative_to(ROOT)), name, rows))
    return found


@pytest.mark.parametrize(
    ("page", "name", "rows"), marked_tables(), ids=lambda value: value if type(value) is str else ""
)
def test_table_equals_its_report(page: str, name: str, rows: list[list[str]]) -> None:
    expected = list(TABLES[name]())
    assert len(rows) == len(expected)
    for row, cells in zip(rows, expected, strict=True):
        assert [cell if wanted is not None else None for cell, wanted in zip(row, cells, strict=True)] == cells


def test_every_stored_table_is_shown() -> None:
    assert {name for _, name, _ in marked_tables()} == set(TABLES)
    comments = sum(page.read_text(encoding="utf-8").count("<!-- results/") for page in PAGES)
    assert comments == len(marked_tables())  # a comment that no table follows would check nothing


def quoted() -> list[tuple[str, str]]:
    """Sentences that quote a report: page and the text that it must contain, whatever its line breaks."""
    drive, camvid = "collab/compare.json", "collab/camvid.json"
    auto = {name: report(f"spec/bench-auto-{name}.json") for name in ("mt_bench", "gsm8k")}
    wide = {name: report(f"spec/bench-60-{name}.json") for name in ("mt_bench", "gsm8k")}
    cycle = auto["mt_bench"]["cycle"]
    cycle_s = sum(cycle.values())
    share = {part: 100 * seconds / cycle_s for part, seconds in cycle.items()}
    costs = {cost["variant"]: cost["ratio"] for cost in report("spec/compare.json")["costs"]}
    leads = [
        -against(drive, name, "laecips", "miou")["difference"]["maximum"]
        for name in ("edge-only", "bn-adapt", "random", "ams", "shoggoth")
    ]
    up = against(drive, "laecips", "cloud-only", "up_bytes")["ratio"]
    miou = against(drive, "laecips", "cloud-only", "miou")["ratio"]
    slower = against(drive, "laecips", "cloud-only", "p50_s")["ratio"]["mean"]
    oracle = [against(drive, name, "laecips", "miou")["difference"]["mean"] for name in ("oracle", "max-prob")]
    masks = against(camvid, "laecips-no-masks", "laecips", "miou")["difference"]
    crossovers = [round(row["samples_two_way"]) for row in report("fedsplit/advise-lenet5.json")["crossovers"]]
    bytes_of = {
        (row["method"], *row["cuts"]): row["bytes_up"]["mean"] + row["bytes_down"]["mean"]
        for row in report("fedsplit/mnist-house.json")["rows"]
        if row["partition"] == "iid"
    }
    times = [bytes_of["relay", cut] / bytes_of["fedavg",] for cut in ("conv2", "conv1")]
    four = report("spec/native-passes.json")["ratio_to_one"]["4"]
    avx2 = [
        peer[ratio]["median"]
        for name in ("mt_bench", "gsm8k")
        for peer in report(f"spec/race-avx2-{name}.json")["peers"]
        if peer["name"] == "llama-server"
        for ratio in ("plain_ratio", "speculative_ratio")
    ]
    serve, scaling = "docs/results/serve.md", report("serve/load-scaling.json")
    spec, collab, fedsplit = "docs/results/spec.md", "docs/results/collab.md", "docs/results/fedsplit.md"
    return [
        (spec, f"Reading the weights takes {report('spec/native-passes.json')['read_weights_ms']:.1f} ms"),
        (spec, f"a pass over four tokens takes {four:.1f} times as long as"),
        ("README.md", f"it costs {four:.1f} times as much for four"),
        ("README.md", f"With AVX2 alone the\nruntime is {min(avx2):.1f} to {max(avx2):.0f} times as fast"),
        (spec, "First turns, {num_prompts} prompts".format(**report("spec/race-mt_bench.json"))),
        (spec, "(Q8_0 and Q4_K_M: {num_prompts})".format(**report("spec/race-Q8_0.json"))),
        (spec, "up to {max_tokens} tokens, temperature 0, {repeats} repeats".format(**report("spec/race-gsm8k.json"))),
        (spec, "tokens of {num_prompts} MT-Bench answers".format(**report("spec/native-quality.json"))),
        (spec, f"(T(1) = {1e3 * auto['mt_bench']['cost_curve'][0]['verify_s']:.1f} ms)"),
        (
            spec,
            f"Of a {1e3 * cycle_s:.1f} ms cycle on MT-Bench, verification takes {share['verify_s']:.0f} % "
            f"({1e3 * cycle['verify_s']:.1f} ms) and drafting {share['draft_s']:.0f} %",
        ),
        (
            spec,
            f"covers {100 * wide['mt_bench']['coverage_frac']:.0f} % of the tokens of the MT-Bench answers "
            f"({100 * wide['gsm8k']['coverage_frac']:.0f} % on GSM8K)",
        ),
        (
            spec,
            "({} and {} of 12 in the `auto` runs".format(
                *(12 - found["lossless"]["num_equal"] for found in auto.values())
            ),
        ),
        (spec, "{} and {} near-ties".format(*(found["lossless"]["num_ties"] for found in auto.values()))),
        (spec, f"`bench` peaked at {max(found['peak_memory_bytes'] for found in wide.values()) / 1e9:.1f} GB"),
        (spec, f"A GTO step took {costs['gto']:.1f} times as long"),
        (
            spec,
            "| 1.6 | {:.2f} (MT-Bench), {:.2f} (GSM8K) |".format(
                *(found["ratio"]["median"] for found in auto.values())
            ),
        ),
        (
            serve,
            "Sixteen clients together get {scaling:.1f} times the tokens/s of one".format(**report("serve/load.json")),
        ),
        (serve, "{:.1f} to {:.1f} times (".format(min(scaling["with_speculation"]), max(scaling["with_speculation"]))),
        (serve, "({:.1f} to {:.1f} without)".format(min(scaling["without"]), max(scaling["without"]))),
        (
            serve,
            "{:.0f} and {:.0f} MB after".format(*(b / 1e6 for b in report("serve/load.json")["memory_bytes"][-2:])),
        ),
        (collab, "smallest lead {:.3f}, {:.3f}, {:.3f}, {:.3f} and {:.3f}".format(*leads)),
        (collab, f"| at most 35 % | {100 * up['mean']:.0f} % ("),
        (collab, f"| at most 0.5 | {slower:.2f} ("),
        (
            collab,
            f"{100 * miou['mean']:.1f} % ({100 * miou['minimum']:.1f}–{100 * miou['maximum']:.1f} %) | **no**, "
            f"by {97 - 100 * miou['mean']:.1f} points",
        ),
        (collab, f"gains {oracle[0] - oracle[1]:.3f} over max-prob"),
        (collab, f"the mIoU changes by {masks['minimum']:.3f} to {masks['maximum']:+.3f}"),
        (
            collab,
            "the BatchNorm refresh it is {:.3f} lower".format(
                -against(camvid, "laecips-no-bn", "laecips", "miou")["difference"]["mean"]
            ),
        ),
        (
            collab,
            "The trained miner costs {:.3f} against max-prob".format(
                against(camvid, "laecips-no-him", "laecips", "miou")["difference"]["mean"]
            ),
        ),
        (
            collab,
            "AMS comes second, {:.3f} lower".format(-against(camvid, "ams", "laecips", "miou")["difference"]["mean"]),
        ),
        (collab, f"and {against(camvid, 'laecips', 'cloud-only', 'p50_s')['ratio']['mean']:.2f} of its median latency"),
        (fedsplit, "above {}, {}, {} and {} samples per client".format(*crossovers)),
        (fedsplit, "move {:.0f} times (conv2) and {:.0f} times (conv1) the bytes".format(*times)),
        (fedsplit, f"originals ({100 * report('fedsplit/privacy-mnist.json')['judge_acc']:.0f} %)"),
    ]


@pytest.mark.parametrize(("page", "text"), quoted())
def test_sentence_equals_its_report(page: str, text: str) -> None:
    assert " ".join(text.split()) in " ".join((ROOT / page).read_text(encoding="utf-8").split())
