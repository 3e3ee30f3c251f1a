"""How many seeds find a difference, before the hours are spent: ``python src/report.py sweeps/x.yaml plan=0.5``.

The planned sweep is the given one with new seeds, so many that a variant whose true difference from the baseline is the
stated one is found with power .8 by the test of the report: paired t over the seeds, two-sided at .05, adjusted by Holm
over all variants. A variant that is alone in being different must pass Holm's first step, .05 over the number of
variants; the number of seeds is that of this least favourable case.

The spread comes from runs that are there, and is an estimate. Runs are taken as a variant's mean plus a seed's effect
plus noise of one standard deviation for all variants; the noise's variance is the residual mean square of that model
(two-way, without interaction), and a paired difference has twice that variance. The power is averaged over what the
true spread may be, given the estimate: residual degrees of freedom times the ratio of estimated to true variance is
chi-squared. So it is 80 % over repeated pilots, not only where the pilot happens to be right
(``tests/reports/test_planning.py`` draws pilots and sweeps). The runs that the spread comes from are no part of the
planned sweep: its test stays exact.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from paperzoo.errors import UserError
from paperzoo.reports.model import Report, Variant
from paperzoo.reports.statistics import ALPHA, DECIDE_FROM, POWER, SPEAK_FROM

MOST = 1000  # seeds; more are no plan
QUANTILES = 200  # of the spread, over which the power is averaged
FEWEST = 2  # degrees of freedom of a spread


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a paired difference, in the unit of differences."""

    value: float
    degrees: float  # of freedom; infinite where it is known


@dataclass(frozen=True)
class Own:
    """What a variant's own runs say."""

    name: str
    pairs: int
    spread: float | None  # of its differences from the baseline; None below three pairs
    seconds: float | None  # a run takes
    power: float | None  # to find the effect with the planned seeds, if its own spread were the true one


@dataclass(frozen=True)
class Planned:
    """A number of seeds, and what it costs."""

    effect: float
    seeds: int
    variants: tuple[Own, ...]  # the baseline aside
    spread: Spread
    seconds: float | None  # of all runs, one at a time
    alone: int  # seeds that would do for one variant beside the baseline


def plan(report: Report, effect: float) -> Planned:
    """Plan from a report's runs.

    Raises:
        UserError: too few runs to know the spread, or no plan finds the effect.
    """
    baseline = next((variant for variant in report.variants if variant.baseline), None)
    if baseline is None:
        raise UserError("plan=: goes with a grid of two variants or more")
    others = [variant for variant in report.variants if not variant.baseline]
    spread = pooled([_by_seed(variant) for variant in report.variants])
    count = seeds(effect, spread, len(others))
    own = tuple(_own(variant, baseline, effect, count, len(others)) for variant in others)
    times = [_seconds(variant) for variant in report.variants]
    known = [time for time in times if time is not None]
    seconds = count * len(times) * math.fsum(known) / len(known) if known else None
    return Planned(effect, count, own, spread, seconds, seeds(effect, spread, 1))


def _own(variant: Variant, baseline: Variant, effect: float, count: int, variants: int) -> Own:
    base, scores = _by_seed(baseline), _by_seed(variant)
    differences = [score - base[seed] for seed, score in scores.items() if seed in base]
    spread = float(np.std(differences, ddof=1)) if len(differences) >= SPEAK_FROM else None
    found = None if spread is None else power(effect, spread, count, variants)
    return Own(variant.name, len(differences), spread, _seconds(variant), found)


def _by_seed(variant: Variant) -> dict[int, float]:
    return {run.seed: score for run, score in zip(variant.runs, variant.scores, strict=True)}


def _seconds(variant: Variant) -> float | None:
    time = variant.cost.get("seconds")
    return time.mean if time else None


def pooled(scores: Sequence[Mapping[int, float]]) -> Spread:
    """The spread of a paired difference from the scores of all variants by seed.

    Raises:
        UserError: fewer than two degrees of freedom are left, or no score differs from what the model says.
    """
    cells = [(row, seed, score) for row, column in enumerate(scores) for seed, score in column.items()]
    columns = {seed: place for place, seed in enumerate(dict.fromkeys(seed for _, seed, _ in cells))}
    design = np.zeros((len(cells), len(scores) + len(columns)))
    for place, (row, seed, _) in enumerate(cells):
        design[place, [row, len(scores) + columns[seed]]] = 1
    values = np.array([score for *_, score in cells])
    degrees = len(cells) - int(np.linalg.matrix_rank(design)) if cells else 0
    if degrees < FEWEST:
        raise UserError(
            f"plan=: {len(cells)} finished runs are too few to know the spread; three seeds of each of two variants do"
        )
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    square = float(((values - fitted) ** 2).sum()) / degrees
    if square <= 1e-20:
        raise UserError("plan=: all seeds have the same score, so that there is no spread to plan with")
    return Spread(math.sqrt(2 * square), degrees)


def power(effect: float, spread: float, count: int, variants: int = 1) -> float:
    """The probability that a paired t-test of ``count`` seeds finds the effect at Holm's first step of ``variants``."""
    return float(_power(np.array([effect / spread]), count, variants)[0])


def _power(standardised: np.ndarray, count: int, variants: int) -> np.ndarray:
    critical = stats.t.isf(ALPHA / variants / 2, count - 1)
    found = stats.nct.sf(critical, count - 1, standardised * math.sqrt(count))
    return np.where(np.isnan(found), 1.0, found)  # SciPy gives up where it is all but certain


def assured(effect: float, spread: Spread, count: int, variants: int = 1) -> float:
    """The power, averaged over the true spreads that the estimate leaves possible."""
    if math.isinf(spread.degrees):
        return power(effect, spread.value, count, variants)
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    true_spreads = spread.value * np.sqrt(spread.degrees / stats.chi2.ppf(at, spread.degrees))
    return float(_power(effect / true_spreads, count, variants).mean())


def seeds(effect: float, spread: Spread, variants: int = 1) -> int:
    """The fewest seeds that find the effect with power .8; at least six, since ``better`` needs six pairs.

    Raises:
        UserError: it takes more than a thousand.
    """
    if assured(effect, spread, MOST, variants) < POWER:
        raise UserError(
            f"plan={effect:g}: more than {MOST} seeds; the spread of a difference is {spread.value:.3g}, "
            "a larger effect can be planned for"
        )
    low, high = DECIDE_FROM - 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if assured(effect, spread, middle, variants) >= POWER else (middle, high)
    return high
