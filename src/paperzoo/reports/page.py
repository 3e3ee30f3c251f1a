"""The pages: a report as one self-contained ``index.html``, and the index of all papers and reports.

Nothing is loaded from elsewhere and no script runs but the page's own, both by its content security policy; every name
is escaped. The same report gives the same bytes.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from paperzoo import cards
from paperzoo.reports import wording
from paperzoo.reports.figures import Drawing, best_first, draw
from paperzoo.reports.model import Interval, Report
from paperzoo.runs.record import write_atomically

PAGE = "index.html"
MOST = 1000  # runs that the page lists; runs.csv has all
COSTS = {  # and how each is written
    "parameters": wording.short,
    "macs": wording.short,
    "seconds": wording.seconds,
    "units_per_second": wording.short,
    "peak_memory_mib": wording.memory,
}
HEADINGS = {"parameters": "parameters", "seconds": "time", "peak_memory_mib": "peak memory"}
ADJUSTED = "adjusted interval"


def write_page(report: Report, folder: Path, drawings: Sequence[Drawing] | None = None) -> Path:
    """Write a report's page.

    Args:
        report: what to write.
        folder: of the report, ``reports/<name>``; is made where it is missing.
        drawings: of this report, where ``figures.draw`` has been called already.

    Returns:
        ``<folder>/index.html``.
    """
    baseline = next((variant for variant in report.variants if variant.baseline), None)
    text = _render(
        "report.html.j2",
        "copy.js",
        report=report,
        variants=report.variants if report.method == "grid" else best_first(report, report.variants),
        baseline=baseline,
        metric=f"{report.metric} ({report.unit})" if report.unit else report.metric,
        lines={line.variant: line for line in report.comparisons},
        extent=_extent(report),
        papers=list(dict.fromkeys(line.paper for line in report.claims)),
        drawings=draw(report) if drawings is None else drawings,
        runs=[
            (variant, run, score)
            for variant in report.variants
            for run, score in zip(variant.runs, variant.scores, strict=False)
        ],
        most=MOST,
        costs=COSTS,
        headings=HEADINGS
        | {
            "macs": f"MACs per {report.sample}",
            "units_per_second": f"{report.sample}s/s",
        },
        interval=ADJUSTED if len(report.comparisons) > 1 else "95 % interval",
        worth=f"{wording.number(report.worth)} {report.points}".strip() if report.worth else "",
        decomposition=wording.DECOMPOSITION,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE, text.encode())
    return folder / PAGE


@dataclass(frozen=True)
class Entry:
    """What a report's page says of itself."""

    name: str  # its folder
    title: str
    question: str
    answer: str
    extent: str
    papers: tuple[str, ...]


def write_index(reports_dir: Path) -> Path:
    """Write ``<reports_dir>/index.html``: all papers with claims and verdicts, and the reports beside it.

    Raises:
        UserError: a card has a mistake.
    """
    entries, unread = [], []
    for path in sorted(reports_dir.glob(f"*/{PAGE}")):
        entry = _read_entry(path)
        if entry is None:
            unread.append(f"{path.parent.name}/{PAGE} is not a report's page")
        else:
            entries.append(entry)
    papers = sorted((cards.load(slug) for slug in cards.slugs()), key=lambda card: (card.year, card.title))
    mentions = {card.slug: [entry for entry in entries if card.slug in entry.papers] for card in papers}
    text = _render("index.html.j2", "filter.js", cards=papers, reports=entries, unread=unread, mentions=mentions,
                   names={entry.name for entry in entries})  # fmt: skip
    reports_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(reports_dir / PAGE, text.encode())
    return reports_dir / PAGE


class _Meta(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the named entries of the page's head."""
        named = dict(attrs)
        if tag == "meta" and named.get("name"):
            self.found.setdefault(str(named["name"]), named.get("content") or "")


def _read_entry(path: Path) -> Entry | None:
    parser = _Meta()
    parser.feed(path.read_text(encoding="utf-8", errors="replace").partition("</head>")[0])
    found = parser.found
    if "paperzoo:question" not in found:
        return None
    return Entry(
        name=path.parent.name,
        title=found.get("paperzoo:title", path.parent.name),
        question=found["paperzoo:question"],
        answer=found.get("description", ""),
        extent=found.get("paperzoo:extent", ""),
        papers=tuple(found.get("paperzoo:papers", "").split()),
    )


def _render(template: str, script: str, **values: Any) -> str:
    code = _file(script)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    shared = {"css": Markup(_file("page.css")), "script": Markup(code), "script_hash": Markup(f"sha256-{digest}")}
    return _environment().get_template(template).render(**shared, **values)


def _file(name: str) -> str:
    return files("paperzoo.reports").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("paperzoo.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": lambda value, signed=False: wording.number(value, signed=signed),
        "mean": lambda value, signed=False: wording.mean(value, signed=signed),
        "bounds": lambda value, signed=False: wording.bounds(value, signed=signed),
        "probability": wording.probability,
        "seconds": wording.seconds,
        "verdict": wording.verdict,
        "slug": lambda value: value.replace(" ", "-"),
        "cost": _cost,
        "counts": _counts,
        "measured": _measured,
        "markup": Markup,  # of our own SVG, whose names matplotlib has escaped
    }
    return environment


def _printable(value: Any) -> Any:
    """What a template prints: nothing is a dash, and names have no control characters."""
    if value is None:
        return wording.NONE
    return wording.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _extent(report: Report) -> str:
    runs = sum(len(variant.runs) for variant in report.variants)
    seeds = sorted({len(variant.scores) for variant in report.variants})
    words = [
        _many(len(report.variants), "variant"),
        _many(runs, "finished run"),
    ]
    if seeds:
        words.append((f"{seeds[0]} to " if len(seeds) > 1 else "") + _many(seeds[-1], "seed") + " each")
    return ", ".join(words)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _measured(entry: cards.Measured) -> str:
    """+0.85 (+0.26 to +1.44)."""
    low, high = entry.interval
    return wording.interval(Interval(entry.mean, low, high, entry.n, "t"), signed=True)


def _cost(value: Interval | None, key: str) -> str:
    return wording.NONE if value is None else COSTS[key](value.mean)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
