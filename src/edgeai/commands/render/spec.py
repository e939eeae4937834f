"""Output of `edgeai spec` that is not a report: the example of a training plan, and one-line summaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from edgeai.commands.render.text import print_blocks, print_json
from edgeai.core.files import json_text
from edgeai.core.report.blocks import Paragraph
from edgeai.core.report.fields import fields_table, leaves, records_table
from edgeai.spec.formats.reports import ExportReport, TensorRow

if TYPE_CHECKING:
    from edgeai.spec.decoding.generation import GenerateReport
    from edgeai.spec.evaluation.bench.report import BenchReport
    from edgeai.spec.formats.reports import ExportPlan
    from edgeai.spec.training.train_report import TrainPlan


def show_train_plan(plan: "TrainPlan", *, as_json: bool) -> None:
    """Print the work of a training run, and one example with the tokens outside the loss dimmed."""
    if as_json:
        print_json(plan.to_json())
        return
    found = leaves(type(plan), plan.to_json())
    print_blocks([fields_table(found, [path for path in found if path != "example"])])
    console = Console(highlight=False)
    if console.is_terminal and not console.no_color:
        print("\nOne example; dimmed tokens do not count in the loss:\n")
        console.print(Text.assemble(*((token.text, "" if token.in_loss else "dim") for token in plan.example)))
    else:
        print("\nOne example; only tokens between >> and << count in the loss:\n")
        print(_bracketed([(token.text, token.in_loss) for token in plan.example]))


def _bracketed(tokens: Sequence[tuple[str, bool]]) -> str:
    """Return the example with the tokens in the loss between >> and <<."""
    out, inside = "", False
    for text, in_loss in tokens:
        out += (">>" if in_loss else "<<") * (in_loss != inside) + text
        inside = in_loss
    return out + "<<" * inside


def answer_footer(report: "GenerateReport") -> str:
    """Return one line on the speed of the answers."""
    cut = " (cut at max_tokens)" if any(answer.finish_reason == "length" for answer in report.answers) else ""
    speed = f"{report.num_tokens} tokens{cut}, {report.tokens_per_s:.1f} tokens/s"
    if report.tree is None:
        return f"{speed}, decoded plainly"
    shape = f"{report.tree.nodes} nodes, depth {report.tree.depth}"
    return f"{speed}, {report.accept_len:.2f} tokens per cycle with {report.drafter}, tree of {shape}"


def bench_verdict(report: "BenchReport") -> str:
    """Return the last lines of a benchmark: whether the texts are equal, and the ratio."""
    peers = [
        f"{peer.name}: edgeai {(peer.speculative_ratio or peer.plain_ratio).median:.2f} times as fast"
        for peer in report.peers
        if peer.plain_ratio
    ]
    peers += [
        f"{peer.name}: {peer.num_unexplained} of {peer.num_answers} answers DIFFER by more than float32 rounding"
        for peer in report.peers
        if peer.num_unexplained
    ]
    peers += [f"{failure.name}: FAILED: {failure.reason}" for failure in report.failed_peers]
    if report.lossless is None:
        return "\n".join(["ratio: 1, decoded plainly, so there is nothing to compare", *peers])
    lossless, ratio = report.lossless, report.ratio.median
    return "\n".join(
        [
            f"{lossless.num_equal} of {lossless.num_answers} speculative answers equal plain ones token for token",
            f"lossless: {'true' if lossless.ok else 'FALSE'}",
            f"ratio: {ratio:.2f}{'' if ratio >= 1 else ', slower than plain decoding'}",
            *peers,
        ]
    )


def show_export_plan(plan: "ExportPlan") -> None:
    """Print the files that would be written: config.json, and each tensor's name, shape and number format."""
    found = leaves(type(plan), plan.to_json())
    print_blocks([fields_table(found, ("head", "target", "format", "num_bytes"))])
    print(f"\nconfig.json\n{json_text(plan.config)}\n\nmodel.safetensors")
    tensors = records_table(TensorRow, plan.to_json()["tensors"], max_rows=len(plan.tensors))
    print_blocks([tensors, *(Paragraph(f"note: {note}") for note in plan.notes)])


def show_export(report: ExportReport) -> None:
    """Print where the export is and whether it drafts what the head drafts."""
    agrees = report.agreement.is_ok
    document = report.to_json() | {"path": f"{report.path}" if agrees else f"{report.path}.partial"}
    compared = () if report.agreement.problems else ("max_difference", "tolerance", "num_steps")
    fields = ("head", "target", "path", "format", "num_bytes", "problems", *compared)
    notes = [Paragraph(f"note: {note}") for note in report.plan.notes]
    print_blocks([fields_table(leaves(ExportReport, document), fields), *notes])
    if agrees:
        print(f"\nserve it:  {report.serve}")
    else:
        print("\nagrees: FALSE; do not serve it, and please report this as a bug")
