"""The pages of the documentation site, and the notebook; ``make docs`` builds the site, and checks links again."""

import json
import re

import pytest
import yaml

from paperzoo import cards
from paperzoo.pages import site


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site.write(folder)
    return folder / "pages"


def test_every_paper_has_a_page_with_its_claims(pages):
    for slug in cards.slugs():
        text = (pages / "papers" / f"{slug}.md").read_text()
        assert text.startswith(f"# {slug}\n")
        for claim in cards.load(slug).claims:
            assert claim.statement in text


def test_no_link_between_pages_leads_nowhere(pages):
    found = 0
    for page in pages.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            found += 1
            assert (page.parent / target).resolve().exists(), f"{page.relative_to(pages)}: {target}"
    assert found > 50


def test_all_that_the_menu_names_is_there(pages):
    settings = yaml.safe_load((pages.parent / "mkdocs.yml").read_text())
    named = re.findall(r"[\w/]+\.(?:md|html)", json.dumps(settings["nav"]))
    assert len(named) > len(cards.slugs())
    assert [name for name in named if not (pages / name).is_file()] == []
    written = {path.name for path in pages.glob("*.md")}
    assert written <= set(named)  # every document of docs/ is in the menu


def test_every_module_of_the_api_is_there(pages):
    for modules in site.API.values():
        for module in modules:
            place = site.ROOT / "src" / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


@pytest.mark.full
def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for cell in json.loads((site.DOCS / "first_steps.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), scope)
    assert scope["record"].results["last"].metrics["test/top1"] > 0.3  # ten classes: it has learned
    assert "parameters" in capsys.readouterr().out
