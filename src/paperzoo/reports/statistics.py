"""What a few paired seeds allow to say: intervals, differences, their probability, and a verdict in words.

A difference has one interval, the one that its verdict follows from. Where several variants are compared, Holm's
procedure tests the smallest p at alpha / m, the next at alpha / (m - 1), and stops at the first that is not below; each
difference's interval has the confidence of the step at which it was tested (of the last step, where it was not). So it
excludes 0 exactly where Holm's p is below alpha. Confidence intervals of this kind are not simultaneous in general;
``tests/reports/test_verdicts.py`` counts in simulation how often any verdict of a report is wrong.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import optimize, stats

from paperzoo.reports.model import Comparison, Goal, Interval, Verdict

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
POWER = 0.8
BOOTSTRAP_FROM = 10  # values; below, resampling them says less than Student's t
RESAMPLES = 9_999
ENUMERATED_TO = 16  # pairs: 2^15 sign patterns up to the mirror
SAMPLED = 100_000  # sign patterns of more pairs
SPEAK_FROM, DECIDE_FROM = 3, 6  # pairs: 2/2^6 = .031 is the first sign-flip p below .05


def interval(values: Sequence[float] | np.ndarray) -> Interval | None:
    """The mean of ``values`` with its 95 % interval: Student's t below 10 values, else the bootstrap (BCa).

    Returns:
        None without a value. Values that are not finite have no mean, and are the caller's to leave out.
    """
    x = np.asarray(values, float)
    if not len(x):
        return None
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, None, None, 1, "none")
    method: Literal["t", "bootstrap"] = "t" if len(x) < BOOTSTRAP_FROM else "bootstrap"
    if _is_constant(x):  # neither has a distribution to work with
        mean = float(x[0])
        return Interval(mean, mean, mean, len(x), method)
    low, high = _by_t(x) if method == "t" else _by_bootstrap(x)
    return Interval(mean, low, high, len(x), method)


def _is_constant(x: np.ndarray) -> bool:
    """Equal up to rounding: differences of equal differences are 1e-17, and no spread."""
    return bool(np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max())))


def _by_t(x: np.ndarray) -> tuple[float, float]:
    low, high = stats.t.interval(CONFIDENCE, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    return float(low), float(high)


def _by_bootstrap(x: np.ndarray) -> tuple[float, float]:
    """BCa with a fixed seed: the same values give the same interval."""
    options = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "batch": max(1, 2_000_000 // len(x))}
    found = stats.bootstrap((x,), np.mean, method="BCa", rng=np.random.default_rng(0), **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired(variant: Mapping[int, float], baseline: Mapping[int, float]) -> np.ndarray:
    """Variant minus baseline for each seed that both have, (pairs,), in the order of seeds."""
    return np.array([variant[seed] - baseline[seed] for seed in sorted(variant.keys() & baseline.keys())], float)


def compare(
    name: str, variant: Mapping[int, float], baseline: Mapping[int, float], goal: Goal, worth: float | None = None
) -> Comparison:
    """One variant against the baseline, paired by seed; its verdict is that of the only comparison of a report.

    Args:
        name: of the variant.
        variant, baseline: scores by seed.
        goal: of the metric.
        worth: the smallest effect worth finding, in the scores' unit; without it no difference is ever ruled out.
    """
    differences = paired(variant, baseline)
    n = len(differences)
    p = t_test(differences)
    comparison = Comparison(
        variant=name,
        n=n,
        difference=_difference(differences),
        p=p,
        p_holm=p,
        p_sign_flip=sign_flip(differences),
        effect_size=effect_size(differences),
        detectable=detectable(differences),
        probability=probability(differences, goal),
        verdict="undecided",
        spread=_spread(differences),
        confidence=CONFIDENCE,
    )
    return _at(comparison, CONFIDENCE, goal, worth)


def _difference(differences: np.ndarray) -> Interval | None:
    """The mean; ``_at`` gives it ends."""
    n = len(differences)
    return Interval(0.0 if _is_zero(differences) else float(differences.mean()), None, None, n, "none") if n else None


def _spread(differences: np.ndarray) -> float | None:
    if len(differences) < 2:
        return None
    return 0.0 if _is_constant(differences) else float(differences.std(ddof=1))


def _at(comparison: Comparison, confidence: float, goal: Goal, worth: float | None) -> Comparison:
    """A comparison with its interval at a confidence, by Student's t as its p is, and the verdict that follows."""
    mean, n, spread = comparison.difference, comparison.n, comparison.spread
    if mean is not None and spread is not None and n >= SPEAK_FROM:
        half = _critical((1 - confidence) / 2, n - 1) * spread / math.sqrt(n)
        interval = Interval(mean.mean, mean.mean - half, mean.mean + half, n, "t")
        comparison = replace(comparison, difference=interval, confidence=confidence)
    return replace(comparison, verdict=verdict(comparison, goal, worth))


@lru_cache
def _critical(tail: float, degrees: int) -> float:
    """Student's t beyond which a tail lies."""
    return float(stats.t.isf(tail, degrees))


def holm(comparisons: Sequence[Comparison], goal: Goal, worth: float | None = None) -> tuple[Comparison, ...]:
    """The same comparisons with p and intervals adjusted over all of them (Holm 1979), and what follows from it.

    That is the verdict, and the detectable difference: one that is alone in being there must pass alpha over the number
    of tests, Holm's first step.
    """
    given = list(comparisons)
    ranked = sorted((c.p, place) for place, c in enumerate(given) if c.p is not None)
    tests, largest, rejected = len(ranked), 0.0, 0
    for step, (p, place) in enumerate(ranked):
        largest = max(largest, min(1.0, (tests - step) * p))
        given[place] = replace(given[place], p_holm=largest, detectable=_shared(given[place], tests))
        rejected += largest < ALPHA
    for step, (_, place) in enumerate(ranked):
        given[place] = _at(given[place], 1 - ALPHA / (tests - min(step, rejected, tests - 1)), goal, worth)
    return tuple(given)


def _shared(comparison: Comparison, tests: int) -> float | None:
    """What a comparison can detect where alpha is shared with others."""
    alone, n = comparison.detectable, comparison.n
    return None if alone is None else alone * (detectable_effect(n, tests) / detectable_effect(n, 1))


def t_test(differences: np.ndarray) -> float | None:
    """Two-sided p of the paired t-test; without spread 1 where nothing differs, else 0. None below three."""
    if len(differences) < SPEAK_FROM:
        return None
    if _is_constant(differences):
        return 1.0 if _is_zero(differences) else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _is_zero(differences: np.ndarray) -> bool:
    return bool(np.abs(differences).max() <= 1e-12)


def sign_flip(differences: np.ndarray) -> float | None:
    """Two-sided p of the sign-flip test of the mean: exact to 16 pairs, then from 100,000 drawn patterns.

    Under the hypothesis each difference has either sign with equal probability; p is the share of the 2^n patterns
    whose mean is at least as far from zero, the observed one among them (so at least 2 / 2^n). None without a pair.
    """
    n = len(differences)
    if not n:
        return None
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()  # equal up to rounding counts as equal
    if n <= ENUMERATED_TO:
        return float((np.abs(_patterns(n) @ differences) >= observed).mean())
    rng, seen, left = np.random.default_rng(0), 0, SAMPLED
    while left:  # a piece at a time: memory
        count = min(left, 2_000_000 // n + 1)
        signs = 2.0 * rng.integers(0, 2, (count, n)) - 1
        seen += int((np.abs(signs @ differences) >= observed).sum())
        left -= count
    return (1 + seen) / (1 + SAMPLED)


@lru_cache(maxsize=ENUMERATED_TO)
def _patterns(n: int) -> np.ndarray:
    """Half of the sign patterns, (2^(n-1), n): the first sign is plus, the other half are mirrors with equal |mean|."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * np.roll(bits, 1, axis=1)  # bit n - 1, always 0, comes first


def effect_size(differences: np.ndarray) -> float | None:
    """Cohen's d_z: the mean difference over the standard deviation of differences. None without spread."""
    if len(differences) < 2 or _is_constant(differences):
        return None
    return float(differences.mean() / differences.std(ddof=1))


def detectable(differences: np.ndarray) -> float | None:
    """The smallest true difference that a paired t-test finds with power .8 at alpha .05, at this n and spread.

    By the noncentral t distribution, in the metric's unit. None below three pairs and without spread.
    """
    if len(differences) < SPEAK_FROM or _is_constant(differences):
        return None
    return detectable_effect(len(differences), 1) * float(differences.std(ddof=1))


@lru_cache
def detectable_effect(n: int, tests: int) -> float:
    """The d_z that ``n`` pairs find where alpha is shared by ``tests``.

    Solved here: statsmodels' ``solve_power`` gives a wrong root, without an error, for few pairs and a small alpha.
    """
    critical = stats.t.isf(ALPHA / tests / 2, n - 1)

    def missing(effect: float) -> float:
        return float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n))) - POWER

    return float(optimize.brentq(missing, 0, (critical + 2) * 2 / math.sqrt(n)))


def probability(differences: np.ndarray, goal: Goal) -> float | None:
    """P(variant beats baseline) on a seed not yet seen: Student's predictive distribution of one more difference.

    None below three pairs.
    """
    n = len(differences)
    if n < SPEAK_FROM:
        return None
    gain = differences if goal == "maximize" else -differences
    if _is_constant(gain):
        return 0.5 if _is_zero(gain) else float(gain[0] > 0)
    return float(stats.t.cdf(gain.mean() / (gain.std(ddof=1) * math.sqrt(1 + 1 / n)), n - 1))


def verdict(comparison: Comparison, goal: Goal, worth: float | None = None) -> Verdict:
    """What may be said, from the adjusted interval alone.

    A difference is there if the interval excludes 0: ``better`` or ``worse`` with six pairs, with three to five it
    only ``looks`` so. There is ``no difference`` (larger than ``worth``) if the interval lies within ``worth`` of 0 on
    both sides and holds 0. All else is undecided, and so is everything below three pairs.
    """
    seen = comparison.difference
    if seen is None or seen.low is None or seen.high is None:
        return "undecided"
    if comparison.p_holm is not None and comparison.p_holm < ALPHA:
        if is_gain(seen.mean, goal):
            return "better" if comparison.n >= DECIDE_FROM else "looks better"
        return "worse" if comparison.n >= DECIDE_FROM else "looks worse"
    return "no difference" if worth is not None and -worth < seen.low <= seen.high < worth else "undecided"


def is_gain(difference: float, goal: Goal) -> bool:
    """Whether a difference (variant minus baseline) goes where the metric should."""
    return difference > 0 if goal == "maximize" else difference < 0


def gains(interval: Interval, goal: Goal) -> tuple[float, float] | None:
    """The smallest and the largest gain that an interval of a difference allows, losses negative; None without ends."""
    if interval.low is None or interval.high is None:
        return None
    return (interval.low, interval.high) if goal == "maximize" else (-interval.high, -interval.low)
