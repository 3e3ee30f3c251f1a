"""All papers in one table of Markdown: what each claims, what was measured here, and the verdict.

README shows it: ``python -m paperzoo.pages.results`` writes it there.
"""

from collections.abc import Iterator
from pathlib import Path

from paperzoo import cards
from paperzoo.cards import Card, Claim
from paperzoo.reports import measured

HEAD = "| paper | claim | the paper's figures | measured here | verdict |\n|---|---|---|---|---|"


START, END = "<!-- results: python src/zoo.py page=results -->\n", "<!-- end of results -->"


def show() -> None:
    """Print the table."""
    print(table())


def table() -> str:
    """A row for each claim that was measured; a paper without any has one row."""
    return "\n".join([HEAD, *(row for slug in cards.slugs() for row in _rows(cards.load(slug)))])


def _rows(card: Card) -> Iterator[str]:
    name = f"[{card.slug}](src/paperzoo/papers/{card.slug}/card.yaml) ({card.venue} {card.year})"
    judged = [claim for claim in card.claims if card.verdicts(claim.id)]
    if not judged:
        number = f"{len(card.claims)} claim{'s' * (len(card.claims) > 1)}"
        yield f"| {name} | {number} | | | not attempted |"
    for claim in judged:
        best = card.verdicts(claim.id)[0]
        figure = f"{measured.in_words(best)}, [{best.report}](reports/{best.report}/report.md)"
        yield f"| {name} | {claim.id} | {_reported(claim)} | {figure} | {best.verdict} |"


def _reported(claim: Claim) -> str:
    if claim.baseline is None or claim.result is None:
        return claim.result or claim.baseline or ""
    return f"{claim.result} against {claim.baseline}, {claim.metric}"


def write(readme: Path) -> None:
    """Put the table into README."""
    before, _, rest = readme.read_text().partition(START)
    readme.write_text(before + START + table() + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    write(cards.PAPERS.parents[2] / "README.md")
