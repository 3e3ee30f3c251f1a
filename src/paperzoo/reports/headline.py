"""The answer of a report in at most two sentences, made from its comparisons alone.

The first says what is decided, the second what is not. A figure stands only where the verdict follows from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paperzoo.reports import wording
from paperzoo.reports.facts import counted
from paperzoo.reports.model import Comparison, Goal, Interval, Verdict
from paperzoo.reports.statistics import SPEAK_FROM, gains, is_gain

NAMED = 3  # variants that a clause names; of more it tells how many and which is the furthest


def headline(
    comparisons: Sequence[Comparison],
    baseline: str,
    metric: str,
    goal: Goal,
    points: str = "",
    worth: float | None = None,
) -> str:
    """What the comparisons say about the variants beside the baseline.

    Args:
        comparisons: at least one.
        baseline: its name.
        metric: what is compared; named where differences have no unit that says so.
        goal: of the metric.
        points: the unit of differences.
        worth: the smallest effect worth finding.
    """
    return _Headline(comparisons, baseline, metric, goal, points, worth).text()


@dataclass(frozen=True)
class _Headline:
    comparisons: Sequence[Comparison]
    baseline: str
    metric: str
    goal: Goal
    points: str
    worth: float | None

    def text(self) -> str:
        """Both sentences."""
        clauses: dict[Verdict, Callable[[list[Comparison], Verdict], str]] = {
            "better": self._different,
            "worse": self._different,
            "looks better": self._looks,
            "looks worse": self._looks,
            "no difference": self._same,
        }
        said = []
        for verdict, clause in clauses.items():
            lines = [line for line in self.comparisons if line.verdict == verdict]
            if lines:
                said.append(clause(lines, verdict))
        where = "" if self.points else f"In {self.metric}, "
        sentences = [_capital(where + "; ".join(said)) + "."] if said else []
        undecided = [line for line in self.comparisons if line.verdict == "undecided"]
        if undecided:
            sentences.append(self._undecided(undecided))
        return " ".join(sentences)

    def _different(self, lines: list[Comparison], verdict: Verdict) -> str:
        """``scnet is better than resnet by 0.85 points (0.26 to 1.44)``."""
        verb = "is" if len(lines) == 1 else "are"
        return f"{self._names(lines)} {verb} {verdict} than {self.baseline} by {self._sizes(lines)}"

    def _looks(self, lines: list[Comparison], verdict: Verdict) -> str:
        """With three to five pairs."""
        word = verdict.partition(" ")[2]
        verb = "looks" if len(lines) == 1 else "look"
        return (
            f"with {self._seeds(lines)}, {self._names(lines)} {verb} {word} than {self.baseline} "
            f"by {self._sizes(lines)}"
        )

    def _same(self, lines: list[Comparison], _: Verdict) -> str:
        """``resnext shows no difference from resnet larger than 0.50 points (+0.10, -0.18 to +0.38)``."""
        seen = lines[0].difference if len(lines) == 1 else None
        verb = "shows" if len(lines) == 1 else "show"
        limit = self._number(self.worth or 0.0)
        figures = f" ({wording.mean(seen, signed=True)}, {wording.bounds(seen, signed=True)})" if seen else ""
        return f"{self._names(lines)} {verb} no difference from {self.baseline} larger than {limit}{figures}"

    def _undecided(self, lines: list[Comparison]) -> str:
        """What the seeds leave open."""
        if all(line.n < SPEAK_FROM for line in lines):
            least = min(line.n for line in lines)
            what = self._names(lines)
            return (
                f"Undecided: there are too few seeds to compare {what} with {self.baseline} ({counted(least, 'pair')})."
            )
        open_ = [line for line in lines if line.n >= SPEAK_FROM]
        if len(lines) == 1:
            return f"Undecided: with {self._seeds(open_)}, {lines[0].variant} lies {self._range(lines[0])}."
        names = self._names(lines)
        found = [gains(line.difference, self.goal) for line in open_ if line.difference]
        if self.worth and len(open_) == len(lines) and all(ends is not None and ends[1] < self.worth for ends in found):
            return (
                f"Undecided: {self._seeds(open_)} do not tell whether {names} are worse than {self.baseline}; "
                f"none is better by {self._number(self.worth)} or more."
            )
        furthest = max(open_, key=lambda line: abs(line.difference.mean) if line.difference else 0.0)
        return (
            f"Undecided: {self._seeds(open_)} do not tell {names} from {self.baseline}; "
            f"{furthest.variant}, the furthest, lies {self._range(furthest)}."
        )

    def _range(self, line: Comparison) -> str:
        """``between 0.18 points worse and 0.59 points better than resnet``."""
        seen = line.difference
        assert seen is not None
        assert seen.low is not None
        assert seen.high is not None
        ends = sorted((seen.low, seen.high), key=lambda end: end if self.goal == "maximize" else -end)
        sides = ["better" if is_gain(end, self.goal) else "worse" for end in ends]
        sizes = wording.together([abs(end) for end in ends])
        first, last = (f"{size} {self.points}".strip() for size in sizes)
        return f"between {first} {sides[0]} and {last} {sides[1]} than {self.baseline}"

    def _names(self, lines: Sequence[Comparison]) -> str:
        """All names of a few; of many the number, and of all of them that it is all."""
        names = [line.variant for line in lines]
        if len(names) == len(self.comparisons) and len(names) > NAMED:
            return f"the {len(names)} variants"
        if len(names) > NAMED:
            return f"{len(names)} of {len(self.comparisons)} variants"
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

    def _sizes(self, lines: Sequence[Comparison]) -> str:
        """Of one its size with the interval, of a few each, of many the range and who is at its end."""
        seen = [line.difference for line in lines if line.difference is not None]
        if len(seen) == 1:
            return f"{wording.mean(_size(seen[0]))} {self.points}".rstrip() + _ends(seen[0])
        if len(seen) <= NAMED:
            sizes = wording.together([abs(one.mean) for one in seen])
            return f"{', '.join(sizes[:-1])} and {sizes[-1]} {self.points}".strip()
        means = sorted(abs(one.mean) for one in seen)
        most = max(lines, key=lambda line: abs(line.difference.mean) if line.difference else 0.0)
        return f"{wording.number(means[0])} to {self._number(means[-1])} ({most.variant} the most)"

    def _seeds(self, lines: Sequence[Comparison]) -> str:
        ends = sorted({line.n for line in lines})
        return f"{ends[0]} to {ends[-1]} seeds" if len(ends) > 1 else counted(ends[0], "seed")

    def _number(self, value: float) -> str:
        return f"{wording.number(abs(value))} {self.points}".strip()


def _ends(interval: Interval) -> str:
    """The interval of a size: both ends have its sign."""
    if interval.low is None or interval.high is None:
        return ""
    return f" ({wording.bounds(_size(interval))})"


def _size(interval: Interval) -> Interval:
    """Without the sign."""
    ends = (abs(end) for end in (interval.low, interval.high) if end is not None)
    low, high = sorted(ends) or (None, None)
    return Interval(abs(interval.mean), low, high, interval.n, interval.method)


def _capital(text: str) -> str:
    """A sentence that begins with ``with`` begins with a capital; a name stays as it is written."""
    return text[0].upper() + text[1:] if text.startswith(("with ", "the ")) else text
