"""The recommendation of `edgeai fedsplit advise` as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeai.core.units import amount, duration, quantity
from edgeai.fedsplit.advise.crossover import Crossover
from edgeai.fedsplit.reports.advise_report import Choice

NOTES = (
    "Costs are per round of local_epochs epochs on every client.",
    "The number of rounds that a method needs for a given accuracy does not follow from shapes: compare the best "
    "choices with edgeai fedsplit compare.",
    "Leakage of smashed data is not measured here, and their size says little about it. "
    "Measure it with edgeai fedsplit sim -s leakage.dcor=true.",
    "Links run at their mean rate, without jitter or outages, and no client drops out.",
)


def recommend(choices: Sequence[Choice], crossovers: Sequence[Crossover], num_samples: int) -> tuple[str, ...]:
    """Return sentences that recommend choices and give reasons.

    Args:
        choices: All choices, with the Pareto set marked.
        crossovers: Crossover of every cut.
        num_samples: Samples per client.
    """
    fitting = [choice for choice in choices if choice.fits]
    lines = [_about_memory(choices, fitting)]
    pool = fitting or list(choices)
    overall = balanced(pool)
    lines.append(
        f"Balanced choice: {overall.name}: {duration(overall.seconds)}, {amount(overall.total_bytes, 'B')} and "
        f"{amount(overall.total_j, 'J')} per round, {amount(overall.client_memory_bytes, 'B')} of memory on a client."
    )
    lines += [
        _extreme("Fastest", pool, overall, lambda choice: choice.seconds, "s"),
        _extreme("Fewest bytes", pool, overall, lambda choice: choice.total_bytes, "B"),
        _extreme("Least energy", pool, overall, lambda choice: choice.total_j, "J"),
        _extreme("Least memory on a client", pool, overall, lambda choice: choice.client_memory_bytes, "B"),
    ]
    lines.append(_about_crossover(crossovers, num_samples))
    if overall.cut and not overall.client_flops_frac:
        lines.append(
            f"The layers up to {overall.cut} only look up or move values: inputs can be read off the smashed data. "
            "Choose a deeper cut if inputs are private."
        )
    if not overall.averages_clients:
        lines.append(f"{overall.method} does not average the client parts: every client ends with its own model.")
    if overall.labels_leave:
        lines.append(f"With {overall.method} the server sees labels; if it must not, use fedavg or ushape.")
    return tuple(lines)


def balanced(choices: Sequence[Choice]) -> Choice:
    """Return the choice with the smallest product of time, bytes and energy."""

    def product(choice: Choice) -> float:
        return sum(math.log(max(1e-12, cost)) for cost in (choice.seconds, choice.total_bytes, choice.total_j))

    return min(choices, key=product)


def _about_memory(choices: Sequence[Choice], fitting: Sequence[Choice]) -> str:
    if len(fitting) == len(choices):
        return f"All {len(choices)} choices fit the memory of clients and server."
    if fitting:
        return (
            f"{len(fitting)} of {len(choices)} choices fit the memory of clients and server; the others are left out."
        )
    least = min(choices, key=lambda choice: choice.client_memory_bytes)
    return (
        f"No choice fits the memory of clients and server. On the clients, {least.name} needs least: "
        f"{amount(least.client_memory_bytes, 'B')}, with {amount(least.server_memory_bytes, 'B')} at the server. "
        "A smaller batch needs less."
    )


def _extreme(title: str, pool: Sequence[Choice], overall: Choice, cost: Callable[[Choice], float], unit: str) -> str:
    best = min(pool, key=cost)
    if cost(best) == cost(overall):
        return f"{title}: the same, {quantity(cost(overall), unit)}."
    times = cost(overall) / cost(best)
    return f"{title}: {best.name}, {quantity(cost(best), unit)}, {times:.3g} times less."


def _about_crossover(crossovers: Sequence[Crossover], num_samples: int) -> str:
    """Return a sentence that compares the number of samples with the cuts' crossovers."""
    cheaper = [item for item in crossovers if num_samples < item.samples_by_ledger]
    last = max(crossovers, key=lambda item: item.samples_by_ledger)
    limit = f"{last.samples_by_ledger:,.0f} samples per client (cut after {last.cut})"
    if cheaper:
        names = ", ".join(item.cut for item in cheaper[:5]) + (" ..." if len(cheaper) > 5 else "")
        return (
            f"With {num_samples:,} samples per client, splitting after {names} transfers fewer bytes than fedavg; "
            f"some cut does so up to {limit}."
        )
    return (
        f"With {num_samples:,} samples per client, fedavg transfers fewer bytes than full-gradient splitting at any "
        f"cut; below {limit} splitting does."
    )
