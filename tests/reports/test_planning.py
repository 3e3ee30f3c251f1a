"""``plan=``: the planned number of seeds finds the stated effect as often as it says."""

import math

import numpy as np
import pytest
import yaml
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.power import TTestPower
from synthetic import record, records, sweep

from paperzoo.errors import UserError
from paperzoo.reports import plan_files, planning, reporting, statistics, write
from paperzoo.reports.analysis import analyse
from paperzoo.reports.model import Comparison, Interval
from paperzoo.reports.planning import Spread
from paperzoo.reports.record_sources import Found
from paperzoo.sweeps import lint, local

DRAWN = 500


def scores(variants, seeds, spread, lot):
    """(variants, seeds): what a seed does to all variants, and noise by which differences have the spread."""
    return 80 + lot.normal(0, 2, seeds) + lot.normal(0, spread / math.sqrt(2), (variants, seeds))


def found(drawn, place):
    """Whether a report of these scores, the first variant the baseline, says that a variant is better."""
    differences = drawn[1:] - drawn[0]
    n = differences.shape[1]
    means, spreads = differences.mean(1), differences.std(1, ddof=1)
    p = 2 * stats.t.sf(np.abs(means) / spreads * math.sqrt(n), n - 1)
    lines = [Comparison(str(i), n, Interval(mean, None, None, n, "none"), p[i], None, None, None, None, None,
                        "undecided", spreads[i]) for i, mean in enumerate(means)]  # fmt: skip
    return statistics.holm(lines, "maximize", 0.5)[place - 1].verdict == "better"


@pytest.mark.parametrize(("variants", "pilot", "spread"), [(2, 5, 0.6), (4, 4, 0.7), (6, 3, 0.8), (4, None, 1.0)])
def test_the_planned_seeds_find_the_effect_in_four_of_five_drawn_sweeps(variants, pilot, spread):
    """The pilot is drawn anew for each sweep; None: the true spread is known. Half a point, in one variant alone."""
    lot = np.random.default_rng(7)
    known = {}
    hits = 0
    for _ in range(DRAWN):
        if pilot:
            seen = planning.pooled([dict(enumerate(row)) for row in scores(variants, pilot, spread, lot)])
            seen = Spread(round(seen.value, 2), seen.degrees)  # so that few plans are made
        else:
            seen = Spread(spread, math.inf)
        if seen.value not in known:
            known[seen.value] = planning.seeds(0.5, seen, variants - 1)
        count = known[seen.value]
        drawn = scores(variants, count, spread, lot)
        drawn[-1] += 0.5
        hits += found(drawn, variants - 1)
    assert 0.76 <= hits / DRAWN <= 0.84, hits


def test_the_spread_is_the_two_way_residual():
    lot = np.random.default_rng(0)
    drawn = scores(3, 4, 0.5, lot)
    cells = [dict(enumerate(row)) for row in drawn]
    del cells[1][2]  # a run failed
    cells[2][9] = 81.0  # a seed of one variant alone says nothing
    table = {
        "score": [score for column in cells for score in column.values()],
        "variant": [str(row) for row, column in enumerate(cells) for _ in column],
        "seed": [str(seed) for column in cells for seed in column],
    }
    expected = ols("score ~ C(variant) + C(seed)", table).fit()
    got = planning.pooled(cells)
    assert got.degrees == expected.df_resid == 5
    assert got.value == pytest.approx(math.sqrt(2 * expected.mse_resid))


def test_two_variants_have_the_spread_of_their_differences():
    a, b = {0: 1.0, 1: 2.0, 2: 4.0}, {0: 1.5, 1: 2.0, 2: 3.0}
    assert planning.pooled([a, b]).value == pytest.approx(np.std([0.5, 0.0, -1.0], ddof=1))


@pytest.mark.parametrize(("count", "variants"), [(6, 1), (12, 3), (40, 11)])
def test_power_against_statsmodels(count, variants):
    expected = TTestPower().power(0.7, count, 0.05 / variants)
    assert planning.power(0.35, 0.5, count, variants) == pytest.approx(expected, abs=2e-3)  # it counts both tails


def test_power_averages_over_the_spread_by_numbers_drawn():
    lot = np.random.default_rng(1)
    true = 0.6 * np.sqrt(4 / lot.chisquare(4, 4000))
    expected = np.mean([planning.power(0.5, spread, 15) for spread in true])
    assert planning.assured(0.5, Spread(0.6, 4), 15) == pytest.approx(expected, abs=0.01)


def test_seeds_are_the_fewest_and_six_at_least():
    spread = Spread(0.6, 10)
    count = planning.seeds(0.5, spread, 3)
    assert planning.assured(0.5, spread, count, 3) >= 0.8 > planning.assured(0.5, spread, count - 1, 3)
    assert planning.seeds(0.5, Spread(0.01, 10), 3) == 6
    assert count > planning.seeds(0.5, spread, 1)
    assert count > planning.seeds(0.5, Spread(0.6, math.inf), 3)
    with pytest.raises(UserError, match=r"^plan=0.001: more than 1000 seeds; the spread of a difference is 0.6"):
        planning.seeds(0.001, spread)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A sweep of three variants that has run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    parameters = {"model": {"values": ["resnet", "scnet", "senet"]}, "seed": {"values": [0, 1, 2, 3]},
                  "trainer.max_epochs": {"value": 2}}  # fmt: skip
    plain = sweep(parameters=parameters).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "x.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    write.save(Found(records(("resnet", "scnet", "senet"), 4)), tmp_path / "sweeps" / "x.yaml", tmp_path / "reports/x")
    (tmp_path / "reports" / "x" / "report.yaml").write_text("baseline: scnet\n")
    return tmp_path


def run(plan="0.5", **changes):
    options = {"source": "reports/x", "runs_dir": "runs", "out": "reports", "storage": None, "sweep": None,
               "publish": None, "project": None, "plan": plan}  # fmt: skip
    reporting.run("sweeps/x.yaml", **(options | changes))


def test_a_plan_is_said_and_written(place, capsys):
    run("2")
    printed = capsys.readouterr().out
    planned = yaml.safe_load((place / "sweeps" / "x_planned.yaml").read_text())
    report = analyse(records(("resnet", "scnet", "senet"), 4), sweep(parameters=planned["parameters"] | {
        "seed": {"values": [0, 1, 2, 3]}}))  # fmt: skip
    expected = planning.plan(report, 2.0)
    assert planned["parameters"]["seed"] == {"values": list(range(4, 4 + expected.seeds))}  # none that was seen
    assert planned["command"][-1] == "${args_no_hyphens}"
    assert (place / "reports" / "x_planned" / "report.yaml").read_text().endswith("baseline: scnet\nworth: 2.0\n")
    assert f"planned: {expected.seeds} seeds, {3 * expected.seeds} runs, about" in printed
    assert "a difference of 2.00 points is found with power .8 (paired t, Holm over 2 variants" in printed
    assert "resnet       4 " in printed
    assert "run it: python src/sweep.py sweeps/x_planned.yaml" in printed
    run("2")  # the same again
    with pytest.raises(UserError, match=r"x_planned.yaml: is there already and says something else; move it away"):
        run("1")
    assert lint.read(place / "sweeps" / "x_planned.yaml").name == "x_planned"


def test_a_pilot_is_run_where_there_are_no_runs(place, capsys, monkeypatch):
    with pytest.raises(
        UserError,
        match=r"^plan=0.5: 0 finished runs are too few .*; pilot=4 runs 12 runs first, those of seeds 0 to 3; "
        r"source=reports/x takes those of the report that is there$",
    ):
        run(source="local")
    ran = []

    def pretend(path, **options):
        ran.append((path, options["runs_dir"]))
        return 0

    monkeypatch.setattr(local, "run", pretend)
    monkeypatch.setattr(plan_files.record_sources, "find", lambda source, sweep, name, **_: Found(
        [record(model, seed) for model in ("resnet", "scnet", "senet") for seed in range(5)] if
        (source, name) == ("local", "x_pilot") else []))  # fmt: skip
    run("2", source="local", pilot="5")
    assert ran == [("sweeps/x_pilot.yaml", "runs")]
    assert yaml.safe_load((place / "sweeps" / "x_pilot.yaml").read_text())["parameters"]["seed"]["values"] == [
        0, 1, 2, 3, 4]  # fmt: skip
    assert yaml.safe_load((place / "sweeps" / "x_planned.yaml").read_text())["parameters"]["seed"]["values"][0] == 5
    assert "pilot: 15 runs, 5 seeds of every variant, by sweeps/x_pilot.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "line"), [
    ({"plan": "half"}, "plan=half: must be a difference above 0"), ({"plan": "-1"}, "plan=-1: must be a difference"),
    ({"plan": "nan"}, "plan=nan: must be"), ({"plan": None, "pilot": "4"}, "pilot=4: goes with plan="),
    ({"pilot": "2"}, "pilot=2: must be"),
])  # fmt: skip
def test_a_mistake_in_a_plan_is_one_line(place, options, line):
    with pytest.raises(UserError) as error:
        run(**options)
    assert str(error.value).startswith(line)
