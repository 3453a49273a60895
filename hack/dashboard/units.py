"""How a value is written in the units of the dashboard, as Grafana writes it. Pure; called by picture.py."""

from math import isnan

SCALES = {"short": ((1e6, "M"), (1e3, "K")), "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"))}
DURATIONS = ((86_400, " day"), (3_600, " h"), (60, " min"), (1, " s"), (0.001, " ms"))


def written(value: float, unit: str) -> str:
    """With at most three digits before the unit."""
    if isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{plain(100 * value)}%"
    scales = DURATIONS if unit == "s" else SCALES.get(unit, SCALES["short"])
    for size, name in scales:
        if abs(value) >= size:
            return f"{plain(value / size)}{name}"
    return plain(value) + (" s" if unit == "s" else "") + (" req/s" if unit == "reqps" else "")


def plain(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1_000 else f"{value:.0f}"
