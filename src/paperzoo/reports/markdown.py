"""``report.md``: the report as text, for a terminal, a pull request, a mail."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from paperzoo.reports import wording
from paperzoo.reports.model import Comparison, Report, Variant

FILE = "report.md"
ROWS = 100  # of a table; runs.csv has all
SPECIAL = re.compile(r"([\\`*_\[\]|~#])")
ALIGN = "-" * 3
NOTE = """\
Their intervals are adjusted over the variants as Holm's p is, so that an interval excludes 0 exactly where that p \
is below .05; p of sign flips is not adjusted. *detectable*: the smallest true difference that this n and spread \
find with power .8 at alpha .05, adjusted as Holm's smallest p is. *P(wins)*: on a new seed. `better` and `worse` \
need six pairs; with three to five a variant `looks` better or worse. Where an interval holds 0 and lies within the \
smallest effect worth finding on both sides, there is `no difference` larger than that; all else is `undecided`. The \
smallest effect worth finding is"""


def write_markdown(report: Report, folder: Path, figures: Sequence[str] = ()) -> Path:
    """Write the report; ``figures`` are files beside it that it shows."""
    (folder / FILE).write_text(text(report, figures), encoding="utf-8", newline="\n")
    return folder / FILE


def text(report: Report, figures: Sequence[str] = ()) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(report, figures)) + "\n"


def _lines(report: Report, figures: Sequence[str]) -> Iterator[str]:
    yield f"# {_text(report.title)}"
    if report.question:
        yield f"\n{_text(report.question)}"
    yield f"\n**{_text(report.answer)}**"
    if report.claims:
        yield from _section("Claims", _claims(report))
    yield from _section("Variants" if report.comparisons else "Runs", _variants(report))
    if report.comparisons:
        yield from _section("Against the baseline", _comparisons(report))
    if report.decompositions:
        yield from _section("Bias and variance", _decompositions(report))
    if report.importance:
        shares = ((_text(key), f"{share:.3f}") for key, share in report.importance.items())
        yield from _section("What mattered", _table(("key", "importance"), shares))
    if figures:
        yield from _section("Figures", (f"![{_text(Path(name).stem)}]({name})\n" for name in figures))
    if report.scale:
        yield from _section("What this scale can show", _bullets(report.scale))
    if report.problems:
        yield from _section("Problems", _bullets(report.problems))
    yield from _section("Facts", _bullets(f"{name}: {fact}" for name, fact in report.facts.items()))
    yield from _section("Commands", (f"- {_text(what)}: {_code(line)}" for what, line in report.commands.items()))
    yield from _section("One run of each variant", (f"- {_text(a.name)}: {_code(a.command)}" for a in _shown(report)))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield from lines


def _claims(report: Report) -> Iterator[str]:
    rows = (
        (f"{line.paper} {line.claim}", line.verdict, line.statement, line.reported, line.measured)
        for line in report.claims
    )
    yield from _table(("claim", "verdict", "statement", "reported", "measured"), (map(_text, row) for row in rows))


def _variants(report: Report) -> Iterator[str]:
    headings = (
        "variant",
        "n",
        f"{report.metric}, last epoch",
        "validation's choice",
        "parameters",
        "MACs",
        "time",
        "runs",
    )
    yield from _table(headings, (_variant(report, variant) for variant in _shown(report)))
    note = f"{report.metric}: mean with 95 % interval over seeds ({'higher' if report.goal == 'maximize' else 'lower'}"
    yield f"\n{_text(note)} is better)."
    hidden = len(report.variants) - ROWS
    if hidden > 0:
        yield f"\nThe best {ROWS} are shown, {hidden:,} more are in runs.csv."


def _shown(report: Report) -> Sequence[Variant]:
    """All variants of a grid in its order; of many runs of a search the best."""
    if len(report.variants) <= ROWS:
        return report.variants
    sign = -1 if report.goal == "maximize" else 1
    return sorted(report.variants, key=lambda variant: sign * variant.score.mean if variant.score else float("inf"))[
        :ROWS
    ]


def _variant(report: Report, variant: Variant) -> tuple[str, ...]:
    cost = {name: interval.mean for name, interval in variant.cost.items()}
    return (
        _text(variant.name) + (" (baseline)" if variant.baseline else ""),
        str(len(variant.scores)),
        wording.interval(variant.score, report.unit),
        wording.interval(variant.best_score, report.unit),
        wording.short(cost.get("parameters")),
        wording.short(cost.get("macs")),
        wording.seconds(cost.get("seconds")),
        ", ".join(f"{count} {status}" for status, count in sorted(variant.counts.items())) or wording.NONE,
    )


def _comparisons(report: Report) -> Iterator[str]:
    headings = ("variant", "verdict", "n", "difference", "p (t)", "p (Holm)", "p (sign flips)", "d_z", "detectable",
                "P(wins)")  # fmt: skip
    yield from _table(headings, (_comparison(report, line) for line in report.comparisons))
    baseline = next((variant.name for variant in report.variants if variant.baseline), "the baseline")
    worth = f"{wording.number(report.worth)} {report.points}".strip()
    yield f"\nDifferences from {_text(baseline)} are paired by seed. {NOTE} {worth}."


def _comparison(report: Report, line: Comparison) -> tuple[str, ...]:
    return (
        _text(line.variant),
        wording.verdict(line.verdict, report),
        str(line.n),
        wording.interval(line.difference, report.points, signed=True),
        wording.probability(line.p),
        wording.probability(line.p_holm),
        wording.probability(line.p_sign_flip),
        wording.number(line.effect_size, signed=True),
        wording.number(line.detectable),
        wording.probability(line.probability),
    )


def _decompositions(report: Report) -> Iterator[str]:
    headings = ("variant", "n", "mean error", "bias²", "variance", "bias², difference", "variance, difference")
    rows = (
        (
            _text(line.variant),
            str(line.n),
            *(wording.interval(value, "points") for value in (line.error, line.bias, line.variance)),
            *(wording.interval(v, "points", signed=True) for v in (line.bias_difference, line.variance_difference)),
        )
        for line in report.decompositions
    )
    yield from _table(headings, rows)
    yield f"\n{wording.DECOMPOSITION}"


def _table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_text, headings))} |"
    yield f"|{'|'.join(ALIGN for _ in headings)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _bullets(lines: Iterable[str]) -> Iterator[str]:
    return (f"- {_text(line)}" for line in lines)


def _text(value: object) -> str:
    """On one line, and nothing of it markup: names come from configurations."""
    line = " ".join(wording.printable(str(value)).split())
    return SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def _code(line: str) -> str:
    """A command between as many backticks as it needs."""
    line = " ".join(wording.printable(line).split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{ticks} {line} {ticks}" if "`" in line else f"`{line}`"
