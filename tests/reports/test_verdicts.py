"""No headline, card or index line says what its interval does not: over the published reports and 200 drawn ones.

The intervals are computed here once more, from the runs alone: differences by seed, Student's t, Holm's steps.
"""

import math
import random
import re
from dataclasses import dataclass
from html import unescape

import numpy as np
import pytest
from scipy import stats
from synthetic import record, sweep

from paperzoo import cards
from paperzoo.reports import measured, statistics, write
from paperzoo.reports.analysis import analyse
from paperzoo.reports.claims import Scale, judge
from paperzoo.reports.description import ClaimPair, Description
from paperzoo.reports.model import Comparison, Interval, Report
from paperzoo.reports.page import write_index, write_page

PUBLISHED = sorted(path.parent for path in cards.REPORTS.glob("*/runs.jsonl"))
MODELS = ("resnet", "scnet", "senet", "nasnet", "resnext", "res2net")


@dataclass
class Seen:
    """A difference as it is computed here."""

    n: int
    mean: float
    low: float
    high: float
    excludes_zero: bool  # by Holm's p


def computed(pairs: dict[str, list[float]]) -> dict[str, Seen]:
    """Interval and Holm's decision for each name's differences."""
    p = {name: 1.0 if not any(x) else stats.ttest_1samp(x, 0.0).pvalue for name, x in pairs.items() if len(x) >= 3}
    left = len(p)
    found, rejecting = {}, True
    for name in sorted(p, key=p.__getitem__):
        x = np.array(pairs[name])
        rejecting = rejecting and p[name] * left < 0.05
        half = stats.t.ppf(1 - 0.025 / left, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
        found[name] = Seen(len(x), x.mean(), x.mean() - half, x.mean() + half, rejecting)
        left -= rejecting and left > 1
    return found


def differences(report: Report) -> dict[str, list[float]]:
    """By variant, seed by seed, so that a gain is positive."""
    baseline = next(variant for variant in report.variants if variant.baseline)
    base = {run.seed: score for run, score in zip(baseline.runs, baseline.scores, strict=True)}
    sign = 1 if report.goal == "maximize" else -1
    return {
        variant.name: [
            sign * (score - base[run.seed])
            for run, score in zip(variant.runs, variant.scores, strict=True)
            if run.seed in base
        ]
        for variant in report.variants
        if not variant.baseline
    }


def expected(seen: Seen | None, worth: float) -> str:
    """The verdict, by docs/reports.md."""
    if seen is None:
        return "undecided"
    if seen.excludes_zero:
        return ("" if seen.n >= 6 else "looks ") + ("better" if seen.mean > 0 else "worse")
    return "no difference" if -worth < seen.low and seen.high < worth else "undecided"


PHRASES = {
    "better": r"(?:is|are) better than",
    "worse": r"(?:is|are) worse than",
    "looks better": r"looks? better than",
    "looks worse": r"looks? worse than",
    "no difference": r"shows? no difference from",
}


def check(report: Report) -> set[str]:
    """Every comparison and the headline against what is computed here. Returns the verdicts that the report has."""
    if not any(variant.baseline for variant in report.variants):  # a check: figures, and no verdict
        assert not report.comparisons
        assert not re.search("|".join([*PHRASES.values(), "Undecided"]), report.answer)
        return set()
    found = computed(differences(report))
    by_verdict: dict[str, list[str]] = {}
    for line in report.comparisons:
        seen = found.get(line.variant)
        assert line.verdict == expected(seen, report.worth), (line, seen)
        by_verdict.setdefault(line.verdict, []).append(line.variant)
        if seen:
            sign = 1 if report.goal == "maximize" else -1
            ends = sorted((sign * line.difference.low, sign * line.difference.high))
            assert ends == pytest.approx([seen.low, seen.high], abs=1e-9)
            assert (line.difference.low > 0 or line.difference.high < 0) == seen.excludes_zero
    read_headline(report, found, by_verdict)
    return set(by_verdict)


def read_headline(report: Report, found: dict[str, Seen], by_verdict: dict[str, list[str]]) -> None:
    """At most two sentences; each clause names the variants of its verdict, and figures that bear it out."""
    decided, _, undecided = report.answer.partition("Undecided: ")
    assert len(re.findall(r"\.(?= |$)", report.answer)) <= 2
    clauses = [clause for clause in decided.strip().removesuffix(".").split("; ") if clause]
    names = set(found) | {line.variant for line in report.comparisons}
    for clause in clauses:
        (verdict,) = (verdict for verdict, phrase in PHRASES.items() if re.search(phrase, clause))
        subject = re.split(PHRASES[verdict], clause)[0]
        named = {word for word in re.split(r"[ ,]+", subject) if word in names}
        assert named == set(by_verdict[verdict]) or (not named and len(by_verdict[verdict]) > 3), clause
        bounds = re.search(r"\((\S+) to (\S+)\)", clause)
        if verdict != "no difference" and bounds:
            low, high = (float(end) for end in bounds.groups())
            assert 0 <= low <= high
    assert {v for v in by_verdict if v in PHRASES} == {v for c in clauses for v in PHRASES if re.search(PHRASES[v], c)}
    assert bool(undecided) == bool(by_verdict.get("undecided"))
    for one, side, other, otherside in re.findall(
        r"lies between (\S+) points (\w+) and (\S+) points (\w+) than", undecided
    ):
        assert (side, otherside) == ("worse", "better") or float(one) >= report.worth or float(other) >= report.worth
    if match := re.search(r"none is better by (\S+) points or more", undecided):
        assert all(found[name].high < float(match[1]) + 0.005 for name in by_verdict["undecided"])


def drawn(number: int) -> Report:
    """A report with effects, spreads, seeds and variants by lot."""
    lot = random.Random(number)
    models = MODELS[: lot.randint(2, 6)]
    seeds, spread = lot.choice((1, 2, 3, 4, 6, 10)), lot.choice((0.05, 0.3, 1.0, 4.0))
    goal = lot.choice(("maximize", "minimize"))
    effects = {model: lot.choice((0.0, 0.0, 0.2, 1.0, -1.0, 3.0, -5.0)) for model in models}
    given = [
        record(model, seed, 0.8 + (effects[model] + lot.gauss(0, spread)) / 100, code=f"{number}")
        for model in models
        for seed in range(seeds)
        if seed < 2 or lot.random() > 0.05
    ]
    parameters = {"model": {"values": list(models)}, "seed": {"values": list(range(seeds))}}
    known = {"scnet": "imagenet", "senet": "resnet", "res2net": "resnet", "nasnet": "transfer"}
    claims = [ClaimPair(paper=m, claim=known[m], baseline="resnet", result=m) for m in models if m in known]
    if "nasnet" in models:
        claims.append(ClaimPair(paper="scnet", claim="imagenet", baseline="nasnet", result="scnet"))
    made = analyse(given, sweep(parameters=parameters, metric=None), Description(claims=claims))
    return made if goal == "maximize" else analyse(given, sweep(parameters=parameters), Description(worth=1.0))


@pytest.mark.promise
def test_200_drawn_reports_say_what_their_intervals_say():
    seen = set()
    for number in range(200):
        report = drawn(number)
        seen |= check(report)
        by_variant = {line.variant: line for line in report.comparisons}
        for claim in report.claims:
            check_claim(claim, report.worth)
            line = by_variant.get(claim.paper)
            if line and claim.what.startswith(f"{claim.paper} less resnet,"):
                assert (claim.verdict == "direction holds (scaled down)") == line.verdict.endswith("better")
        for slug in {claim.paper for claim in report.claims}:
            for entry in measured.of(report, slug):
                check_entry(slug, entry)
    assert seen == {"better", "worse", "looks better", "looks worse", "no difference", "undecided"}


def check_claim(line, worth):
    """A claim's line in a report."""
    if line.difference is None or line.difference.low is None:
        assert line.verdict == "not attempted"
    else:
        check_verdict(line.paper, line, (line.difference.low, line.difference.high), worth)


def check_entry(slug: str, entry: cards.Measured) -> None:
    """A line of a card and of the index."""
    check_verdict(slug, entry, entry.interval, entry.worth)


def check_verdict(slug, line, interval, worth):
    """By what the paper's claim says, of an interval of gains."""
    says = next(claim.says for claim in cards.load(slug).claims if claim.id == line.claim)
    low, high = sorted(-end for end in interval) if line.what.endswith("/bpc") else interval
    held, ruled_out = {
        "better": (low > 0, low <= 0 and high < worth),
        "not_worse": (low > -worth, low <= -worth and high < 0),
        "not_better": (high < worth, high >= worth and low > 0),
    }[says]
    if line.verdict in ("direction holds (scaled down)", "reproduced"):
        assert held
    elif line.verdict in ("not supported (scaled down)", "failed"):
        assert ruled_out
    else:
        assert line.verdict in ("undecided (scaled down)", "undecided")
        assert not held
        assert not ruled_out


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_a_published_report_says_what_its_intervals_say(folder):
    report = write.load(folder)
    check(report)
    for claim in report.claims:
        check_claim(claim, report.worth)
    page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    assert report.answer in unescape(page)
    assert report.answer in text.replace("\\", "")


def test_every_card_and_index_line_says_what_its_interval_says():
    index = unescape((cards.REPORTS / "index.html").read_text())
    for slug in cards.slugs():
        card = cards.load(slug)
        for entry in card.measured:
            check_entry(slug, entry)
        section = index.split(f'id="paper-{slug}"', 1)[1].split("</article>", 1)[0]
        statuses = re.findall(r"<strong>(.*?)</strong>", section)
        assert statuses == [card.status_of(claim.id) for claim in card.claims]


@pytest.mark.parametrize(("values", "verdict", "words"), [
    ([1.0, 1.1, 0.9, 1.0, 1.2, 0.8], "better", "scnet is better than resnet by 1.00 points (0.85 to 1.15)."),
    ([-1.0, -1.1, -0.9, -1.0, -1.2, -0.8], "worse", "scnet is worse than resnet by 1.00 points (0.85 to 1.15)."),
    ([0.1, -0.1, 0.2, -0.2, 0.1, -0.1], "no difference",
     "scnet shows no difference from resnet larger than 0.50 points (+0.00, −0.16 to +0.16)."),  # noqa: RUF001
    ([1.0, -1.1, 0.9, 1.0, -1.2, 0.8], "undecided",
     "Undecided: with 6 seeds, scnet lies between 0.89 points worse and 1.36 points better than resnet."),
    ([1.0, 1.1, 0.9], "looks better", "With 3 seeds, scnet looks better than resnet by 1.00 points (0.75 to 1.25)."),
])  # fmt: skip
def test_each_verdict_as_it_is_said(values, verdict, words):
    given = [record(model, seed, 0.8 + (model == "scnet") * value / 100)
             for model in ("resnet", "scnet") for seed, value in enumerate(values)]  # fmt: skip
    got = analyse(given, sweep())
    assert got.comparisons[0].verdict == verdict
    assert got.answer == words


def test_a_gain_that_is_ruled_out_is_said_although_the_rest_is_open(tmp_path):
    loss = [-1.0, -0.9, 0.2, -0.1, -0.8, 0.1]
    given = [record("resnet", seed, 0.8) for seed in range(6)]
    given += [record(model, seed, 0.8 + (value + shift) / 100)
              for model, shift in (("scnet", 0.0), ("senet", 0.05)) for seed, value in enumerate(loss)]  # fmt: skip
    parameters = {"model": {"values": ["resnet", "scnet", "senet"]}, "seed": {"values": [*range(6)]}}
    claim = ClaimPair(paper="scnet", claim="imagenet", baseline="resnet", result="scnet")
    got = analyse(given, sweep(parameters=parameters), Description(claims=[claim]))
    assert [line.verdict for line in got.comparisons] == ["undecided", "undecided"]
    assert got.answer == (
        "Undecided: 6 seeds do not tell whether scnet and senet are worse than resnet; none is better by 0.50 points "
        "or more."
    )
    assert got.claims[0].verdict == "not supported (scaled down)"
    write_page(got, tmp_path / "x", [])
    assert got.answer in write_index(tmp_path).read_text()


def test_the_strongest_report_gives_a_claim_its_one_status():
    card = cards.load("scnet")
    plain = {"claim": "imagenet", "what": "w", "runs": ["r"], "mean": 1.0, "scale": "s", "worth": 0.5}
    few = cards.Measured(report="a", n=3, interval=(0.9, 1.1), verdict="direction holds (scaled down)", **plain)
    many = cards.Measured(report="b", n=6, interval=(-1.0, 3.0), verdict="undecided (scaled down)", **plain)
    narrow = cards.Measured(report="c", n=6, interval=(-0.5, 2.0), verdict="undecided (scaled down)", **plain)
    whole = cards.Measured(report="d", n=3, interval=(-9.0, 9.0), verdict="undecided", **plain)
    of = lambda *entries: card.model_copy(update={"measured": list(entries)}).verdicts("imagenet")  # noqa: E731
    assert [entry.report for entry in of(few, many, narrow)] == ["c", "b", "a"]
    assert [entry.report for entry in of(narrow, whole)] == ["d", "c"]
    with_both = card.model_copy(update={"measured": [few, many]})
    assert with_both.status_of("imagenet") == "undecided (scaled down)"
    assert sum(with_both.statuses.values()) == len(card.claims)


def test_how_often_any_verdict_of_a_report_is_wrong():
    """At most 5 % of reports (and what chance adds in 2,000), whatever the effects are: none, at the edge, large."""
    lot = np.random.default_rng(0)
    wrong = {}
    for effects in ((0, 0, 0, 0, 0), (0, 0, 0.5, -0.5, 3), (0.5, 0.5, 0.5, -0.5, -0.5), (3, 3, 3, 3, 0)):
        wrong[effects] = 0
        for _ in range(2000):
            x = np.array(effects)[:, None] + lot.normal(0, 0.3, (len(effects), 8))
            means, spreads = x.mean(1), x.std(1, ddof=1)
            p = 2 * stats.t.sf(np.abs(means) / spreads * math.sqrt(8), 7)
            lines = [
                Comparison(str(place), 8, Interval(means[place], None, None, 8, "none"), p[place], None, None, None,
                           None, None, "undecided", spreads[place])
                for place in range(len(effects))
            ]  # fmt: skip
            wrong[effects] += any(
                (line.verdict == "better" and effect <= 0)
                or (line.verdict == "worse" and effect >= 0)
                or (line.verdict == "no difference" and abs(effect) >= 0.5)
                for line, effect in zip(statistics.holm(lines, "maximize", 0.5), effects, strict=True)
            )
    assert max(wrong.values()) <= 2000 * 0.05 + 3 * math.sqrt(2000 * 0.05 * 0.95), wrong


def with_interval(low, high, n, goal):
    """A comparison with an adjusted interval of gains."""
    if goal == "minimize":
        low, high = -high, -low
    line = statistics.compare("a", dict.fromkeys(range(n), 1.0), dict.fromkeys(range(n), 0.0), goal)
    seen = line.difference.__class__((low + high) / 2, low, high, n, "t")
    line = line.__class__(**{**vars(line), "difference": seen, "p_holm": 0.01 if low > 0 or high < 0 else 0.3})
    return line.__class__(**{**vars(line), "verdict": statistics.verdict(line, goal, 0.5)})


@pytest.mark.parametrize(("low", "high", "n", "whole", "verdict"), [
    (0.1, 0.9, 6, True, "reproduced"), (-0.4, 0.4, 6, True, "failed"), (-0.4, 0.6, 6, True, "undecided"),
    (0.1, 0.9, 5, True, "undecided"), (0.1, 0.9, 3, False, "direction holds (scaled down)"),
    (-9.0, 0.4, 3, False, "not supported (scaled down)"), (-9.0, 0.5, 3, False, "undecided (scaled down)"),
])  # fmt: skip
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_a_claims_verdict_by_its_interval(low, high, n, whole, verdict, goal):
    line = with_interval(low, high, n, goal)
    assert judge(line, Scale("test/top1", "%", "points", goal, 0.5), whole=whole) == verdict


@pytest.mark.parametrize(("low", "high", "not_worse", "not_better"), [
    (-0.4, 0.4, "direction holds", "direction holds"), (0.6, 0.9, "direction holds", "not supported"),
    (0.1, 0.4, "direction holds", "direction holds"), (-0.6, -0.1, "not supported", "direction holds"),
    (-0.4, -0.1, "direction holds", "direction holds"), (-0.6, 0.6, "undecided", "undecided"),
    (-0.4, 0.6, "direction holds", "undecided"), (-0.6, 0.4, "undecided", "direction holds"),
])  # fmt: skip
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_claims_that_something_does_not_hurt_or_help(low, high, not_worse, not_better, goal):
    line, scale = with_interval(low, high, 6, goal), Scale("test/top1", "%", "points", goal, 0.5)
    assert judge(line, scale, whole=False, says="not_worse") == f"{not_worse} (scaled down)"
    assert judge(line, scale, whole=False, says="not_better") == f"{not_better} (scaled down)"
    without = Scale("test/top1", "%", "points", goal, None)
    assert judge(line, without, whole=False, says="not_worse") == "undecided (scaled down)"
