"""``zoo.py``: the table of papers, a card made readable, and pages that measure."""

import difflib
import importlib
import inspect
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from paperzoo import cards
from paperzoo.cards import Card, Claim, Measured, Network, Option, Pair, Verdict
from paperzoo.errors import UserError
from paperzoo.reports.measured import in_words

PAGES = Path(__file__).resolve().parent / "pages"
VENUE = 14  # letters of a venue's name that the table has room for
WIDE = 120  # columns that the counts have room in


# A status in a table, where "scaled down" stands once below it.
SHORT: dict[Verdict, str] = {
    "reproduced": "reproduced",
    "direction holds (scaled down)": "holds",
    "undecided": "undecided",
    "undecided (scaled down)": "undecided",
    "not supported (scaled down)": "unsupported",
    "failed": "failed",
    "not attempted": "untested",
}


def show_all() -> None:
    """Print one line per paper: as many columns as there is room for."""
    console = _console()
    wide = console.width >= WIDE
    table = Table(box=None, header_style="bold", padding=(0, 2 if wide else 1, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True, style="bold", min_width=max(map(len, cards.slugs())))
    table.add_column("paper", no_wrap=True, overflow="ellipsis")
    table.add_column("kind", no_wrap=True)
    if wide:
        for heading in ("networks", "parameters", "MACs"):
            table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("claims", no_wrap=True)
    for slug in cards.slugs():
        card = cards.load(slug)
        counts = (
            str(len(card.known()) or ""),
            _range([network.parameters for network in card.networks]),
            _range([network.macs for network in card.networks]),
        )
        kinds = ", ".join(card.kinds) if wide else card.kinds[0]
        table.add_row(slug, f"{_venue(card.venue)} {card.year}", kinds, *(counts if wide else ()), _claims(card))
    console.print(table)
    console.print(
        Text(
            "\nClaims are reproduced or failed at the paper's scale, all else on small data.\n"
            "python src/zoo.py <name> shows a card; src/train.py model=<name> trains it"
        )
    )


def _venue(name: str) -> str:
    """A long name by its initials: ``IEEE TNNLS``; what is in capitals stays whole."""
    if len(name) <= VENUE:
        return name
    words = [word for word in name.split() if word[0].isupper()]
    whole = [word for word in words if word.isupper()]
    return " ".join([*whole, "".join(word[0] for word in words if word not in whole)])


def _claims(card: Card) -> str:
    """``1 holds, 2 undecided``."""
    counts: dict[str, int] = {}
    for verdict, count in card.statuses.items():
        counts[SHORT[verdict]] = counts.get(SHORT[verdict], 0) + count
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def show(slug: str) -> None:
    """Print a paper's card.

    Raises:
        UserError: there is no such paper, or its card has a mistake.
    """
    card = cards.load(slug)
    console = _console()
    console.print(_head(card))
    sections = {
        "Claims": [_claim(claim, card.verdicts(claim.id)) for claim in card.claims],
        "Networks": [_networks(card.networks)] if card.networks else [Text("none of its own")],
        "Options": [_options(card.options)] if card.options else [Text("none")],
        "Deviations": [_deviations(card)],
        "Measured": [_measured(entry) for entry in card.measured] or [Text("nothing yet")],
    }
    for title, parts in sections.items():
        console.print()
        console.print(Rule(Text(title, style="bold"), align="left", characters="─", style="dim"))
        for part in parts:
            console.print(part)
    console.print(Text(f"\npython src/train.py model={slug}", style="bold"))


def pages() -> dict[str, str]:
    """The modules whose ``show`` prints a page: those of ``paperzoo/pages``, and those that papers' cards name."""
    shared = {path.stem: f"paperzoo.pages.{path.stem}" for path in PAGES.glob("[a-z]*.py")}
    of_papers = {page: f"paperzoo.papers.{slug}.{page}" for slug in cards.slugs() for page in cards.load(slug).pages}
    return shared | of_papers


def show_page(name: str, **options: str) -> None:
    """Print a page; its module is imported for it alone, since it may need torch.

    Raises:
        UserError: there is no such page, or it has no such option.
    """
    known = pages()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UserError(f"page={name}: there is no such page; pages: {', '.join(sorted(known))}{hint}")
    show = importlib.import_module(known[name]).show
    parameters = inspect.signature(show).parameters.values()
    takes = [parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]
    takes_keys = len(takes) < len(parameters)  # of a choice, which have a dot in them
    for key, value in options.items():
        if key not in takes and not (takes_keys and "." in key):
            raise UserError(f"{key}={value}: page={name} has no such option; options: {', '.join(takes) or 'none'}")
    show(**options)


def _console() -> Console:
    return Console(highlight=False)


def _head(card: Card) -> Group:
    where = f"{card.venue} {card.year}" + (f", arXiv {card.arxiv}" if card.arxiv else "")
    return Group(
        Text(card.title, style="bold"),
        Text(", ".join(card.authors)),
        Text(f"{where} · {', '.join(card.kinds)} · {card.status}"),
        Text(),
        Text(card.adds),
    )


def _claim(claim: Claim, measured: list[Measured]) -> Group:
    reported = f"{claim.baseline or 'not stated'} → {claim.result or 'not stated'}"
    status = f"{measured[0].verdict}: {measured[0].scale}" if measured else "not attempted"
    rows = {"reported": f"{reported}, {claim.metric}", "source": claim.table}
    rows |= {"test": _commands(claim.test)} if claim.test else {"test": f"none yet: needs {claim.needs}"}
    rows |= {"scaled down": _commands(claim.scaled_test)} if claim.scaled_test else {}
    return Group(Text.assemble((claim.id, "bold"), f": {claim.statement}"), _rows(rows | {"verdict": status}))


def _commands(pair: Pair) -> str:
    return f"{pair.baseline}\n{pair.result}"


def _rows(rows: dict[str, str]) -> Padding:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return Padding(table, (0, 0, 0, 2))


def _networks(networks: list[Network]) -> Group:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("input", no_wrap=True)
    table.add_column("reported")
    for network in networks:
        size = "x".join(map(str, network.input_size))
        table.add_row(network.name, f"{network.parameters:,}", _short(network.macs), size, network.reported or "")
    sources = dict.fromkeys(network.source for network in networks if network.source)
    lines = [Text(f"Reported: {', '.join(sources)}", style="dim")] if sources else []
    return Group(table, *lines)


def _options(options: list[Option]) -> Padding:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for option in options:
        notes = [option.allowed()]
        notes += [f"for {option.only_for}"] if option.only_for else []
        notes += [option.source] if option.source else []
        table.add_row(f"{option.of}.{option.name}", Text.assemble(option.what, (f"\n{'; '.join(notes)}", "dim")))
    return Padding(table, (0, 0, 0, 2))


def _deviations(card: Card) -> Group:
    if not card.deviations:
        return Group(Text("none"))
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for deviation in card.deviations:
        undo = f"undo: {deviation.undo}" if deviation.undo else "cannot be undone by an option"
        table.add_row("-", Text.assemble(deviation.what, (f"\nwhy: {deviation.why}\n{undo}", "dim")))
    return Group(table)


def _measured(entry: Measured) -> Text:
    figures = in_words(entry)
    return Text.assemble((entry.claim, "bold"), f": {entry.scale}; {figures}; reports/{entry.report}/index.html")


def _range(numbers: list[int]) -> str:
    if not numbers:
        return ""
    low, high = _short(min(numbers)), _short(max(numbers))
    return low if low == high else f"{low} to {high}"


def _short(number: int) -> str:
    """Three digits and a unit: 25.6 M."""
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * power:  # what rounds to 1
            return f"{number / power:.3g} {unit}"
    return str(number)
