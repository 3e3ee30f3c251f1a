"""Figures in words: one way to write a number, an interval, a probability, in every form of a report."""

import math
from collections.abc import Sequence
from typing import Any

from paperzoo.reports.model import Interval, Report, Verdict

NONE = "\N{EN DASH}"  # where there is no figure
SYMBOLS: dict[Verdict, str] = {
    "better": "▲",
    "worse": "▼",
    "looks better": "△",
    "looks worse": "▽",
    "no difference": "=",
    "undecided": "?",
}

DECOMPOSITION = (
    "The mean error on the test split is bias² + variance (Kohavi and Wolpert, 1996, zero-one loss without noise): "
    "variance is half the share of images on which two runs of a variant differ, over all pairs of seeds. "
    "Intervals are of 95 %, by the jackknife over seeds, for these test images, and not adjusted for the number of "
    "variants; differences are paired by seed."
)


def number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals from 0.1 on, three significant digits below: 87.93, 0.0123."""
    return NONE if value is None else _number(value, value, signed)


def _number(value: float, largest: float, signed: bool) -> str:
    """A number with the decimals that the largest of its neighbours has."""
    if not math.isfinite(value):
        return str(value)
    value = 0.0 if abs(value) < 1e-9 * abs(largest) else value  # a rounding
    digits = f"{abs(value):.2f}" if abs(largest) >= 0.09995 or value == 0 else f"{abs(value):.3g}"
    sign = "\N{MINUS SIGN}" if value < 0 else "+" if signed else ""
    return sign + digits


def interval(value: Interval | None, unit: str = "", *, signed: bool = False) -> str:
    """87.93 % (87.41 to 88.45)."""
    if value is None:
        return NONE
    shown = f"{mean(value, signed=signed)} {unit}".strip()
    ends = bounds(value, signed=signed)
    return f"{shown} ({ends})" if ends else shown


def mean(value: Interval, *, signed: bool = False) -> str:
    """With as many decimals as its interval has."""
    return _number(value.mean, _largest(value), signed)


def bounds(value: Interval, *, signed: bool = False) -> str:
    """87.41 to 88.45, both with as many decimals; nothing where there is no interval."""
    if value.low is None or value.high is None:
        return ""
    largest = _largest(value)
    return f"{_number(value.low, largest, signed)} to {_number(value.high, largest, signed)}"


def _largest(value: Interval) -> float:
    return max(abs(number) for number in (value.low, value.mean, value.high) if number is not None)


def together(values: Sequence[float]) -> list[str]:
    """Numbers with as many decimals as the largest of them has."""
    return [_number(value, max(map(abs, values)), False) for value in values]


def probability(value: float | None) -> str:
    """Three decimals; what is nearer to 0 or 1 than they show is said to be."""
    if value is None or not math.isfinite(value):
        return NONE
    if 0.9995 <= value < 1:
        return "> .999"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def short(value: float | None, digits: int = 3) -> str:
    """Three digits (or as many as asked for) and a unit: 25.6 M."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * power:  # what rounds to 1
            return f"{value / power:.{digits}g} {unit}"
    return f"{value:.{digits}g}"


def seconds(value: float | None) -> str:
    """12.3 s, 4 min 05 s, 2 h 10 min."""
    if value is None or not math.isfinite(value):
        return NONE
    whole = round(value)
    if whole < 60:
        return f"{value:.3g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def memory(value: float | None) -> str:
    """Of MiB: 513 MiB, 1.44 GiB."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.0f} MiB" if value < 1023.5 else f"{value / 1024:.2f} GiB"


def setting(value: Any) -> str:
    """A setting as the command line takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def verdict(value: Verdict, report: Report) -> str:
    """The verdict with its symbol, which tells it without colour."""
    return f"{SYMBOLS[value]} {verdict_words(value, report.worth, report.points)}"


def verdict_words(value: Verdict, worth: float | None, points: str) -> str:
    """The verdict in words; that of no difference says how large one may still be."""
    if value != "no difference":
        return value
    return f"no difference larger than {number(worth)} {points}".strip()


def printable(text: str) -> str:
    """Text without the control characters that XML refuses and terminals obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
