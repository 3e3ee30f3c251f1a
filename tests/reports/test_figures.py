import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import drawn_report
import matplotlib
import pytest

from paperzoo.reports import figures
from paperzoo.reports.figures import comparisons, cost, curves, searches
from paperzoo.reports.figures import drawing as making
from paperzoo.reports.model import Interval

NAMESPACE = "{http://www.w3.org/2000/svg}"
sketches = making.sketches  # before any patch


def names(report):
    return [sketch.name for sketch in making.sketches(report)]


def only(maker, report):
    """One figure, drawn as all are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "sketches", lambda report: [maker(report)])
        return figures.draw(report)[0]


def words(drawing):
    """The texts of a figure, and that it is well-formed XML."""
    return [element.text for element in ET.fromstring(drawing.svg).iter(f"{NAMESPACE}text")]


def test_a_grid_and_a_search_have_their_figures_and_nothing_has_none(drawings):
    assert [drawing.name for drawing in drawings] == ["variants", "differences", "curves", "cost"]
    assert names(drawn_report.search(3)) == ["variants", "parallel", "importance", "curves", "cost"]
    assert names(drawn_report.empty()) == []


def test_written_again_every_byte_is_the_same(tmp_path, monkeypatch, drawings):
    report = drawn_report.report(seeds=3)
    first = figures.write_figures(report, tmp_path / "a", drawings)
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 31)  # as a user's matplotlibrc may have it
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    second = figures.write_figures(report, tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert len(first) == 8
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    assert matplotlib.rcParams["font.size"] == 31


def test_a_name_is_text_and_never_markup_or_a_formula():
    for drawing in figures.draw(drawn_report.report((drawn_report.HOSTILE, "$x_1$"), 1)):
        root = ET.fromstring(drawing.svg)
        assert not [element for element in root.iter() if element.tag.rsplit("}", 1)[-1] == "script"]
        assert "\x1b" not in drawing.svg
        if drawing.name != "differences":
            assert "$x_1$" in words(drawing)


def test_nothing_is_loaded_and_ids_of_two_figures_differ(drawings):
    seen: set[str] = set()
    for drawing in drawings:
        for element in ET.fromstring(drawing.svg).iter():
            links = [value for key, value in element.attrib.items() if key.rsplit("}", 1)[-1] in ("href", "src")]
            assert all(link.startswith("#") for link in links)
            if "id" in element.attrib:
                assert element.attrib["id"] not in seen
                seen.add(element.attrib["id"])


def test_thirty_arms_keep_their_names_and_room():
    variants = tuple(f"model=scnet, norm=switchable, model.width={width}" for width in range(30))
    differences = only(comparisons.draw_differences, drawn_report.report(variants, 2))
    text = "".join(words(differences))
    assert all(f"model.width={width}" in text for width in range(1, 30))
    height = float(ET.fromstring(differences.svg).attrib["height"].removesuffix("pt"))
    assert height / 72 > 29 * 4 * 0.19  # inches, four lines of a name and verdict each


def test_of_a_thousand_arms_the_best_are_shown_and_the_figure_says_so():
    assert "the best 30 of 60" in comparisons.draw_variants(drawn_report.search(60)).title
    assert searches.draw_parallel(drawn_report.search(301)).title == "The best 300 of 301 runs"


def test_the_best_is_on_top_whatever_best_means():
    for goal, expected in (("maximize", ["c", "b", "a"]), ("minimize", ["a", "b", "c"])):
        alt = comparisons.draw_variants(drawn_report.report(("a", "b", "c"), 6, goal=goal)).alt
        assert [part.split()[0] for part in alt.split(": ", 1)[1].split(", ")] == expected


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_left_out(value):
    report = drawn_report.report(seeds=3)
    broken = replace(
        report.variants[2],
        scores=(value,) * 3,
        score=Interval(value, value, value, 3, "t"),
        runs=tuple(drawn_report.record("scnet", seed, value) for seed in range(3)),
        cost={"seconds": Interval(value, None, None, 3, "none")},
    )
    line = replace(report.comparisons[1], difference=Interval(value, None, None, 3, "none"))
    changed = replace(report, variants=(*report.variants[:2], broken), comparisons=(report.comparisons[0], line))
    for drawing in figures.draw(changed):
        assert "scnet" not in "".join(filter(None, words(drawing)))


def test_the_pareto_front_is_who_nobody_beats_in_both():
    places = {"cheap": (1.0, 80.0), "beaten": (2.0, 79.0), "same cost, worse": (3.0, 81.0), "best": (3.0, 85.0)}
    variants = [
        drawn_report.variant(
            name,
            0,
            cost={"seconds": Interval(cost, None, None, 1, "none")},
            score=Interval(score, None, None, 1, "none"),
        )
        for name, (cost, score) in places.items()
    ]
    assert [variant.name for variant in cost.pareto_front(variants, "seconds", "maximize")] == ["cheap", "best"]
    assert [variant.name for variant in cost.pareto_front(variants, "seconds", "minimize")] == ["cheap", "beaten"]


def test_a_paper_adds_its_picture(monkeypatch):
    """Switchable Norm's shares, mean over the seeds; the report's other variants have none."""
    report = drawn_report.report(("batch", "switchable"), 2)
    runs = []
    for run, share in zip(report.variants[1].runs, (0.2, 0.4), strict=True):
        shares = {f"norm/layer1.0.bn{n}/{what}/{kind}": value for n in (1, 2) for what in ("mean", "variance")
                  for kind, value in (("batch", share), ("layer", 1 - share))}  # fmt: skip
        results = {"last": run.results["last"].model_copy(update={"metrics": {"test/top1": 0.8, **shares}})}
        runs.append(run.model_copy(update={"results": results}))
    report = replace(report, variants=(report.variants[0], replace(report.variants[1], runs=tuple(runs))))
    [(name, figure)] = making.pictures_of_papers(report)
    assert name == "norm_ratios"
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    assert widths == [pytest.approx([0.3, 0.3]), pytest.approx([0.7, 0.7])]
    drawing = only(lambda report: next(s for s in sketches(report) if s.name == name), report)
    assert {"layer1.0.bn1", "layer1.0.bn2", "batch", "layer"} <= set(words(drawing))
    assert drawing.title == "Learned shares of switchable"
    assert list(making.pictures_of_papers(drawn_report.report())) == []


def test_curves_are_the_mean_over_the_seeds_that_reached_the_epoch():
    runs = (
        drawn_report.record("a", 0, 0.8, epochs=1),
        drawn_report.record("a", 1, 0.6, epochs=2),
    )
    curve = curves.curve_of(drawn_report.variant("a", 0, runs=runs), "val/top1", 100)
    assert curve == [(1, pytest.approx(30), pytest.approx(35), pytest.approx(40)), (2, *[pytest.approx(45)] * 3)]
