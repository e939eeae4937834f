r"""Write prompts of five kinds of task, for acceptance by task in `spec bench`.

    python tests/benchmarks/spec_tasks.py --mt-bench prompts/mt_bench.jsonl --gsm8k prompts/gsm8k.jsonl \
        --out tasks.jsonl
    edgeai spec bench -c spec/race -s peers=[] -s prompts=tasks.jsonl -s max_prompts=100 -s max_tokens=128

Chat, code and questions are first turns of MT-Bench, maths is from GSM8K, and the texts to be summarized are paragraphs
of this project's documentation.
"""

import argparse
import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "concepts"
TASKS = {
    "writing": "chat",
    "roleplay": "chat",
    "coding": "code",
    "stem": "question answering",
    "humanities": "question answering",
}
PER_TASK, SHORTEST = 20, 400


def records(file: Path) -> list[dict]:
    """Records of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def paragraphs() -> list[str]:
    """Paragraphs of prose of the documentation that are worth a summary."""
    texts = [part for page in sorted(DOCS.glob("*.md")) for part in page.read_text(encoding="utf-8").split("\n\n")]
    return [" ".join(text.split()) for text in texts if len(text) >= SHORTEST and text[0].isupper()]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mt-bench", type=Path, required=True)
    parser.add_argument("--gsm8k", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = [
        {"category": TASKS[record["category"]], "turns": record["turns"][:1]}
        for record in records(args.mt_bench)
        if record["category"] in TASKS
    ]
    found += [{"category": "maths", "turns": record["turns"][:1]} for record in records(args.gsm8k)[:PER_TASK]]
    found += [
        {"category": "summarization", "prompt": f"Summarize the following text in two sentences.\n\n{text}"}
        for text in paragraphs()[:PER_TASK]
    ]
    args.out.write_text("".join(json.dumps(entry) + "\n" for entry in found), encoding="utf-8")


if __name__ == "__main__":
    main()
