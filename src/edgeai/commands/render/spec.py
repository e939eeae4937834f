"""The reports of `edgeai spec` for people. Definitions are printed beside the numbers they belong to."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from edgeai.commands.render.text import amount, print_fields, print_json, print_table, seconds
from edgeai.core.config import Config, dump_config
from edgeai.core.files import json_text
from edgeai.spec.config.bench import BenchConfig
from edgeai.spec.config.diagnose import DiagnoseConfig
from edgeai.spec.config.generate import GenerateConfig

if TYPE_CHECKING:
    from edgeai.spec.decoding.generation import GenerateReport
    from edgeai.spec.evaluation.bench_report import BenchPlan, BenchReport, Lossless, Spread
    from edgeai.spec.evaluation.compare_report import Cell, ComparePlan, CompareReport
    from edgeai.spec.evaluation.diagnose_report import DiagnoseReport
    from edgeai.spec.formats.reports import ExportPlan, ExportReport, ImportReport
    from edgeai.spec.training.train_report import TrainPlan, TrainReport

_BAR_WIDTH = 40
_MAX_DIFFERENCES = 8


# --------------------------------------------------------------------------------------------------------------------
# train


def show_train(path: Path, report: "TrainReport") -> None:
    """Prints what training gave, and what to run next."""
    accuracy = "  ".join(f"{value:.1%}" for value in report.step_accuracy)
    print_fields(
        {
            "head": f"{report.head} ({amount(report.num_parameters)} parameters)",
            "trained on": f"{report.num_answer_tokens:,} answer tokens of {report.num_conversations:,} conversations, "
            f"{report.tokens_seen:,} with repeats",
            "draft vocabulary": f"holds {report.coverage_frac:.1%} of the answers' tokens",
            "accuracy": f"{accuracy}  by draft step: draft equals the target's first choice, validation text",
            "accept_len": _trained_accept_len(report),
            "time": f"{seconds(report.train_s)}, {report.num_steps} steps",
            "peak memory": amount(report.peak_memory_bytes, "B"),
        }
    )
    print(f"\nmeasure it:  edgeai spec bench -s draft.path={path}")


def _trained_accept_len(report: "TrainReport") -> str:
    before = "" if report.reference_accept_len is None else f", at first {report.reference_accept_len:.3f}"
    return (
        f"{report.accept_len:.3f} tokens per cycle{before}: validation text decoded with trees like val_tree, by "
        "replay, bonus token counted"
    )


def show_train_plan(plan: "TrainPlan", *, as_json: bool) -> None:
    """Prints what a training run would do, and one example with the tokens outside the loss dimmed."""
    if as_json:
        print_json(plan.to_json())
        return
    sources = {
        "given prompts": plan.num_given_prompts,
        "prompts the target writes": plan.num_self_prompts,
        "answers written earlier": plan.num_written_answers,
    }
    disk = f"at most {amount(plan.max_feature_bytes, 'B')} on disk" if plan.max_feature_bytes else "computed online"
    print_fields(
        {
            "target": f"{plan.target}, {plan.dtype}",
            "features": f"states entering layers {', '.join(map(str, plan.aux_layers))}; {disk}",
            "head": f"{amount(plan.num_parameters)} parameters",
            "text": ", ".join(f"{count} {name}" for name, count in sources.items() if count),
            "steps": _planned_steps(plan),
        }
    )
    if plan.trees:
        trees = plan.trees
        print_fields(
            {
                "trees": f"at {trees.places:.0f} places of a text, "
                f"{trees.nodes:,.0f} to {trees.max_nodes:,.0f} nodes scored",
                "work": f"{trees.work:.1f} to {trees.max_work:.1f} times a target pass over the text, "
                "in each step of GTO",
            }
        )
    console = Console(highlight=False)
    if console.is_terminal and not console.no_color:
        print("\nOne example; dimmed tokens do not count in the loss:\n")
        console.print(Text.assemble(*((token.text, "" if token.in_loss else "dim") for token in plan.example)))
    else:
        print("\nOne example; tokens outside of >> << do not count in the loss:\n")
        print(_bracketed([(token.text, token.in_loss) for token in plan.example]))


def _planned_steps(plan: "TrainPlan") -> str:
    if plan.num_token_steps is None:
        return "known when the text is written"
    return f"{plan.num_token_steps} on tokens, {plan.num_gto_steps} on trees"


def _bracketed(tokens: Sequence[tuple[str, bool]]) -> str:
    """The example for pipes: what counts in the loss stands between >> and <<."""
    out, inside = "", False
    for text, in_loss in tokens:
        out += (">>" if in_loss else "<<") * (in_loss != inside) + text
        inside = in_loss
    return out + "<<" * inside


# --------------------------------------------------------------------------------------------------------------------
# generate


def show_generate_plan(cfg: GenerateConfig, texts: Sequence[str], *, as_json: bool) -> None:
    """Prints the resolved config and how many prompts would be answered."""
    _show_plan(cfg, {"num_prompts": len(texts), "max_tokens": len(texts) * cfg.max_tokens}, as_json=as_json)


def answer_footer(report: "GenerateReport") -> str:
    """One line on how the answers came about."""
    cut = " (cut at max_tokens)" if any(answer.finish_reason == "length" for answer in report.answers) else ""
    speed = f"{report.num_tokens} tokens{cut}, {report.tokens_per_s:.1f} tokens/s"
    if report.tree is None:
        return f"{speed}, decoded plainly"
    shape = f"{report.tree.nodes} nodes, depth {report.tree.depth}"
    return f"{speed}, {report.accept_len:.2f} tokens per cycle with {report.drafter}, tree of {shape}"


# --------------------------------------------------------------------------------------------------------------------
# bench


def show_bench_plan(cfg: BenchConfig, plan: "BenchPlan", *, as_json: bool) -> None:
    """Prints the resolved config and how much would be decoded."""
    _show_plan(cfg, plan.to_json(), as_json=as_json)


def show_bench(path: Path, report: "BenchReport") -> None:
    """Prints the comparison; the last line says what came of it."""
    shape = f"{report.num_answers} answers of at most {report.max_tokens} tokens, repeats {report.repeats}"
    draft = report.draft
    if report.coverage_frac is not None:
        draft += f"; its vocabulary holds {report.coverage_frac:.1%} of the plain answers' tokens"
    print_fields(
        {
            "target": f"{report.target}, {report.dtype}",
            "machine": report.hardware,
            "prompts": f"{report.prompts}: {report.num_prompts} prompts, {shape}, temperature {report.temperature:g}",
            "draft": draft,
            "tree": report.tree_why,
            "peak memory": amount(report.peak_memory_bytes, "B"),
            "report": path / "report.json",
        }
    )
    print()
    print_table(["tokens/s", "median", "min", "max", "ratio", "same text as plain"], _speed_rows(report))
    print(f"  {report.tokens_per_s_definition}")
    if report.mode == "speculative":
        _show_acceptance(report)
    _show_costs(report)
    print()
    if report.lossless is None:
        print("ratio: 1, decoded plainly, so there is nothing to compare")
        return
    _show_differences(report.lossless, report.dtype)
    ratio = report.ratio.median
    print(f"lossless: {'true' if report.lossless.ok else 'FALSE'}")
    print(f"ratio: {ratio:.2f}{'' if ratio >= 1 else ', slower than plain decoding'}")


def _speed_rows(report: "BenchReport") -> list[list[str]]:
    def row(name: str, speed: "Spread", ratio: str, same: str) -> list[str]:
        return [name, f"{speed.median:.1f}", f"{speed.minimum:.1f}", f"{speed.maximum:.1f}", ratio, same]

    plain = report.plain_tokens_per_s
    rows = [row("plain", plain, "1.00", "")]
    if report.lossless:
        ratio = report.ratio
        spread = f"{ratio.median:.2f}" + (
            f" ({ratio.minimum:.2f} to {ratio.maximum:.2f})" if report.repeats > 1 else ""
        )
        same = f"{report.lossless.num_equal} of {report.lossless.num_answers}"
        rows.append(row("speculative", report.speculative_tokens_per_s, spread, same))
    for peer in report.peers:
        ratio_of_medians = f"{peer.tokens_per_s.median / plain.median:.2f}"
        rows.append(row(peer.name, peer.tokens_per_s, ratio_of_medians, f"{peer.num_equal} of {peer.num_answers}"))
    return rows


def _show_acceptance(report: "BenchReport") -> None:
    print(
        f"\naccept_len {report.accept_len:.2f} ({report.num_tokens:,} tokens in {report.num_cycles:,} cycles, "
        f"{report.draft_nodes:.1f} draft nodes a cycle)\n  {report.accept_len_definition}"
    )
    print(f"\naccepted, by depth in the tree\n  {report.acceptance_definition}")
    for depth, share in enumerate(report.acceptance, start=1):
        print(f"  {depth:>2}  {share:>6.1%}  {'█' * round(share * _BAR_WIDTH)}")
    cycle = report.cycle
    parts = {"draft": cycle.draft_s, "verify": cycle.verify_s, "accept + commit": cycle.commit_s}
    total_s = sum(parts.values())
    shares = ", ".join(f"{name} {part_s * 1e3:.2f} ms ({part_s / total_s:.0%})" for name, part_s in parts.items())
    print(f"\na cycle of {total_s * 1e3:.2f} ms: {shares}; outside of it {cycle.rest_s * 1e3:.2f} ms")


def _show_costs(report: "BenchReport") -> None:
    first_s = report.cost_curve[0].verify_s
    print("\nT(n), time to verify n tokens in one pass of the target:")
    header = [str(cost.num_tokens) for cost in report.cost_curve]
    times = [f"{cost.verify_s * 1e3:.1f}" for cost in report.cost_curve]
    relative = [f"{cost.verify_s / first_s:.2f}" for cost in report.cost_curve]
    width = max(len(cell) for cell in (*header, *times, *relative))
    for name, cells in (("n", header), ("ms", times), ("T(n)/T(1)", relative)):
        print(f"  {name:<9} " + " ".join(f"{cell:>{width}}" for cell in cells))


def _show_differences(lossless: "Lossless", dtype: str) -> None:
    """How many answers are equal, and the evidence for the differences."""
    print(f"{lossless.num_equal} of {lossless.num_answers} speculative answers equal plain ones token for token")
    if not lossless.differences:
        return
    if lossless.num_ties:
        print(
            f"  near-ties that fell the other way: {lossless.num_ties}, within the rounding noise of {dtype} (here the "
            f"logits of kernels for one and for n tokens differ by up to {lossless.noise:.3g})"
        )
    if lossless.num_mismatches:
        print(f"  differences that rounding does not explain: {lossless.num_mismatches}; please report this as a bug")
    rows = []
    ordered = sorted(lossless.differences, key=lambda entry: entry.difference.is_tie)
    for entry in ordered[:_MAX_DIFFERENCES]:
        seen = entry.difference
        where = f"{entry.prompt} turn {entry.turn + 1} token {seen.position}"
        gap = "" if seen.gap is None else f"{seen.gap:.3g}"
        verdict = "tie" if seen.is_tie else seen.why
        rows.append(
            [where, repr(seen.plain), repr(seen.speculative), gap, f"{seen.shift:.3g}", f"{seen.noise:.3g}", verdict]
        )
    print_table(["where", "plain", "speculative", "gap", "shift", "noise", "verdict"], rows)
    if len(ordered) > _MAX_DIFFERENCES:
        print(f"  and {len(ordered) - _MAX_DIFFERENCES} more, all in the report")
    print(
        "  gap: between the two tokens' logits; shift: of any logit; noise: measured, gap <= noise and shift <= 2 noise"
    )


# --------------------------------------------------------------------------------------------------------------------
# diagnose


def show_diagnose_plan(cfg: DiagnoseConfig, *, as_json: bool) -> None:
    """Prints the resolved config and how much would be decoded at most."""
    _show_plan(cfg, {"max_tokens": cfg.max_prompts * cfg.max_tokens}, as_json=as_json)


def show_diagnose(path: Path, report: "DiagnoseReport") -> None:
    """Prints what the trees did beside the greedy path."""
    tree = report.tree
    print_fields(
        {
            "head": f"{report.drafter} for {report.target}",
            "tree": f"{tree['nodes']} nodes, depth {tree['depth']}, top-k {tree['top_k']}",
            "cycles": f"{report.num_cycles:,} over {report.num_prompts} prompts, temperature {report.temperature:g}",
            "report": path / "report.json",
        }
    )
    print(f"\ngreedy path (the head's first choice at each of {tree['depth']} levels) against the tree, per cycle")
    print_table(
        ["", "", "meaning"],
        [
            ["pruned", f"{report.pruned_frac:.1%}", "the tree does not hold the whole greedy path"],
            ["same path", f"{report.same_path_frac:.1%}", "the greedy path alone would have had as much accepted"],
            ["accept_len, greedy path", f"{report.greedy_accept_len:.2f}", "tokens per cycle, bonus token counted"],
            ["accept_len, tree", f"{report.tree_accept_len:.2f}", ""],
            [
                "accept_len, predicted",
                f"{report.predicted_accept_len:.2f}",
                "1 + the head's probabilities of the nodes",
            ],
        ],
    )
    print("\nacceptance by depth")
    print_table(
        ["depth", "predicted", "measured"],
        [
            [str(depth), f"{predicted:.1%}", f"{measured:.1%}"]
            for depth, (predicted, measured) in enumerate(zip(report.predicted, report.measured, strict=True), start=1)
        ],
    )


# --------------------------------------------------------------------------------------------------------------------
# compare


def show_compare_plan(plan: "ComparePlan", *, as_json: bool) -> None:
    """Prints what would be trained and measured."""
    if as_json:
        print_json(plan.to_json())
        return
    rows = [[h.name, "measured as it is" if h.is_done else "trained", h.num_steps, h.path] for h in plan.heads]
    print_table(["head", "", "steps", "where"], rows)
    print()
    steps = "known when the text is written" if plan.num_steps is None else f"{plan.num_steps:,} optimiser steps"
    print_fields(
        {
            "trainings": f"{plan.num_trainings}, {steps}",
            "texts": f"{plan.num_texts:,} answers of the target",
            "replays": f"{plan.num_replays:,}, one for each text, head and tree",
        }
    )


def show_compare(path: Path, report: "CompareReport") -> None:
    """Prints one table for each tree, and what training cost."""
    prompts = ", ".join(f"{name} ({count} prompts)" for name, count in report.num_prompts.items())
    print_fields(
        {
            "target": f"{report.target}, {report.dtype}",
            "texts": f"{prompts}, answers of at most {report.max_tokens} tokens",
            "baseline": report.baseline,
            "plot": path / "accept_len.png" if report.curves else None,
            "report": path / "report.json",
        }
    )
    for tree in dict.fromkeys(cell.tree for cell in report.cells):
        print(f"\naccept_len (tokens per cycle, bonus token counted), {tree}")
        rows, last = list[list[str]](), ("", "")
        for cell in report.cells:
            if cell.tree != tree:
                continue
            place = (cell.benchmark, f"{cell.temperature:g}")
            rows.append([*(place if place != last else ("", "")), cell.variant, *_compared(cell)])
            last = place
        print_table(
            ["benchmark", "T", "variant", "accept_len", "min to max", "ratio", "min to max", "95 % over prompts"], rows
        )
    print(
        f"  ratio: to {report.baseline}, of heads with the same seed; min to max: over seeds; 95 %: of the mean ratio, "
        "if prompts are drawn anew"
    )
    if report.costs:
        print("\ntraining")
        print_table(
            ["variant", "s per optimiser step", "ratio"],
            [[cost.variant, f"{cost.step_s:.3g}", f"{cost.ratio:.2f}" if cost.ratio else ""] for cost in report.costs],
        )
    for name, reason in report.failures.items():
        print(f"\nFAILED {name}: {reason}")


def _compared(cell: "Cell") -> list[str]:
    spread = f"{cell.minimum:.3f} to {cell.maximum:.3f}" if len(cell.accept_len) > 1 else ""
    if cell.ratio is None:
        return [f"{cell.mean:.3f}", spread, "", "", ""]
    ratio = cell.ratio
    seeds = f"{ratio.minimum:.3f} to {ratio.maximum:.3f}" if ratio.minimum != ratio.maximum else ""
    return [f"{cell.mean:.3f}", spread, f"{ratio.mean:.3f}", seeds, f"{ratio.low:.3f} to {ratio.high:.3f}"]


# --------------------------------------------------------------------------------------------------------------------
# export and import


def show_export_plan(plan: "ExportPlan") -> None:
    """Prints the files that would be written: config.json, and each tensor's name, shape and number format."""
    print_fields({"head": f"{plan.head} for {plan.target}", "format": plan.format, "size": amount(plan.num_bytes, "B")})
    print(f"\nconfig.json\n{json_text(plan.config)}\n\nmodel.safetensors")
    print_table(["tensor", "shape", "format"], [[row.name, list(row.shape), row.dtype] for row in plan.tensors])
    for note in plan.notes:
        print(f"\nnote: {note}")


def show_export(report: "ExportReport") -> None:
    """Prints where the export is and whether it drafts what the head drafts."""
    plan, agreement = report.plan, report.agreement
    compared = "not compared"
    if not agreement.problems:
        compared = (
            f"largest difference {agreement.max_difference:.2g}, allowed {agreement.tolerance:.2g}: draft logits of "
            "the head and of the files read back, steps 1 and 2 behind a prompt"
        )
    where = report.path if agreement.is_ok else f"{report.path}.partial"
    print_fields(
        {
            "head": f"{plan.head} for {plan.target}",
            "written": f"{where} as {plan.format}, {len(plan.tensors)} tensors, {amount(plan.num_bytes, 'B')}",
            "tensors": "as the format's table says" if not agreement.problems else "; ".join(agreement.problems),
            "logits": compared,
        }
    )
    for note in plan.notes:
        print(f"\nnote: {note}")
    if agreement.is_ok:
        print(f"\nserve it:  {report.serve}")
    else:
        print("\nagrees: FALSE; do not serve it, and please report this as a bug")


def show_import(report: "ImportReport") -> None:
    """Prints what was read, so that a person can compare it with what the head's author says."""
    written = report.path is not None
    print_fields(
        {
            "head": f"{report.source}, {report.format}, {amount(report.num_parameters)} parameters in {report.dtype}",
            "target": f"{report.target}, features entering layers {', '.join(map(str, report.aux_layers))}",
            "draft vocabulary": f"{report.draft_vocab_size:,} of {report.vocab_size:,} tokens",
            "positions": report.rope,
            "switches": ", ".join(report.switches) or "none",
            "written": report.path if written else "nothing yet (--dry-run)",
        }
    )
    if written:
        print(f"\nmeasure it:  edgeai spec bench -s draft.path={report.path} -s target.model={report.target}")


def _show_plan(cfg: Config, plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"config": cfg.model_dump(mode="json"), "plan": plan})
        return
    sys.stdout.write(dump_config(cfg))
    print()
    print_fields(plan)
