"""The figures of a report: SVG that turns with the reader's light or dark, and PNG. They compute nothing but drawing.

Colours are Okabe and Ito's, and a marker or a line style says the same a second time. A figure is as wide as a phone's
page, so that its letters need no magnifying glass; its height grows with the arms.
"""

import importlib.util
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from paperzoo.cards import PAPERS
from paperzoo.reports import wording
from paperzoo.reports.model import Arm, Comparison, Interval, Report, Verdict

WIDTH = 4.4  # inches: 422 pixels at 96 dpi
NAME, LINES = 22, 4  # characters and lines of a name beside an axis
CROWD = 300  # runs of a search that lines can be told of
MOST = 30  # arms that one figure shows, the best of a search
TOLD_APART = 7  # arms that have a style of their own

INK, MUTED, GRID, PAPER = "#1f2430", "#767c88", "#dfe2e8", "#fefefe"
DARK = {INK: "#e7eaf0", MUTED: "#949cab", GRID: "#363c48", PAPER: "#171a20", "#0072b2": "#3b9ee0"}
STYLES = (  # colour, marker, line; the first is the baseline's
    (INK, "o", "-"),
    ("#0072b2", "s", "-"),
    ("#D55E00", "^", "--"),
    ("#009E73", "D", "-."),
    ("#CC79A7", "v", ":"),
    ("#E69F00", "P", (0, (6, 1, 1, 1, 1, 1))),
    ("#56B4E9", "X", (0, (5, 1))),
)
VERDICTS: dict[Verdict, tuple[str, str, str]] = {  # colour, marker, fill
    "better": ("#0072b2", "^", "#0072b2"),
    "worse": ("#D55E00", "v", "#D55E00"),
    "direction": ("#009E73", "D", PAPER),
    "no difference seen": (MUTED, "o", PAPER),
    "too few seeds": (MUTED, "x", MUTED),
}
RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # letters that can be searched and copied
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollars is no formula
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, ready to be written."""

    name: str  # of its files
    title: str
    alt: str  # what it shows, in words
    svg: str
    png: bytes


@dataclass(frozen=True)
class _Sketch:
    name: str
    title: str
    alt: str
    figure: Figure


def write_figures(report: Report, folder: Path, drawings: Sequence[Drawing] | None = None) -> list[Path]:
    """Write every figure of a report as ``<name>.svg`` and ``<name>.png``; the same report gives the same bytes.

    Args:
        report: what to draw.
        folder: is made where it is missing.
        drawings: of this report, where ``draw`` has been called already.

    Returns:
        The files, in the order of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for drawing in draw(report) if drawings is None else drawings:
        paths += [folder / f"{drawing.name}.svg", folder / f"{drawing.name}.png"]
        paths[-2].write_text(drawing.svg, encoding="utf-8")
        paths[-1].write_bytes(drawing.png)
    return paths


def draw(report: Report) -> list[Drawing]:
    """Every figure that the report has the figures for, in the order of the page."""
    defaults: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(defaults | RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")  # a name in letters DejaVu lacks
        return [_render(sketch) for sketch in _sketches(report)]


def _sketches(report: Report) -> Iterator[_Sketch]:
    makers: tuple[Callable[[Report], _Sketch | None], ...] = (
        (_arms, _differences, _curves, _cost)
        if report.method == "grid"
        else (_arms, _parallel, _importance, _curves, _cost)
    )
    yield from filter(None, (maker(report) for maker in makers))
    for name, figure in _pictures_of_papers(report):
        title = figure.get_suptitle() or name
        yield _Sketch(name, title, f"{title}: a picture of the paper's own", figure)


def _pictures_of_papers(report: Report) -> Iterator[tuple[str, Figure]]:
    """What ``figures(report)`` of each ``papers/<paper>/pictures.py`` adds; {} where it has nothing to say.

    The file is loaded by its path: importing its paper would load torch, which no report needs.
    """
    for path in sorted(PAPERS.glob("*/pictures.py")):
        spec = importlib.util.spec_from_file_location(f"_pictures_of_{path.parent.name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from module.figures(report).items()


# The arms and their differences


def _arms(report: Report) -> _Sketch | None:
    """Every seed, the mean and its interval; the best on top."""
    arms = best_first(report, [arm for arm in report.arms if _finite(arm.scores)])
    if not arms:
        return None
    shown = arms[:MOST]
    labels = [_wrapped(arm.name) for arm in shown]
    figure, axes, rows = _rows(labels)
    for row, arm in zip(rows, shown, strict=True):
        scores = _finite(arm.scores)
        if len(scores) > 1:
            heights = [row + 0.09 * (index % 3 - 1) for index in range(len(scores))]  # equal scores stay apart
            axes.plot(scores, heights, "o", color=MUTED, markersize=3, fillstyle="none")
        color, marker, _ = STYLES[0] if arm.baseline else STYLES[1]
        _interval(axes, arm.score, row, color=color, marker=marker, markersize=6)
    _reference(axes, next((arm.score for arm in arms if arm.baseline), None), report)
    axes.set_xlabel(_metric(report))
    one = all(len(_finite(arm.scores)) == 1 for arm in shown)
    keys = [] if one else [_key(MUTED, "o", "a seed", fill="none")]
    keys.append(_key(STYLES[1][0], "s", "one run" if one else "mean and 95 % interval"))
    if any(arm.baseline for arm in shown):
        keys.append(_key(INK, "o", "baseline"))
    _legend(figure, keys)
    rest = f"; the best {len(shown)} of {len(arms)}" if len(shown) < len(arms) else ""
    alt = f"{_metric(report)} of each arm, best first{rest}: " + _list(
        f"{arm.name} {wording.interval(arm.score, report.unit)}" for arm in shown
    )
    return _Sketch("arms", f"Each arm, every seed{rest}", alt, figure)


def _differences(report: Report) -> _Sketch | None:
    """The paired differences to the baseline with their intervals, in the order of the arms' figure."""
    order = {arm.name: place for place, arm in enumerate(best_first(report, report.arms))}
    known = [line for line in report.comparisons if line.difference and math.isfinite(line.difference.mean)]
    known.sort(key=lambda line: order.get(line.arm, len(order)))
    shown = known[:MOST]
    if not shown:
        return None
    figure, axes, rows = _rows([f"{_wrapped(line.arm)}\n{wording.verdict(line.verdict)}" for line in shown])
    for row, line in zip(rows, shown, strict=True):
        color, marker, fill = VERDICTS[line.verdict]
        _interval(axes, line.difference, row, color=color, marker=marker, markersize=7, markerfacecolor=fill)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.margins(x=0.08)
    baseline = next((arm.name for arm in report.arms if arm.baseline), "baseline")
    unit = "percentage points" if report.unit == "%" else wording.printable(report.unit)
    axes.set_xlabel(f"difference to {_short_name(baseline, 24)}\n{_sides(report, unit)}")
    alt = f"Paired difference to {baseline} with 95 % interval: " + _list(map(_difference, shown))
    return _Sketch("differences", f"Paired differences to {baseline}", alt, figure)


def _difference(line: Comparison) -> str:
    return f"{line.arm} {wording.interval(line.difference, '', signed=True)}, {line.verdict}"


def _sides(report: Report, unit: str) -> str:
    left, right = ("worse", "better") if report.goal == "maximize" else ("better", "worse")
    return "\N{EM SPACE}".join(filter(None, (f"◂ {left}", unit, f"{right} ▸")))  # SVG joins other spaces


# Learning curves


def _curves(report: Report) -> _Sketch | None:
    """The validation metric by epoch: mean over the seeds, and the band from the lowest to the highest."""
    metric = f"val/{report.metric.rsplit('/', 1)[-1]}"
    curves = {arm.name: _curve(arm, metric, 100 if report.unit == "%" else 1) for arm in report.arms}
    arms = [arm for arm in best_first(report, report.arms) if curves[arm.name]]
    if not arms:
        return None
    styles = _styles(arms)
    figure = Figure(figsize=(WIDTH, 3.0 + _legend_height(styles)), layout="constrained")
    axes = figure.subplots()
    for arm in arms if len(arms) <= MOST else [*arms[:MOST], *(arm for arm in arms[MOST:] if arm.baseline)]:
        epochs, low, mean, high = zip(*curves[arm.name], strict=True)
        if arm.name not in styles:
            axes.plot(epochs, mean, color=MUTED, linewidth=0.6, alpha=0.6, zorder=1)
            continue
        color, marker, line = styles[arm.name]
        axes.plot(epochs, mean, color=color, linestyle=line, marker=marker, markersize=4, markevery=_every(len(epochs)))
        axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=wording.printable(f"{metric} ({report.unit})" if report.unit else metric))
    _legend(figure, _arm_keys(styles, len(arms)))
    last = _list(f"{arm.name} {wording.number(curves[arm.name][-1][2])}" for arm in arms)
    alt = f"{metric} by epoch, mean over the seeds and band from the lowest to the highest; at the end: {last}"
    return _Sketch("curves", "Validation by epoch: mean, and band from the lowest to the highest seed", alt, figure)


def _curve(arm: Arm, metric: str, scale: float) -> list[tuple[float, float, float, float]]:
    """(epoch, lowest, mean, highest) over the runs that reached the epoch."""
    values: dict[float, list[float]] = {}
    for run in arm.runs:
        for row in run.epochs:
            value = row.get(metric)
            if isinstance(value, int | float) and math.isfinite(value) and "epoch" in row:
                values.setdefault(row["epoch"], []).append(scale * value)
    return [(epoch, min(v), math.fsum(v) / len(v), max(v)) for epoch, v in sorted(values.items())]


# Accuracy against cost

COSTS = {"parameters": "parameters", "macs": "MACs per image", "seconds": "seconds per run"}


def _cost(report: Report) -> _Sketch | None:
    """The score against each cost; a line joins the arms that no other beats in both."""
    scored = [arm for arm in best_first(report, report.arms) if arm.score and math.isfinite(arm.score.mean)]
    panels = {key: [arm for arm in scored if _has(arm, key)] for key in COSTS}
    panels = {key: arms for key, arms in panels.items() if len(arms) > 1}
    if not panels:
        return None
    styles = _styles(scored)
    height = 2.1 * len(panels) + _legend_height(styles) + 0.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    fronts = []
    for axes, (key, arms) in zip(all_axes, panels.items(), strict=True):
        front = _front(arms, key, report.goal)
        fronts.append(f"{COSTS[key]}: " + _list(arm.name for arm in front))
        _panel(axes, arms, front, key, styles)
        axes.set(xlabel=COSTS[key], ylabel=_metric(report))
    _legend(figure, [*_arm_keys(styles, len(scored)), Line2D([], [], color=MUTED, linewidth=1, label="Pareto front")])
    alt = f"{_metric(report)} against cost. Arms that no other beats in both, " + "; ".join(fronts)
    return _Sketch("cost", "Score against cost, with the Pareto front", alt, figure)


def _panel(axes: Axes, arms: Sequence[Arm], front: Sequence[Arm], key: str, styles: dict[str, Any]) -> None:
    points = [(arm.cost[key].mean, _mean(arm)) for arm in front]
    axes.plot(*zip(*points, strict=True), color=MUTED, linewidth=1, drawstyle="steps-post", zorder=1)
    others = [(arm.cost[key].mean, _mean(arm)) for arm in arms if arm.name not in styles]
    axes.plot([cost for cost, _ in others], [score for _, score in others], ".", color=MUTED, markersize=5)
    for arm in reversed([arm for arm in arms if arm.name in styles]):  # the best is drawn last, on top
        color, marker, _ = styles[arm.name]
        axes.plot(arm.cost[key].mean, _mean(arm), marker, color=color, markersize=7)
    costs = [arm.cost[key].mean for arm in arms]
    low, high = min(costs), max(costs)
    if low > 0 and high > 20 * low:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:  # what differs by a thousandth looks it
        room = max(0.08 * (high - low), 0.05 * abs(high), 1e-9)
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.short(value, 4)))
    axes.margins(y=0.15)


def _front(arms: Sequence[Arm], key: str, goal: str) -> list[Arm]:
    """The arms that no other beats in score at the same or a lower cost, cheapest first."""
    sign = 1 if goal == "maximize" else -1
    front: list[Arm] = []
    for arm in sorted(arms, key=lambda arm: (arm.cost[key].mean, -sign * _mean(arm))):
        if not front or sign * _mean(arm) > sign * _mean(front[-1]):
            front.append(arm)
    return front


def _has(arm: Arm, key: str) -> bool:
    return key in arm.cost and math.isfinite(arm.cost[key].mean)


def _mean(arm: Arm) -> float:
    return arm.score.mean if arm.score else math.nan


# Searches


def _parallel(report: Report) -> _Sketch | None:
    """Each run of a search as a line over its settings to its score; the best in colour."""
    known = [arm for arm in best_first(report, report.arms) if arm.score and math.isfinite(arm.score.mean)]
    arms = known[:CROWD]
    keys = [key for key in report.swept if any(key in arm.settings for arm in arms)]
    if not arms or not keys:
        return None
    columns = [[arm.settings.get(key) for arm in arms] for key in keys] + [[_mean(arm) for arm in arms]]
    names = [*keys, _metric(report)]
    scales = [_scale(column) for column in columns]
    figure = Figure(figsize=(WIDTH, 0.62 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=False)
    colors: Colormap = matplotlib.colormaps["cividis"]
    for place in reversed(range(len(arms))):  # the axes lie: a phone is narrow, and names need its width
        x = [positions[place] for positions, _ in scales]
        best = place == 0
        color = "#D55E00" if best else colors(1 - place / len(arms))
        style: dict[str, Any] = {"linewidth": 2.2, "marker": "o", "markersize": 5} if best else {"linewidth": 0.8}
        axes.plot(x, range(len(names)), color=color, alpha=1 if best else 0.55, zorder=3 if best else 2, **style)
    beneath = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.8}
    for row, (_, ticks) in enumerate(scales):
        axes.axhline(row, color=MUTED, linewidth=0.8, zorder=1)
        for position, label in ticks:
            axes.text(position, row + 0.1, label, ha=_side(position), va="top", fontsize=7.5, bbox=beneath)
    axes.set_yticks(range(len(names)), [_wrapped(name) for name in names])
    axes.set(ylim=(len(names) - 0.45, -0.3), xlim=(-0.03, 1.03), xticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    best_settings = ", ".join(f"{key}={wording.setting(arms[0].settings.get(key))}" for key in keys)
    _legend(
        figure,
        [
            Line2D([], [], color="#D55E00", marker="o", markersize=5, label="best run"),
            Line2D([], [], color=colors(0.75), label="good"),
            Line2D([], [], color=colors(0.05), label="poor"),
        ],
    )
    alt = f"{len(arms)} runs over {_list(keys)}; the best, {wording.number(_mean(arms[0]))}, has {best_settings}"
    title = f"The best {CROWD} of {len(known)} runs" if len(known) > CROWD else "Every run of the search"
    return _Sketch("parallel", title, alt, figure)


def _scale(column: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where each value stands from 0 to 1, and the ticks: by size (by its logarithm over wide ranges), or evenly."""
    numbers = [value for value in column if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(column) or len(set(numbers)) < 2 or not all(map(math.isfinite, numbers)):
        levels = sorted({wording.setting(value) for value in column})
        place = {level: index / max(len(levels) - 1, 1) for index, level in enumerate(levels)}
        named = [(position, level) for level, position in place.items()]
        ticks = named if sum(len(level) + 2 for level in levels) < 46 else [named[0], named[-1]]
        return [place[wording.setting(value)] for value in column], [(at, _short_name(text, 16)) for at, text in ticks]
    low, high = min(numbers), max(numbers)
    wide = low > 0 and high > 30 * low

    def where(value: float) -> float:
        return math.log(value / low) / math.log(high / low) if wide else (value - low) / (high - low)

    middle = math.sqrt(low * high) if wide else (low + high) / 2
    return [where(value) for value in numbers], [(where(v), wording.short(v)) for v in (low, middle, high)]


def _side(position: float) -> str:
    return "left" if position < 0.1 else "right" if position > 0.9 else "center"


def _importance(report: Report) -> _Sketch | None:
    """How much of the scores' variation each searched key explains."""
    shares = {key: share for key, share in report.importance.items() if math.isfinite(share)}
    if not shares:
        return None
    keys = sorted(shares, key=lambda key: (-shares[key], key))[:MOST]
    figure, axes, rows = _rows([_wrapped(key) for key in keys])
    axes.barh(rows, [shares[key] for key in keys], 0.2, color=STYLES[1][0])
    for row, key in zip(rows, keys, strict=True):
        axes.text(shares[key], row, f"\N{NO-BREAK SPACE}{shares[key]:.2f}", va="center", fontsize=8)
    axes.margins(x=0.12)
    axes.set(xlabel="importance (sums to 1)")
    alt = "Importance of the searched keys: " + _list(f"{key} {shares[key]:.2f}" for key in keys)
    return _Sketch("importance", "What the score depends on", alt, figure)


# What they share


def _rows(labels: Sequence[str]) -> tuple[Figure, Axes, list[float]]:
    """A figure with a row per label, each as high as its lines need."""
    heights = [max(0.19 * (label.count("\n") + 1) + 0.12, 0.34) for label in labels]
    figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), layout="constrained")
    axes = figure.subplots()
    ends = [math.fsum(heights[: place + 1]) for place in range(len(heights))]
    rows = [end - height / 2 for end, height in zip(ends, heights, strict=True)]
    axes.set_yticks(rows, labels)
    axes.set_ylim(ends[-1], -0.04)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes, rows


def _interval(axes: Axes, interval: Interval | None, row: float, *, color: str, **marker: Any) -> None:
    if interval is None or not math.isfinite(interval.mean):
        return
    if interval.low is not None and interval.high is not None and math.isfinite(interval.high - interval.low):
        axes.plot([interval.low, interval.high], [row, row], color=color, linewidth=1.8, solid_capstyle="round")
    axes.plot(interval.mean, row, color=color, markeredgewidth=1.4, **marker)


def _reference(axes: Axes, score: Interval | None, report: Report) -> None:
    if score is not None and math.isfinite(score.mean):
        axes.axvline(score.mean, color=MUTED, linewidth=1, linestyle=(0, (3, 2)), zorder=1)


def _styles(arms: Sequence[Arm]) -> dict[str, Any]:
    """A style for the baseline and the best arms, by name; the others stay in the background."""
    baseline = [arm.name for arm in arms if arm.baseline][:1]
    others = [arm.name for arm in arms if arm.name not in baseline][: TOLD_APART - 1]
    return dict(zip([*baseline, *others], STYLES if baseline else STYLES[1:], strict=False))


def _arm_keys(styles: dict[str, Any], arms: int) -> list[Line2D]:
    keys = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle=line, label=_wrapped(name))
        for name, (color, marker, line) in styles.items()
    ]
    rest = arms - len(styles)
    return keys + (
        [Line2D([], [], color=MUTED, marker=".", linewidth=0.6, label=f"others ({rest})")] if rest > 0 else []
    )


def _key(color: str, marker: str, label: str, fill: str | None = None) -> Line2D:
    return Line2D(
        [], [], color=color, marker=marker, markersize=5, linestyle="", markerfacecolor=fill or color, label=label
    )


def _legend(figure: Figure, keys: Sequence[Line2D]) -> None:
    long = max(len(str(key.get_label()).split("\n", 1)[0]) for key in keys) > 16
    columns = 3 if all(len(str(key.get_label())) < 10 for key in keys) else 1 if long and len(keys) < 4 else 2
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, handlelength=2.6, columnspacing=1.2)


def _legend_height(styles: dict[str, Any]) -> float:
    return 0.17 * sum(_wrapped(name).count("\n") + 1 for name in styles) / 2 + 0.4


def best_first(report: Report, arms: Iterable[Arm]) -> list[Arm]:
    """By score, then as they stand; arms without a score come last."""
    sign = -1 if report.goal == "maximize" else 1

    def key(arm: Arm) -> tuple[bool, float]:
        scored = arm.score is not None and math.isfinite(arm.score.mean)
        return not scored, sign * _mean(arm) if scored else 0.0

    return sorted(arms, key=key)


def _metric(report: Report) -> str:
    return wording.printable(f"{report.metric} ({report.unit})" if report.unit else report.metric)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _every(points: int) -> int:
    return max(1, points // 8)


def _list(items: Iterable[str], most: int = 10) -> str:
    """Comma-separated; a long list ends with how many more there are."""
    words = list(items)
    more = f", and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _wrapped(name: str) -> str:
    """A name in lines that fit beside an axis; a very long one loses its middle."""
    drawn = re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", wording.printable(name))
    breakable = re.sub(r"([,/_])(?=\S)", "\\1\u200b", drawn)
    lines = [line.replace("\u200b", "") for line in _fold(breakable)]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 2], "…", lines[-1]])


def _fold(text: str) -> list[str]:
    lines = [""]
    for piece in re.split("(?<=\u200b)|(?<= )", text):
        if len(lines[-1].strip()) + len(piece.strip("\u200b ")) > NAME and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return [part for line in lines for part in textwrap.wrap(line.replace("\u200b", ""), NAME) or [""]]


def _short_name(name: str, most: int = 34) -> str:
    name = wording.printable(name)
    return name if len(name) <= most else f"{name[: most - 8]}…{name[-7:]}"


# Rendering


def _render(sketch: _Sketch) -> Drawing:
    title, alt = wording.printable(sketch.title), wording.printable(sketch.alt)
    picture, text = io.BytesIO(), io.StringIO()
    sketch.figure.savefig(picture, format="png", dpi=144, metadata={"Software": None})
    sketch.figure.set_layout_engine("none")  # it stays as it was laid out
    with matplotlib.rc_context({"svg.hashsalt": sketch.name}):  # the same ids each time, and others in each figure
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        sketch.figure.savefig(text, format="svg", metadata=nothing)
    return Drawing(sketch.name, title, alt, _adaptive(text.getvalue(), f"{title}. {alt}"), picture.getvalue())


def _adaptive(svg: str, label: str) -> str:
    """Matplotlib's SVG without what only other programs read, named, and with colours for the dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    return svg.replace(">", f' role="img" aria-label={quoteattr(label)}><style>{dark_colours()}</style>', 1)


def dark_colours() -> str:
    """CSS that turns a figure's ink and paper around where the reader prefers dark."""
    rules = "".join(
        f'svg [style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme:dark){{{rules}}}"
