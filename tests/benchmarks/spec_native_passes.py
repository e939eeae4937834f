"""Time of a forward pass of the native runtime over 1 to 16 tokens, and over contexts of growing length.

    python tests/benchmarks/spec_native_passes.py --out results/spec/native-passes

The sizes take turns within each repeat, several passes of one size in a row; min, median and max over the repeats are
kept. Beside them stands the time in which the machine reads as many bytes as the weights have. Writes OUT.json and the
pictures OUT.svg and OUT.png.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

from edgeai.core import assets
from edgeai.core.report.plot import Line, save_lines
from edgeai.spec.evaluation.bench.machine import hardware
from edgeai.spec.target.native.bandwidth import read_bandwidth_bps
from edgeai.spec.target.native.cache import PackedCache
from edgeai.spec.target.native.engine import Engine, NewTokens
from edgeai.spec.target.native.gguf_file import read_gguf
from edgeai.spec.target.native.library import load_library

SIZES = (1, 2, 4, 5, 8, 16)
CONTEXT = 256
UNTIMED, TIMED = 3, 7
"""Passes of one size in a row, as in decoding: the first ones after another size wait longer for memory."""


class Timer:
    """Passes of one model after a context of a given length."""

    def __init__(self, path: Path, threads: int, longest: int) -> None:
        library = load_library()
        self.variant = library.name
        self.model = read_gguf(path, library)
        self._engine = Engine(library, threads)
        shape = self.model.shape
        self.model.reserve_positions(longest + max(SIZES))
        self._cache = PackedCache(shape.num_layers * shape.num_kv_heads, shape.head_dim, longest + max(SIZES))
        self._rng = np.random.default_rng(0)

    def fill(self, context: int) -> None:
        """Read random tokens until the context has this length."""
        while (missing := context - self._cache.lengths[0]) > 0:
            size = min(64, missing)
            self.run(size, logits=())
            self._cache.lengths[0] += size

    def run(self, size: int, logits: tuple[int, ...] | None = None) -> float:
        """Seconds of a pass over `size` tokens, without its embedding and with the next token after each."""
        end = self._cache.lengths[0]
        tokens = self._rng.integers(0, self.model.shape.vocab_size, size)
        wanted = range(size) if logits is None else logits
        new = NewTokens(0, end, end, tokens, np.arange(size), np.tri(size, dtype=np.uint8), wanted)
        embedded = self.model.embed(tokens)
        begin_s = time.perf_counter()
        self._engine.run(self.model.structure, embedded, [new], self._cache, (2, 15, 27))
        return time.perf_counter() - begin_s

    def run_in_a_row(self, size: int) -> float:
        """Median of the passes of one size that follow each other, in seconds."""
        times_s = [self.run(size) for _ in range(UNTIMED + TIMED)]
        return statistics.median(times_s[UNTIMED:])


def spread_ms(times_s: list[float]) -> dict[str, float]:
    """Min, median and max, in milliseconds."""
    named = {"min": min(times_s), "median": statistics.median(times_s), "max": max(times_s)}
    return {name: round(1e3 * value, 3) for name, value in named.items()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="GGUF file; the default asset without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--contexts", type=int, nargs="*", default=[128, 256, 512, 1024, 2048, 4096, 8128])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = args.model or assets.where("smollm2-135m-instruct")
    if path is None:
        parser.error("run `edgeai assets fetch smollm2-135m-instruct` first, or give --model")
    timer = Timer(path, args.threads, max([CONTEXT, *args.contexts]))
    timer.fill(CONTEXT)
    sizes: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(args.repeats):
        for size in SIZES:
            sizes[size].append(timer.run_in_a_row(size))
    ratios = {
        size: statistics.median(b / a for a, b in zip(sizes[1], times, strict=True)) for size, times in sizes.items()
    }
    weight_bytes = path.stat().st_size
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    report = {
        "command": "python tests/benchmarks/spec_native_passes.py",
        "model": path.name,
        "hardware": f"{hardware(torch.device('cpu'))}, {timer.variant}",
        "commit": commit,
        "read_weights_ms": round(1e3 * weight_bytes / read_bandwidth_bps(weight_bytes, args.threads), 3),
        "context": CONTEXT,
        "pass_ms": {size: spread_ms(times) for size, times in sizes.items()},
        "ratio_to_one": {size: round(ratio, 3) for size, ratio in ratios.items()},
        "context_ms": {},
    }
    timer = Timer(path, args.threads, max([CONTEXT, *args.contexts]))
    for context in args.contexts:
        timer.fill(context)
        times = {size: [timer.run_in_a_row(size) for _ in range(args.repeats // 4)] for size in (1, 8)}
        report["context_ms"][context] = {size: spread_ms(part) for size, part in times.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    lines = [
        Line(
            f"{size} token{'s' if size > 1 else ''} a pass",
            args.contexts,
            [entry[size]["median"] / size for entry in report["context_ms"].values()],
            [entry[size]["min"] / size for entry in report["context_ms"].values()],
            [entry[size]["max"] / size for entry in report["context_ms"].values()],
        )
        for size in (1, 8)
    ]
    save_lines(
        [args.out.with_suffix(".svg"), args.out.with_suffix(".png")],
        lines,
        title="Time per token on the native runtime",
        x_label="context (tokens)",
        y_label="ms per token",
    )
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
