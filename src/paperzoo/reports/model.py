"""What a report is made of: plain data between the sources, the statistics and the pages.

``analysis`` makes a ``Report`` of records; ``figures``, ``page``, ``markdown`` and ``table`` write it and compute
nothing, so that every figure of every form is the same.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from paperzoo.runs.record import Record

# "looks" is for three to five pairs; "no difference" is short for no difference larger than the smallest effect worth
# finding, which a report states in advance; "undecided" is everything that the seeds could not decide.
Verdict = Literal["better", "worse", "looks better", "looks worse", "no difference", "undecided"]
Goal = Literal["minimize", "maximize"]  # W&B's words


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, of 95 % where nothing else is said."""

    mean: float
    low: float | None  # None with one value
    high: float | None
    n: int
    method: Literal["t", "bootstrap", "none"]


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline, paired by seed. Differences are variant minus baseline, in the metric's unit."""

    variant: str
    n: int  # pairs
    difference: Interval | None  # at ``confidence``; None without a pair, without ends below three
    p: float | None  # paired t-test, two-sided; None below three pairs
    p_holm: float | None  # adjusted over the report's variants
    p_sign_flip: float | None  # exact, two-sided
    effect_size: float | None  # Cohen's d of the differences (d_z)
    detectable: float | None  # smallest true difference found with power .8 at alpha .05 (Holm's first step), this n
    probability: float | None  # P(variant beats baseline), on a new seed
    verdict: Verdict
    spread: float | None = None  # standard deviation of the differences
    confidence: float = 0.95  # of the interval: adjusted as p is, so that it excludes 0 exactly where p_holm < .05


@dataclass(frozen=True)
class Variant:
    """The runs that differ in nothing but the seed."""

    name: str  # what tells it from the other variants, "scnet" or "model=scnet, norm=group"
    settings: dict[str, Any]  # of the swept keys, seed apart
    command: str  # runs it with one seed, "python src/train.py model=scnet ... seed=0"
    runs: tuple[Record, ...]  # finished, with the metric, one a seed, in the order of seeds
    scores: tuple[float, ...]  # the metric of each, in its unit
    score: Interval | None
    best_score: Interval | None  # of the weights that validation chose
    counts: dict[str, int]  # of all runs by status: finished, failed, interrupted, running
    cost: dict[str, Interval]  # parameters, macs, seconds, units_per_second, peak_memory_mib: over the runs
    baseline: bool = False


@dataclass(frozen=True)
class Decomposition:
    """The mean error of a variant's runs as squared bias and variance (``bias_variance``), in points."""

    variant: str
    n: int  # runs
    error: Interval
    bias: Interval
    variance: Interval
    bias_difference: Interval | None = None  # from the baseline, paired by seed
    variance_difference: Interval | None = None


@dataclass(frozen=True)
class ClaimLine:
    """A paper's claim beside what was measured."""

    paper: str  # slug
    claim: str  # id in the card
    statement: str
    reported: str  # "40.8 (SCNet-50) against 37.6 (ResNet-50), COCO box AP, MCG-NKU/SCNet"
    measured: str
    verdict: str  # one of cards.Verdict
    what: str = ""  # scnet less resnet, points of test/top1
    difference: Interval | None = None
    runs: tuple[str, ...] = ()  # ids, of both variants
    scale: str = ""  # 5,000 images of fashion_mnist, 8 epochs


@dataclass(frozen=True)
class Report:
    """A question and its answer, ready to be written."""

    name: str  # of the sweep file and the folder
    title: str
    question: str
    answer: str  # one or two sentences, made from the comparisons
    method: str  # grid, random, bayes
    metric: str  # test/top1
    unit: str  # "%", or ""
    goal: Goal
    swept: tuple[str, ...]  # keys that differ between variants; in a search, the searched keys
    variants: tuple[Variant, ...]  # in the sweep's order
    comparisons: tuple[Comparison, ...]  # every variant apart from the baseline; empty for searches
    importance: dict[str, float] = field(default_factory=dict)  # of the searched keys, sums to 1
    claims: tuple[ClaimLine, ...] = ()
    scale: tuple[str, ...] = ()  # what this scale can and cannot show
    problems: tuple[str, ...] = ()  # one clear line each: failed runs, unreadable records, variants without a pair
    facts: dict[str, str] = field(default_factory=dict)  # data, versions, machine, code, wall time, in words
    commands: dict[str, str] = field(default_factory=dict)  # what it does: the command that does it
    label: str = ""  # of the metric, as people call it
    sample: str = "image"  # what throughput and multiply-adds count
    worth: float | None = None  # the smallest effect worth finding, in the unit of differences
    made_by: str = ""  # the command that writes the report
    decompositions: tuple[Decomposition, ...] = ()  # of the variants whose runs were asked

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit
