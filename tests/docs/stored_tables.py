"""The tables of the documentation that come from stored reports, by the name in the comment above each.

A cell is the text that the page must show; None stands for a cell that comes from elsewhere, such as a published value.
"""

import json
from collections.abc import Callable, Collection, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "results"
Cells = list[str | None]
Report = dict[str, Any]


@cache
def report(name: str) -> Any:
    """Returns a stored report."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def percent(value: float, digits: int = 1) -> str:
    """Returns a fraction in percent, without the sign."""
    return f"{100 * value:.{digits}f}"


def mb(num_bytes: float, digits: int = 2) -> str:
    """Returns bytes as megabytes."""
    return f"{num_bytes / 1e6:.{digits}f} MB"


# collab


def strategies(name: str) -> Iterator[Cells]:
    """Yields a row per strategy, with gain and cost."""
    for row in report(name)["rows"]:
        spreads, strategy = row["spreads"], row["strategy"]
        miou, up, down = spreads["miou"], spreads["up_bytes"]["mean"], spreads["down_bytes"]["mean"]
        of_cloud = against(name, strategy, "cloud-only", "miou")["ratio"]
        yield [
            f"`{strategy}`",
            f"{miou['mean']:.3f} ({miou['minimum']:.3f}–{miou['maximum']:.3f})",
            f"{percent(of_cloud['mean'])} ({percent(of_cloud['minimum'])}–{percent(of_cloud['maximum'])}) %",
            f"{percent(spreads['upload_rate']['mean'])} %",
            mb(up),
            f"{percent(against(name, strategy, 'cloud-only', 'up_bytes')['ratio']['mean'], 0)} %",
            mb(down),
            mb(up + down),
            f"{1e3 * spreads['p50_s']['mean']:.0f} ms",
        ]


def against(name: str, strategy: str, reference: str, metric: str) -> Report:
    """Returns difference and ratio of two strategies, paired by seed."""
    if strategy == reference:
        return {
            "difference": {"mean": 0.0, "minimum": 0.0, "maximum": 0.0},
            "ratio": {"mean": 1.0, "minimum": 1.0, "maximum": 1.0},
        }
    wanted = (strategy, reference, metric)
    return next(
        found for found in report(name)["versus"] if (found["strategy"], found["reference"], found["metric"]) == wanted
    )


def ablations() -> Iterator[Cells]:
    """Yields a row per part of LAECIPS that is removed."""
    for part in ("update", "threshold", "gate", "explore", "bn", "him", "masks"):
        miou = against("collab/compare.json", f"laecips-no-{part}", "laecips", "miou")["difference"]["mean"]
        yield [None, "0.000" if abs(miou) < 5e-4 else f"{miou:+.3f}"]


def segments() -> Iterator[Cells]:
    """Yields the mIoU of three strategies in every segment of CamVid."""
    rows = {row["strategy"]: row["segment_miou"] for row in report("collab/camvid.json")["rows"]}
    for segment in ("day", "fog", "rain", "night", "dusk"):
        spreads = (rows[name][segment] for name in ("edge-only", "laecips", "cloud-only"))
        yield [None, *(f"{s['mean']:.3f} ({s['minimum']:.3f}–{s['maximum']:.3f})" for s in spreads)]


def readme_strategies() -> Iterator[Cells]:
    """Yields the short table of the README."""
    kept = ("edge-only", "bn-adapt", "shoggoth", "ams", "laecips", "cloud-only")
    for row in strategies("collab/compare.json"):
        name, miou, of_cloud, _, up, _, down, total, latency = row
        if str(name).strip("`") in kept:
            assert miou is not None
            assert of_cloud is not None
            yield [name, miou.split()[0], of_cloud.split()[0] + " %", up, down, total, latency]


# spec


def bench_rows() -> Iterator[Cells]:
    """Yields a row per stored benchmark."""
    for tree in ("60", "auto"):
        for name, file in (("MT-Bench", "mt_bench"), ("GSM8K", "gsm8k")):
            found = report(f"spec/bench-{tree}-{file}.json")
            ratio, repeats = found["ratio"], found["repeats"]
            spread = (
                "1 repeat" if repeats == 1 else f"{ratio['minimum']:.2f} to {ratio['maximum']:.2f}, {repeats} repeats"
            )
            best = "auto: " if tree == "auto" else ""
            accept, speed = f"{found['accept_len']:.2f}", f"{ratio['median']:.2f}"
            yield [
                f"{name}, {found['num_prompts']}",
                best + found["tree"],
                accept if best else f"**{accept}**",
                f"{found['plain_tokens_per_s']['median']:.1f}",
                f"{found['speculative_tokens_per_s']['median']:.1f}",
                f"**{speed}** ({spread})" if best else f"{speed} ({spread})",
                "true" if found["lossless"]["ok"] else "false",
            ]


def readme_race() -> Iterator[Cells]:
    """Yields the short table of the README: edgeai beside llama.cpp compiled for the machine."""
    for name, prompts in (("mt_bench", "MT-Bench"), ("gsm8k", "GSM8K")):
        found = report(f"spec/race-{name}.json")
        peer = next(peer for peer in found["peers"] if peer["name"] == "llama-server")
        yield [
            f"{prompts}, {found['num_prompts']}",
            f"{peer['tokens_per_s']['median']:.0f}",
            f"{found['plain_tokens_per_s']['median']:.0f}",
            f"{found['speculative_tokens_per_s']['median']:.0f}",
            f"{found['accept_len']:.2f}",
            f"{peer['plain_ratio']['median']:.2f}",
            f"{peer['speculative_ratio']['median']:.2f}",
        ]


def pass_costs() -> Iterator[Cells]:
    """Yields the relative time of a pass over several tokens."""
    curve = report("spec/bench-auto-mt_bench.json")["cost_curve"]
    one = curve[0]["verify_s"]
    yield ["T(n) / T(1)", *(f"{point['verify_s'] / one:.2f}" for point in curve)]


def middle(spread: Report, digits: int = 0) -> str:
    """Returns median (lowest to highest)."""
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(spread["median"], spread["minimum"], spread["maximum"], d=digits)


def race(machine: str = "", peers: Collection[str] = ()) -> Iterator[Cells]:
    """Yields a row per file, prompts and build of llama.cpp; all builds if none is named."""
    for name, file in RACES.items():
        found = report(f"spec/race-{machine}{name}.json")
        for peer in found["peers"]:
            if not peers or peer["name"] in peers:
                yield [file, peer["name"], *race_cells(found, peer)]


def race_cells(found: Report, peer: Report) -> Cells:
    """Returns the speeds of a build of llama.cpp and of edgeai, and their ratios."""
    return [
        middle(peer["tokens_per_s"]),
        middle(found["plain_tokens_per_s"]),
        middle(peer["plain_ratio"], 2),
        middle(peer["speculative_ratio"], 2) if found["draft"].startswith("eagle3") else "–",
        middle(peer["prompt_ratio"], 1),
    ]


def busy_race() -> Iterator[Cells]:
    """Yields the race beside a program that keeps a core busy."""
    found = report("spec/busy-mt_bench.json")
    for peer in found["peers"]:
        yield [peer["name"], *race_cells(found, peer)]


RACES = {
    "mt_bench": "Q4_1, MT-Bench",
    "gsm8k": "Q4_1, GSM8K",
    "Q8_0": "Q8_0, MT-Bench",
    "Q4_K_M": "Q4_K_M, MT-Bench",
}


def tasks() -> Iterator[Cells]:
    """Yields acceptance and speed by kind of task, the best first."""
    for found in sorted(report("spec/tasks.json")["tasks"], key=lambda found: -found["accept_len"]):
        yield [found["task"], str(found["num_answers"]), f"{found['accept_len']:.2f}", f"{found['ratio']:.2f}"]


def load() -> Iterator[Cells]:
    """Yields a row per round of the load test of a server."""
    for found in report("serve/load.json")["rounds"]:
        yield [
            str(found["clients"]),
            "tree: auto" if found["speculates"] else "off",
            str(found["num_requests"]),
            f"{found['tokens_per_s']:.0f}",
            f"{found['accept_len']:.2f}",
            f"{1e3 * found['first_s'][0]:.0f} ms",
            " / ".join(f"{1e3 * gap_s:.1f}" for gap_s in found["gap_s"]) + " ms",
            str(found["num_wrong"]),
        ]


def native_passes(machine: str = "") -> Iterator[Cells]:
    """Yields the time of a native pass over several tokens, and its ratio to one token."""
    found = report(f"spec/native-passes{machine}.json")
    yield ["ms", *("{median:.1f} ({min:.1f} to {max:.1f})".format(**spread) for spread in found["pass_ms"].values())]
    yield ["T(n) / T(1)", *(f"{ratio:.2f}" for ratio in found["ratio_to_one"].values())]


def structured_output() -> Iterator[Cells]:
    """Yields a row per way of decoding the JSON schemas of the suite."""
    for found in report("spec/structured-output.json")["ways"].values():
        counts = [str(found[name]) for name in ("num_finished", "num_valid", "num_equal_to_plain")]
        yield [None, *counts, f"{found['accept_len']:.2f}", f"{found['tokens_per_s']:.0f}"]


def native_contexts() -> Iterator[Cells]:
    """Yields the time per token after contexts of growing length."""
    for size in ("1", "8"):
        spreads = [spreads[size] for spreads in report("spec/native-passes.json")["context_ms"].values()]
        yield [size, *(f"{spread['median'] / int(size):.1f}" for spread in spreads)]


def native_quality() -> Iterator[Cells]:
    """Yields divergence and agreement of the native runtime, and of llama.cpp at every eighth position."""
    found = report("spec/native-quality.json")
    for name in ("native", "native_top_200_every_8", "llamacpp_top_200_every_8"):
        part = found[name]
        yield [
            None,
            str(part["num_positions"]),
            f"{part['mean_kl_nats']:.4f}",
            f"{part['p99_kl_nats']:.4f}",
            percent(part["top1_agreement"]) + " %",
        ]


def variants() -> Iterator[Cells]:
    """Yields a row per trained variant, with the interval of GTO over the token loss last."""
    cells = report("spec/compare.json")["cells"]
    columns = [("mt_bench", 0.0), ("mt_bench", 1.0), ("gsm8k", 0.0), ("gsm8k", 1.0)]

    def cell(variant: str, column: tuple[str, float]) -> Report:
        return next(c for c in cells if (c["variant"], c["benchmark"], c["temperature"]) == (variant, *column))

    for variant in ("eagle3", "tokens", "tokens-lk", "gto", "gto-lk"):
        found = [cell(variant, column) for column in columns]
        spread = "" if variant == "eagle3" else " ({minimum:.3f} to {maximum:.3f})"
        yield [None, *(("{mean:.3f}" + spread).format(**c) for c in found)]
    ratios = [cell("gto", column)["ratio"] for column in columns]
    yield [None, *(f"{ratio['low']:.3f} to {ratio['high']:.3f}" for ratio in ratios)]


# fedsplit


def baseline(partition: str) -> Iterator[Cells]:
    """Yields a row per method and cut of the reference baseline."""
    for row in report("fedsplit/mnist-house.json")["rows"]:
        cut = row["cuts"][0] if row["cuts"] else "–"
        if row["partition"] != partition:
            continue
        if partition == "dirichlet" and (cut == "conv2" or row["method"] == "splitfed-v1"):
            continue
        low, high = row["accuracy"]["least"], row["accuracy"]["largest"]
        cells: Cells = [
            "`fedavg`, `splitfed-v1`" if partition == "dirichlet" and cut == "–" else f"`{row['method']}`",
            cut,
            " / ".join(percent(accuracy, 2) for _, accuracy, *_ in row["curve"]),
            f"{percent(low, 2)}–{percent(high, 2)}",
            None,
            baseline_bytes(row, cut),
        ]
        yield cells if partition == "iid" else [cells[0], *cells[2:5]]


def baseline_bytes(row: Report, cut: str) -> str:
    """Returns activations + gradients / weights of three rounds over all 60,000 samples, in MB."""
    total = row["bytes_up"]["mean"] + row["bytes_down"]["mean"]
    if cut == "–":
        return f"0 / {total / 1e6:.2f}"
    of_cut = {found["cut"]: found["cut_bytes"] for found in report("fedsplit/advise-lenet5.json")["cuts"]}
    num_samples, label_bytes = 3 * 60_000, 8
    activations = of_cut[cut] * num_samples
    gradients = 0 if row["method"] == "local-loss" else activations
    weights = total - activations - gradients - num_samples * label_bytes
    shown = "0" if weights == 0 else f"{weights / 1e6:.2f}"
    return f"{activations / 1e6:.0f} + {gradients / 1e6:.0f} / {shown}"


def readme_methods() -> Iterator[Cells]:
    """Yields the short table of the README: accuracy, traffic, virtual time and energy at cut conv2."""
    for row in report("fedsplit/mnist-house.json")["rows"]:
        if row["partition"] == "iid" and row["cuts"] in ([], ["conv2"]):
            joules = row["clients_j"]["mean"] + row["server_j"]["mean"]
            yield [
                f"`{row['method']}`",
                f"{percent(row['accuracy']['mean'])} %",
                f"{(row['bytes_up']['mean'] + row['bytes_down']['mean']) / 1e6:.1f} MB",
                f"{row['seconds']['mean']:.0f} s",
                f"{joules:.0f} J",
                f"{row['client_memory_bytes']['mean'] / 1e6:.1f} MB",
            ]


def published() -> Iterator[Cells]:
    """Yields a row per noise and NoPeek setting: ours / published."""
    for row in report("fedsplit/privacy-mnist.json")["rows"]:
        theirs = row["published"] or {}
        pairs = [
            (percent(row["val_acc"], 2), theirs.get("val_acc"), 100, 2),
            (f"{row['dcor']:.3f}", theirs.get("dcor"), 1, 3),
            (f"{row['affine']['dcor']:.3f}", theirs.get("attack_dcor"), 1, 3),
            (percent(row["affine"]["acc"]), theirs.get("attack_acc"), 100, 1),
        ]
        shown = (f"{ours} / {'-' if of is None else f'{scale * of:.{digits}f}'}" for ours, of, scale, digits in pairs)
        yield [f"{row['noise']:g}", f"{row['lam']:g}", *shown]


def on_the_wire() -> Iterator[Cells]:
    """Yields attacks before the noise and on the link."""
    rows = {(row["noise"], row["lam"]): row for row in report("fedsplit/privacy-mnist.json")["rows"]}
    for setting in [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.5, 0.5), (1.0, 0.5)]:
        before, wire = rows[setting]["affine"], rows[setting]["wire_affine"]
        yield [
            *(f"{value:g}" for value in setting),
            f"{before['dcor']:.3f} / {wire['dcor']:.3f}",
            f"{before['mse']:.2f} / {wire['mse']:.2f}",
            f"{before['ssim']:.2f} / {wire['ssim']:.2f}",
            f"{percent(before['acc'])} / {percent(wire['acc'])}",
        ]


def shaped_rounds() -> Iterator[Cells]:
    """Yields predicted and real seconds of rounds over a shaped link."""
    for row in report("fedsplit/real-link.json"):
        low, median, high = sorted(row["real_s"])
        yield [
            f"`{row['method']}`",
            f"{row['up_bps'] / 1e6:.1f}, {row['down_bps'] / 1e6:.1f}",
            f"{row['predicted_s']:.1f} s",
            f"{row['link_s']:.1f} s",
            f"{median:.1f} s ({low:.1f}-{high:.1f})",
            f"{median / row['predicted_s']:.2f}",
        ]


TABLES: dict[str, Callable[[], Iterator[Cells]]] = {
    "results/collab/compare.json: strategies": lambda: strategies("collab/compare.json"),
    "results/collab/compare.json: ablations": ablations,
    "results/collab/compare.json: short": readme_strategies,
    "results/collab/camvid.json: strategies": lambda: strategies("collab/camvid.json"),
    "results/collab/camvid.json: segments": segments,
    "results/spec/bench-*.json: bench": bench_rows,
    "results/spec/race-*.json: short": readme_race,
    "results/spec/bench-auto-mt_bench.json: pass costs": pass_costs,
    "results/spec/compare.json: variants": variants,
    "results/spec/race-*.json: race": race,
    "results/spec/race-avx2-*.json: race": partial(race, "avx2-", ("llama.cpp wheel", "llama-server")),
    "results/spec/busy-mt_bench.json: race": busy_race,
    "results/serve/load.json: rounds": load,
    "results/spec/tasks.json: tasks": tasks,
    "results/spec/native-passes.json: sizes": native_passes,
    "results/spec/structured-output.json: ways": structured_output,
    "results/spec/native-passes.json: contexts": native_contexts,
    "results/spec/native-passes-avx2.json: sizes": partial(native_passes, "-avx2"),
    "results/spec/native-quality.json: quality": native_quality,
    "results/fedsplit/mnist-house.json: iid": lambda: baseline("iid"),
    "results/fedsplit/mnist-house.json: dirichlet": lambda: baseline("dirichlet"),
    "results/fedsplit/mnist-house.json: short": readme_methods,
    "results/fedsplit/privacy-mnist.json: published": published,
    "results/fedsplit/privacy-mnist.json: wire": on_the_wire,
    "results/fedsplit/real-link.json: rounds": shaped_rounds,
}
