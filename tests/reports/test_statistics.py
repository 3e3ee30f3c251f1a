"""Statistics against SciPy, statsmodels and cases computed by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from paperzoo.reports import statistics
from paperzoo.reports.model import Comparison, Interval


def of_seeds(values):
    return dict(enumerate(values))


def drawn(n, mean=0.3, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, n)


def against(variant, baseline, goal="maximize"):
    return statistics.compare("variant", of_seeds(variant), of_seeds(baseline), goal)


def test_the_interval_of_few_values_is_students():
    x = drawn(6)
    got = statistics.interval(x)
    assert (got.low, got.high) == pytest.approx(DescrStatsW(x).tconfint_mean(0.05))
    assert (got.n, got.method) == (6, "t")


def test_the_interval_by_hand():
    got = statistics.interval([1.0, 2.0, 3.0])  # sd 1, t(.975, 2) = 4.30265
    assert (got.low, got.mean, got.high) == pytest.approx((2 - 4.30265 / 3**0.5, 2, 2 + 4.30265 / 3**0.5), abs=1e-5)


def test_the_interval_of_ten_values_is_the_bootstraps_and_the_same_each_time():
    x = np.exp(drawn(10))
    got = statistics.interval(x)
    other = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(1))
    assert got.method == "bootstrap"
    assert got == statistics.interval(x)
    width = got.high - got.low
    assert (got.low, got.high) == pytest.approx(tuple(other.confidence_interval), abs=0.05 * width)
    assert got.high - got.mean > got.mean - got.low  # skewed to the right, as the values


@pytest.mark.parametrize("n", [2, 9, 10, 40])
def test_no_spread_is_a_point(n):
    assert statistics.interval([0.1] * n) == Interval(0.1, 0.1, 0.1, n, "t" if n < 10 else "bootstrap")


def test_one_value_and_none():
    assert statistics.interval([0.5]) == Interval(0.5, None, None, 1, "none")
    assert statistics.interval([]) is None


def test_a_comparison_is_paired_by_seed():
    variant, baseline = {0: 1.0, 1: 2.0, 3: 5.0, 9: 0.0}, {3: 4.0, 1: 2.5, 0: 0.0, 7: 8.0}
    got = statistics.compare("variant", variant, baseline, "maximize")
    assert got.n == 3
    assert got.difference.mean == pytest.approx(np.mean([1.0, -0.5, 1.0]))
    assert got.p == pytest.approx(stats.ttest_rel([1.0, 2.0, 5.0], [0.0, 2.5, 4.0]).pvalue)


def test_against_scipy():
    variant, baseline = drawn(12, 0.5), drawn(12, 0, seed=1)
    got = against(variant, baseline)
    d = variant - baseline
    assert got.p == pytest.approx(stats.ttest_rel(variant, baseline).pvalue)
    exact = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert got.p_sign_flip == pytest.approx(exact.pvalue)
    assert got.effect_size == pytest.approx(d.mean() / d.std(ddof=1))


@pytest.mark.parametrize(("n", "expected"), [(1, 1.0), (3, 0.25), (6, 2 / 64), (8, 2 / 256), (16, 2 / 65536)])
def test_the_smallest_sign_flip_p(n, expected):
    assert statistics.sign_flip(np.linspace(1, 2, n)) == expected


def test_sign_flips_by_hand():
    # |sum| of +-1 +-2 +-3: 6, 4, 2, 0 and mirrors; 2 or more: all but the two patterns with 0
    assert statistics.sign_flip(np.array([1.0, -2.0, 3.0])) == 6 / 8


def test_sampled_sign_flips_agree_with_scipys_and_with_themselves():
    d = drawn(20, 0.45)
    got = statistics.sign_flip(d)
    other = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=50_000,
                                   rng=np.random.default_rng(3))  # fmt: skip
    assert got == statistics.sign_flip(d)
    assert got == pytest.approx(other.pvalue, abs=4 * math.sqrt(0.06 * 0.94 / 50_000))


@pytest.mark.parametrize("n", [3, 6, 30])
def test_the_detectable_difference_has_power_80(n):
    d = 2.5 * drawn(n)
    effect = statistics.detectable(d) / d.std(ddof=1)
    assert TTestPower().power(effect, n, 0.05) == pytest.approx(0.8, abs=1e-4)
    critical = stats.t.ppf(0.975, n - 1)  # power by the noncentral t itself
    shift = effect * math.sqrt(n)
    power = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert power == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(("n", "variants"), [(3, 4), (6, 2), (6, 11), (12, 39)])
def test_the_detectable_difference_of_several_arms_passes_holms_first_step(n, variants):
    d = drawn(n)
    lines = [statistics.compare("variant", of_seeds(d), of_seeds([0.0] * n), "maximize")] * variants
    effect = statistics.holm(lines, "maximize")[0].detectable / d.std(ddof=1)
    critical, shift = stats.t.ppf(1 - 0.025 / variants, n - 1), effect * math.sqrt(n)
    assert stats.nct.sf(critical, n - 1, shift) == pytest.approx(0.8, abs=2e-3)


def test_probability_by_hand():
    # n = 3: Student with two degrees of freedom, F(t) = 1/2 + t / (2 sqrt(2 + t^2)); mean 1, sd 1, scale sqrt(4/3)
    at = 1 / math.sqrt(4 / 3)
    expected = 0.5 + at / (2 * math.sqrt(2 + at**2))
    assert statistics.probability(np.array([0.0, 1.0, 2.0]), "maximize") == pytest.approx(expected)
    assert statistics.probability(np.array([0.0, 1.0, 2.0]), "minimize") == pytest.approx(1 - expected)


def test_holm_by_hand():
    # p = .01, .04, .03 -> .03, .06, .06: (3 * .01, then 2 * .03, then max(.06, .04))
    three = [Comparison("a", 6, Interval(1, 0, 2, 6, "t"), p, p, None, None, None, None, "better", 1.0)
             for p in (0.01, 0.04, 0.03)]  # fmt: skip
    got = statistics.holm(three, "maximize")
    assert [c.p_holm for c in got] == pytest.approx([0.03, 0.06, 0.06])
    assert [c.verdict for c in got] == ["better", "undecided", "undecided"]
    # steps at .05 / 3, then .05 / 2, which is not below: the last is tested there, too
    assert [c.confidence for c in got] == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 2])


def test_holm_leaves_arms_without_a_test_aside():
    one = against([1.0], [0.0])
    many = against(drawn(8, 3), drawn(8, 0, seed=4))
    got = statistics.holm([one, many], "maximize")
    assert got[0].p_holm is None
    assert got[0].verdict == "undecided"
    assert got[1].p_holm == pytest.approx(many.p)


@pytest.mark.parametrize(("n", "goal", "expected"), [
    (0, "maximize", "undecided"), (2, "maximize", "undecided"), (3, "maximize", "looks better"),
    (5, "minimize", "looks worse"), (6, "maximize", "better"), (6, "minimize", "worse"), (12, "maximize", "better"),
])  # fmt: skip
def test_what_a_clear_difference_allows_to_say(n, goal, expected):
    baseline = drawn(n)
    got = against(baseline + 5 + 0.01 * np.arange(n), baseline, goal)
    assert got.verdict == expected


def test_no_difference_needs_an_interval_within_what_is_worth_finding():
    noise, other = drawn(8, 0), drawn(8, 0, seed=7)
    seen = against(noise, other).difference
    reach = max(-seen.low, seen.high)
    verdicts = [
        statistics.compare("variant", of_seeds(noise), of_seeds(other), "maximize", worth).verdict
        for worth in (None, 0.99 * reach, 1.01 * reach)
    ]
    assert verdicts == ["undecided", "undecided", "no difference"]


def test_no_spread_at_all():
    same = against([0.5] * 6, [0.5] * 6)
    assert (same.p, same.probability, same.effect_size, same.detectable) == (1.0, 0.5, None, None)
    assert same.verdict == "undecided"  # nothing was said to be worth finding
    shifted = against([0.3, 0.7, 0.1, 0.2, 0.6, 0.9], [0.2, 0.6, 0.0, 0.1, 0.5, 0.8])  # .1, up to rounding
    assert (shifted.p, shifted.probability, shifted.effect_size) == (0.0, 1.0, None)
    assert shifted.difference.low == shifted.difference.high == pytest.approx(0.1)
    assert shifted.p_sign_flip == 2 / 64
    assert shifted.verdict == "better"


def test_one_pair_and_none():
    one = against([0.5], [0.4])
    assert (one.p, one.p_sign_flip, one.effect_size, one.detectable, one.probability) == (None, 1.0, None, None, None)
    assert statistics.detectable(np.array([0.0, 2.0])) is None  # two pairs
    none = statistics.compare("variant", {0: 1.0}, {1: 1.0}, "maximize")
    assert (none.n, none.difference, none.p_sign_flip) == (0, None, None)
