"""What the published reports measured of the papers' claims: the last part of the cards, ``measured``."""

import re
from collections.abc import Iterator

import yaml

from paperzoo import cards
from paperzoo.reports import wording
from paperzoo.reports.model import Interval, Report
from paperzoo.runs.record import write_atomically

DECIMALS = 9  # a page rounds to fewer, and twice would be wrong at times: 1.18499994 to 6 is 1.185
HEADING = "measured:  # written by src/report.py\n"


def of(report: Report, slug: str) -> list[cards.Measured]:
    """What a report measured of a paper's claims; nothing of a claim that has no verdict yet."""
    found = [line for line in report.claims if line.paper == slug and line.verdict != "not attempted"]
    worth = None if report.worth is None else float(f"{report.worth:.4g}")
    return [
        cards.Measured(
            claim=line.claim,
            report=report.name,
            what=line.what,
            runs=list(line.runs),
            n=interval.n,
            mean=round(interval.mean, DECIMALS),
            interval=(round(interval.low, DECIMALS), round(interval.high, DECIMALS)),
            worth=worth,
            scale=line.scale,
            verdict=line.verdict,  # type: ignore[arg-type]  # one of them
        )
        for line in found
        if (interval := line.difference) and interval.low is not None and interval.high is not None
    ]


def in_words(entry: cards.Measured) -> str:
    """``stacking less single, points of test/top1: +1.18 (+0.39 to +1.98), n = 6``."""
    interval = wording.interval(Interval(entry.mean, *entry.interval, entry.n, "t"), signed=True)
    return f"{entry.what}: {interval}, n = {entry.n}"


def fill(report: Report) -> None:
    """Put a report's entries into the cards, in place of those that it put there before."""
    for slug in cards.slugs():
        there = cards.load(slug).measured
        new = [entry for entry in there if entry.report != report.name] + of(report, slug)
        if new != there:
            _write(slug, sorted(new, key=lambda entry: (entry.claim, entry.report)))
    cards.load.cache_clear()


def differences(report: Report) -> Iterator[str]:
    """A line for each card that does not hold what a report measured."""
    for slug in cards.slugs():
        there = [entry for entry in cards.load(slug).measured if entry.report == report.name]
        if there != sorted(of(report, slug), key=lambda entry: entry.claim):
            yield f"{cards.PAPERS.name}/{slug}/card.yaml: measured is not what reports/{report.name} measured"


def _write(slug: str, entries: list[cards.Measured]) -> None:
    """All else of the card stays as its author wrote it."""
    path = cards.PAPERS / slug / "card.yaml"
    given = re.split(r"^measured:", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    plain = [entry.model_dump(mode="json") for entry in entries]
    dumped = HEADING + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=118) if plain else ""
    write_atomically(path, (given + dumped).encode())
