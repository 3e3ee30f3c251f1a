"""Cards are filled by the published reports, and reports check that they still hold what was measured."""

from dataclasses import replace

import pytest
import yaml
from helpers.drawn_report import report

from paperzoo import cards
from paperzoo.reports import measured
from paperzoo.reports.model import Interval


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of SCNet's card."""
    card = tmp_path / "scnet" / "card.yaml"
    card.parent.mkdir()
    text = (cards.PAPERS / "scnet" / "card.yaml").read_text(encoding="utf-8").partition("\nmeasured:")[0]
    card.write_text(f"# measured: below\n{text.rstrip()}\n", encoding="utf-8")
    monkeypatch.setattr(cards, "PAPERS", tmp_path)
    cards.load.cache_clear()
    yield card
    cards.load.cache_clear()


def claimed(**change):
    made = report()
    line = made.claims[0]
    numbers = {
        "difference": Interval(1.02, 0.71, 1.33, 6, "t"),
        "runs": ("a-1", "b-1"),
        "what": "scnet less resnet",
        "scale": "tiny",
    }
    return replace(made, claims=(replace(line, **numbers | change),))


def test_a_card_holds_what_the_last_report_measured_and_all_else_of_it(folder):
    before = folder.read_text()
    measured.fill(claimed())
    entry = cards.load("scnet").measured[0]
    assert (entry.mean, entry.interval, entry.n, entry.runs) == (1.02, (0.71, 1.33), 6, ["a-1", "b-1"])
    assert folder.read_text().startswith(before)
    assert yaml.safe_load(folder.read_text())["measured"][0]["verdict"] == "direction holds (scaled down)"
    assert not list(measured.differences(claimed()))
    changed = claimed(difference=Interval(0.9, 0.7, 1.1, 6, "t"))
    assert list(measured.differences(changed)) == [
        f"{folder.parent.parent.name}/scnet/card.yaml: measured is not what reports/{changed.name} measured"
    ]
    measured.fill(changed)
    assert [entry.mean for entry in cards.load("scnet").measured] == [0.9]
    measured.fill(claimed(verdict="not attempted"))
    assert folder.read_text() == before
