"""The documentation as a site: README, docs/, a page for each card, the reports, and the API from docstrings.

``make docs`` writes the pages (``python -m paperzoo.pages.site <folder>``) and builds them with MkDocs, which fails
where a link leads nowhere. Importing this imports no torch.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from paperzoo import cards
from paperzoo.cards import Card, Claim, Option
from paperzoo.reports.measured import in_words

ROOT = cards.PAPERS.parents[2]
DOCS = ROOT / "docs"
SETTINGS = DOCS / "site.yml"
PAPERS = "paperzoo.papers"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")  # to a file: not to another site, not within the page
API = {  # shared code that people import, by page; the docstrings are the text. A paper's own is on its page
    "paperzoo": ["paperzoo.inference.loading"],
    "metrics": ["paperzoo.metrics.jaccard"],
    "normalisation": ["paperzoo.norms.sync"],
    "schedules": ["paperzoo.tasks.schedules"],
    "detection": ["paperzoo.detection.boxes", "paperzoo.detection.matching", "paperzoo.detection.nms",
                  "paperzoo.detection.pooling", "paperzoo.detection.coco_ap"],
    "extending": ["paperzoo.tasks.task", "paperzoo.data.interface", "paperzoo.procedures.stage", "paperzoo.metric"],
}  # fmt: skip

WIDE = "---\nhide: [toc]\n---\n\n"  # a page without the list of its sections at the side


def write(folder: Path) -> None:
    """Write the pages into ``folder/pages`` and the settings beside it."""
    pages = folder / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    (pages / "papers").mkdir(parents=True)
    (pages / "api").mkdir()
    shutil.copytree(ROOT / "reports", pages / "reports", ignore=shutil.ignore_patterns("runs.jsonl"))
    sources = {ROOT / "README.md": "index.md", ROOT / "CHANGELOG.md": "changelog.md"}
    sources |= {path: path.name for path in sorted(DOCS.glob("*.md"))}
    for source, name in sources.items():
        before = WIDE if name == "index.md" else ""  # its table of results ends in the verdicts
        (pages / name).write_text(before + relinked(source, sources), encoding="utf-8")
    for path in DOCS.glob("*.ipynb"):
        (pages / f"{path.stem}.md").write_text(notebook_page(path), encoding="utf-8")
    for slug in cards.slugs():
        (pages / "papers" / f"{slug}.md").write_text(card_page(cards.load(slug)), encoding="utf-8")
    for title, modules in API.items():
        text = f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"
        (pages / "api" / f"{title.replace(' ', '_')}.md").write_text(text, encoding="utf-8")
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(_settings(), sort_keys=False), encoding="utf-8")


def _settings() -> dict[str, Any]:
    """MkDocs' settings with the lists of papers, by what they are, and of modules."""
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text())
    known = [cards.load(slug) for slug in cards.slugs()]
    kinds = sorted({card.kinds[0] for card in known})
    papers = [{kind: [{c.slug: f"papers/{c.slug}.md"} for c in known if c.kinds[0] == kind]} for kind in kinds]
    filled = {"Papers": papers, "API": [{title: f"api/{title.replace(' ', '_')}.md"} for title in API]}
    settings["nav"] = [{name: filled.get(name, pages)} for part in settings["nav"] for name, pages in part.items()]
    (handlers,) = (part["mkdocstrings"]["handlers"] for part in settings["plugins"] if "mkdocstrings" in part)
    handlers["python"]["paths"] = [str(ROOT / "src")]
    return settings


def relinked(source: Path, sources: dict[Path, str]) -> str:
    """A document whose links lead to the site's pages; a file that the site has not is named without a link."""

    def place(found: re.Match[str]) -> str:
        words, target, part = found[1], (source.parent / found[2]).resolve(), found[3] or ""
        if target in sources:
            return f"[{words}]({sources[target]}{part})"
        if target.name == "card.yaml" and target.parent.parent == cards.PAPERS:
            return f"[{words}](papers/{target.parent.name}.md)"
        if target.is_file() and target.is_relative_to(ROOT / "reports"):
            path = target.relative_to(ROOT)
            return f"[{words}]({path.parent / 'index.html' if path.name == 'report.md' else path})"
        return f"{words} (`{target.relative_to(ROOT)}`)" if target.is_relative_to(ROOT) else words

    return LINK.sub(place, source.read_text(encoding="utf-8"))


def notebook_page(path: Path) -> str:
    """A notebook's cells in Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join(parts) + "\n"


def card_page(card: Card) -> str:
    """A card in Markdown: what the paper adds, its claims with what was measured, networks, options, deviations."""
    arxiv = f", [arXiv:{card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else ""
    parts = [
        f"# {card.slug}",
        f"*{card.title}*. {', '.join(card.authors)}. {card.venue} {card.year}{arxiv}.",
        card.adds,
        f"```bash\npython src/train.py model={card.slug}\n```",
        "## Claims",
        *(_claim(card, claim) for claim in card.claims),
    ]
    if card.networks:
        networks = (
            (n.name, f"{n.parameters:,}", f"{n.macs:,}", "x".join(map(str, n.input_size)), n.reported or "")
            for n in card.networks
        )
        parts += ["## Networks", _table(("name", "parameters", "MACs", "input", "published"), networks)]
    if card.options:
        parts += ["## Options", _table(("option", "value", "what"), map(_option, card.options))]
    if card.deviations:
        deviations = ((d.what, d.why, f"`{d.undo}`" if d.undo else "") for d in card.deviations)
        parts += ["## Deviations", _table(("what", "why", "undone by"), deviations)]
    parts += ["## In code", f"::: {PAPERS}.{card.slug}"]
    return "\n\n".join(parts) + "\n"


def _claim(card: Card, claim: Claim) -> str:
    lines = [f"**{claim.id}**: {claim.statement}.", "", *(f"- {line}" for line in _facts(card, claim))]
    return "\n".join(lines)


def _facts(card: Card, claim: Claim) -> Iterator[str]:
    figures = " against ".join(filter(None, (claim.result, claim.baseline)))
    yield f"the paper ({claim.table}): {figures or 'no figure'}, {claim.metric}"
    for pair, name in ((claim.test, "test"), (claim.scaled_test, "on the embedded data")):
        if pair:
            yield f"{name}: `{pair.baseline}` against `{pair.result}`"
    if claim.needs:
        yield f"a test needs {claim.needs}"
    for found in card.verdicts(claim.id):
        link = f"[{found.report}](../reports/{found.report}/index.html)"
        yield f"measured: {in_words(found)}, {link}: **{found.verdict}**"


def _option(option: Option) -> tuple[str, str, str]:
    return f"`{option.of}.{option.name}`", option.allowed(), option.what


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a bar within a cell would end it."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
