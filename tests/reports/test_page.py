import math
from dataclasses import replace
from html.parser import HTMLParser

import drawn_report
import pytest

from paperzoo import cards
from paperzoo.reports import page
from paperzoo.reports.model import Interval

VOID = {"meta", "link", "br", "input", "img"}


class Elements(HTMLParser):
    """The tags that a browser would see, their attributes, the text; that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def write(report, folder, drawings=()):
    return page.write_page(report, folder, drawings).read_text()


def rows(text, caption):
    """The cells of a table's rows."""
    body = text.split(caption, 1)[1].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return [[word for word in Elements(f"{row}</tr>").words if word] for row in body.split("</tr>")[:-1]]


def test_the_page_says_what_the_report_says(tmp_path):
    report = drawn_report.report()
    text = write(report, tmp_path)
    words = Elements(text).words
    for expected in (report.question, report.answer, *report.scale, *report.problems, *report.facts.values()):
        assert expected in words
    for command in (*report.commands.values(), *(variant.command for variant in report.variants)):
        assert command in words
    claim = report.claims[0]
    assert rows(text, "What the papers report") == [
        [claim.paper, claim.verdict, claim.statement, claim.reported, claim.measured]
    ]


def test_the_table_of_arms_has_every_figure(tmp_path):
    base, other = drawn_report.report(("resnet", "scnet")).variants
    other = replace(
        other, score=Interval(87.934, 87.411, 88.449, 6, "t"), best_score=Interval(88.0, None, None, 1, "none")
    )
    line = replace(
        drawn_report.comparison(other, base, "better"),
        difference=Interval(1.021, 0.71, -0.05, 6, "t"),
        p_holm=0.0004,
        p_sign_flip=0.03125,
        effect_size=2.345,
        detectable=0.612,
        probability=0.987,
    )
    text = write(replace(drawn_report.report(), variants=(base, other), comparisons=(line,)), tmp_path)
    first, second = rows(text, "Score of each variant, and its paired difference from resnet")
    assert first[:3] == ["resnet", "baseline", "6"]
    assert first[-5:] == [page.wording.NONE] * 5  # it is not compared with itself
    minus = "\N{MINUS SIGN}"
    assert second == [
        *["scnet", "▲ better", "6", "87.93", "87.41 to 88.45", "88.00", "+1.02", f"+0.71 to {minus}0.05"],
        *["< .001", ".031", "2.35", "0.61", ".987"],
    ]
    cost = rows(text, "What a run of each variant takes")[1]
    assert cost == ["scnet", "102 k", "16 M", "1 min 09 s", "870", "513 MiB", "6 finished, 1 failed"]


def test_the_same_report_gives_the_same_bytes(tmp_path, drawings):
    report = drawn_report.report(seeds=3)
    first = page.write_page(report, tmp_path / "a", drawings).read_bytes()
    assert first == page.write_page(report, tmp_path / "b").read_bytes()
    assert first.count(b"<svg") == len(drawings) == 4
    assert page.write_index(tmp_path).read_bytes() == page.write_index(tmp_path).read_bytes()


def test_a_hostile_name_is_text_wherever_it_stands(tmp_path):
    bad = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b\u202e'
    report = drawn_report.report((bad, drawn_report.HOSTILE), 2)
    report = replace(
        report,
        **dict.fromkeys(("name", "title", "question", "answer", "metric", "unit"), bad),
        claims=tuple(replace(line, statement=bad, reported=bad, measured=bad, verdict=bad) for line in report.claims),
        scale=(bad,),
        problems=(bad,),
        facts={bad: bad},
        commands={bad: bad},
    )
    text = page.write_page(report, tmp_path / "bad").read_text()
    index = page.write_index(tmp_path).read_text()
    for elements in (Elements(text), Elements(index)):
        tags = [tag for tag, _ in elements.seen]
        assert tags.count("script") == 1
        assert "img" not in tags
        assert not [name for _, attributes in elements.seen for name in attributes if name.startswith("on")]
        assert any("<script>alert(1)</script>" in word for word in elements.words)
    assert not {"\x1b", "\u202e"} & set(text + index)


def test_nothing_points_elsewhere(tmp_path, drawings):
    text = write(drawn_report.report(seeds=3), tmp_path / "usual", drawings)
    for elements in (Elements(text), Elements(page.write_index(tmp_path).read_text())):
        for _, attributes in elements.seen:
            for name in ("src", "href", "xlink:href", "action", "data"):
                assert ":" not in (attributes.get(name) or "").removeprefix("data:"), attributes


def test_one_seed_no_seed_and_no_number_are_said(tmp_path):
    one = write(drawn_report.report(seeds=1), tmp_path / "one")
    assert "1 seed each" in one
    assert rows(one, "Score of each variant")[1][1] == "? undecided"
    assert "There is no finished run yet." in write(drawn_report.empty(), tmp_path / "empty")
    report = drawn_report.report()
    broken = replace(report.variants[1], score=Interval(math.nan, math.nan, math.nan, 6, "t"), best_score=None, cost={})
    text = write(replace(report, variants=(report.variants[0], broken)), tmp_path / "nan")
    assert rows(text, "Score of each variant")[1][3:6] == ["nan", "nan to nan", page.wording.NONE]
    assert rows(text, "What a run of each variant takes")[1][1:6] == [page.wording.NONE] * 5


def test_a_search_has_no_columns_of_differences(tmp_path):
    text = write(drawn_report.search(5), tmp_path)
    assert "paired difference" not in text
    scores = [float(row[2]) for row in rows(text, "Score of each variant")]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_a_long_list_of_runs_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 4)
    text = write(drawn_report.report(), tmp_path)
    assert len(rows(text, "Every finished run")) == 4
    assert "18 runs (the first 4 here, all in runs.csv)" in text


def test_the_index_has_every_paper_with_its_claims_and_every_report(tmp_path):
    report = drawn_report.report()
    write(report, tmp_path / "b")
    write(replace(report, question="Is 1 < 2 & “so”?", claims=()), tmp_path / "a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<title>something else</title>")
    text = page.write_index(tmp_path).read_text()
    words = Elements(text).words
    for slug in cards.slugs():
        card = cards.load(slug)
        assert {card.title, card.adds} <= set(words)
        assert [row[0] for row in rows(text, f"Claims of {slug}<")] == [claim.statement for claim in card.claims]
    links = [attributes["href"] for tag, attributes in Elements(text).seen if tag == "a" and "/" in attributes["href"]]
    assert links == ["a/index.html", "b/index.html", "b/index.html"]  # the second is scnet's, whose claim b tests
    assert "Is 1 < 2 & “so”?" in words
    assert "other/index.html is not a report's page" in words


def test_a_measured_claim_shows_its_verdict(tmp_path, monkeypatch):
    card = cards.load("scnet")
    entry = cards.Measured(
        claim="imagenet",
        report="a",
        what="scnet less resnet, points",
        runs=["r"],
        n=6,
        mean=1.02,
        interval=(0.7, 1.3),
        scale="tiny",
        verdict="failed",
    )
    monkeypatch.setattr(cards, "slugs", lambda: ["scnet"])
    monkeypatch.setattr(cards, "load", lambda slug: card.model_copy(update={"measured": [entry]}))
    assert rows(page.write_index(tmp_path).read_text(), "Claims of scnet")[0][1:4] == [
        "failed",
        "scnet less resnet, points: +1.02 (+0.70 to +1.30), n = 6",
        "tiny",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0.00"), (87.934, "87.93"), (-0.5, "−0.50"), (0.01234, "0.0123")],  # noqa: RUF001
)
def test_numbers_in_words(value, text):
    assert page.wording.number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.0768, 10.52, "+0.08 to +10.52"), (0.012, 0.034, "+0.012 to +0.034"), (None, None, "")],
)
def test_both_ends_of_an_interval_have_as_many_decimals(low, high, text):
    assert page.wording.bounds(Interval(0.03, low, high, 3, "t"), signed=True) == text


@pytest.mark.parametrize(("value", "text"), [(0.0004, "< .001"), (0.9994, ".999"), (0.9996, "> .999"), (1.0, "1.000")])
def test_no_probability_is_rounded_to_certainty(value, text):
    assert page.wording.probability(value) == text


@pytest.mark.parametrize(("value", "text"), [(9.87, "9.87 s"), (59.6, "1 min 00 s"), (3599.7, "1 h 00 min")])
def test_seconds_in_words(value, text):
    assert page.wording.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(512.4, "512 MiB"), (1023.6, "1.00 GiB"), (1474.6, "1.44 GiB")])
def test_memory_in_words(value, text):
    assert page.wording.memory(value) == text
