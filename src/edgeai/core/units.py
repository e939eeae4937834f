"""Quantities as people read them: three digits and a scaled unit. Inside the program all values are in SI units."""

_PREFIXES = ("", "k", "M", "G", "T", "P")


def amount(value: float, unit: str = "") -> str:
    """Return a count, size, rate or energy with three digits and a decimal prefix: 98.4 MB, 1.5 ktok, 12 prompts."""
    number = 0
    while abs(value) >= 999.5 and number < len(_PREFIXES) - 1:
        value /= 1000
        number += 1
    return f"{value:.3g} {_PREFIXES[number]}{unit}".rstrip()


def duration(value_s: float) -> str:
    """Return a time span in the units people use: 850 ms, 12.3 s, 4 min 05 s, 2 h 10 min, 3.5 days."""
    if 0 < abs(value_s) < 0.9995:
        return f"{value_s * 1000:.3g} ms"
    if value_s < 59.95:
        return f"{value_s:.3g} s"
    minutes, rest_s = divmod(round(value_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s" if rest_s else f"{minutes} min"
    hours, rest_min = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest_min:02d} min" if rest_min else f"{hours} h"
    days = value_s / 86_400
    return f"{days:.3g} days" if days < 1000 else f"{days:,.0f} days"


def percent(share: float, decimals: int = 1) -> str:
    """Return a share between 0 and 1 as a percentage: 31.7%."""
    return f"{share:.{decimals}%}"


def quantity(value: float, unit: str) -> str:
    """Return a value in the notation of its unit.

    Args:
        value: The value in SI units.
        unit: "s"; "%" for a share; "1" for a ratio, which gets three decimals; or a unit with decimal prefixes.
    """
    if unit == "s":
        return duration(value)
    if unit == "%":
        return percent(value)
    return f"{value:.3f}" if unit == "1" else amount(value, unit)


def unit_of(name: str) -> str:
    """Return the unit that a field's name ends with: "B" for `peak_memory_bytes`, "%" for `coverage_frac`, else ""."""
    if name.endswith("_per_s"):
        return ""
    suffixes = {"_bytes": "B", "_s": "s", "_j": "J", "_bps": "bit/s", "_hz": "Hz", "_frac": "%"}
    return next((unit for suffix, unit in suffixes.items() if name.endswith(suffix)), "")
