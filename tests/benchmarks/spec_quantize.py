"""Make Q8_0 and Q4_K_M files of a GGUF model with llama.cpp's quantizer, for speed comparisons of `spec bench`.

    python tests/benchmarks/spec_quantize.py --quantizer build/bin/llama-quantize --out models

Without --model the shipped SmolLM2-135M-Instruct is taken, which is a Q4_1 file: its weights are dequantized and
quantized again, so that the new files have the speed of their type but not the quality of files made from the original
checkpoint. Give a file of higher precision in --model for those. llama.cpp stores a matrix in another type than asked
for if the length of its rows is not a multiple of 256, as it is for all but ffn_down of this model (576): its Q4_K_M
file mixes Q5_0, Q8_0, Q4_K and Q6_K.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from edgeai.core import assets
from edgeai.core.metrics import Metrics

TYPES = ("Q8_0", "Q4_K_M")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantizer", required=True, help="llama-quantize binary")
    parser.add_argument("--model", type=Path, help="GGUF file; by default the shipped SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the new files")
    options = parser.parse_args()
    source = options.model or assets.fetch("smollm2-135m-instruct", Metrics(None))
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        file = options.out / f"{source.stem.rpartition('.')[0] or source.stem}.{kind}.gguf"
        subprocess.run([options.quantizer, "--allow-requantize", source, file, kind], check=True, stdout=sys.stderr)
        print(file)


if __name__ == "__main__":
    main()
