"""The variants with every seed, and their paired differences from the baseline."""

import math

from paperzoo.reports import wording
from paperzoo.reports.figures.style import (
    GRID,
    INK,
    MOST,
    MUTED,
    PAPER,
    STYLES,
    Sketch,
    best_first,
    draw_interval,
    finite,
    key,
    legend,
    listed,
    metric_label,
    reference_line,
    rows_of,
    short_name,
    wrapped,
)
from paperzoo.reports.model import Comparison, Report, Verdict

VERDICTS: dict[Verdict, tuple[str, str, str]] = {  # colour, marker, fill
    "better": ("#0072b2", "^", "#0072b2"),
    "worse": ("#D55E00", "v", "#D55E00"),
    "looks better": ("#0072b2", "^", PAPER),
    "looks worse": ("#D55E00", "v", PAPER),
    "no difference": ("#009E73", "D", "#009E73"),
    "undecided": (MUTED, "o", PAPER),
}


def draw_variants(report: Report) -> Sketch | None:
    """Every seed, the mean and its interval; the best on top."""
    variants = best_first(report, [variant for variant in report.variants if finite(variant.scores)])
    if not variants:
        return None
    shown = variants[:MOST]
    labels = [wrapped(variant.name) for variant in shown]
    figure, axes, rows = rows_of(labels)
    for row, variant in zip(rows, shown, strict=True):
        scores = finite(variant.scores)
        if len(scores) > 1:
            heights = [row + 0.09 * (index % 3 - 1) for index in range(len(scores))]  # equal scores stay apart
            axes.plot(scores, heights, "o", color=MUTED, markersize=3, fillstyle="none")
        color, marker, _ = STYLES[0] if variant.baseline else STYLES[1]
        draw_interval(axes, variant.score, row, color=color, marker=marker, markersize=6)
    reference_line(axes, next((variant.score for variant in variants if variant.baseline), None), report)
    axes.set_xlabel(metric_label(report))
    one = all(len(finite(variant.scores)) == 1 for variant in shown)
    keys = [] if one else [key(MUTED, "o", "a seed", fill="none")]
    keys.append(key(STYLES[1][0], "s", "one run" if one else "mean and 95 % interval"))
    if any(variant.baseline for variant in shown):
        keys.append(key(INK, "o", "baseline"))
    legend(figure, keys)
    rest = f"; the best {len(shown)} of {len(variants)}" if len(shown) < len(variants) else ""
    alt = f"{metric_label(report)} of each variant, best first{rest}: " + listed(
        f"{variant.name} {wording.interval(variant.score, report.unit)}" for variant in shown
    )
    return Sketch("variants", f"Each variant, every seed{rest}", alt, figure)


def draw_differences(report: Report) -> Sketch | None:
    """The paired differences to the baseline with their intervals, in the order of the variants' figure."""
    order = {variant.name: place for place, variant in enumerate(best_first(report, report.variants))}
    known = [line for line in report.comparisons if line.difference and math.isfinite(line.difference.mean)]
    known.sort(key=lambda line: order.get(line.variant, len(order)))
    shown = known[:MOST]
    if not shown:
        return None
    figure, axes, rows = rows_of(
        [f"{wrapped(line.variant)}\n{wrapped(wording.verdict(line.verdict, report))}" for line in shown]
    )
    for row, line in zip(rows, shown, strict=True):
        color, marker, fill = VERDICTS[line.verdict]
        draw_interval(axes, line.difference, row, color=color, marker=marker, markersize=7, markerfacecolor=fill)
    if report.worth:
        axes.axvspan(-report.worth, report.worth, color=GRID, alpha=0.7, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.margins(x=0.08)
    baseline = next((variant.name for variant in report.variants if variant.baseline), "baseline")
    unit = "percentage points" if report.unit == "%" else wording.printable(report.unit)
    axes.set_xlabel(f"difference from {short_name(baseline, 22)}\n{_sides(report, unit)}")
    band = ""
    if report.worth:
        band = f"; grey: less than {wording.number(report.worth)} {report.points}".rstrip()
    adjusted = "95 % interval" + (" adjusted over the variants" if len(report.comparisons) > 1 else "")
    alt = f"Paired difference from {baseline} with {adjusted}{band}: " + listed(map(_difference, shown))
    return Sketch("differences", f"Paired differences from {baseline}, {adjusted}{band}", alt, figure)


def _difference(line: Comparison) -> str:
    return f"{line.variant} {wording.interval(line.difference, '', signed=True)}, {line.verdict}"


def _sides(report: Report, unit: str) -> str:
    left, right = ("worse", "better") if report.goal == "maximize" else ("better", "worse")
    return "\N{EM SPACE}".join(filter(None, (f"◂ {left}", unit, f"{right} ▸")))  # SVG joins other spaces
