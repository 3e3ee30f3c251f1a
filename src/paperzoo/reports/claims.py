"""The papers' claims beside what the variants measured, and the verdict of each."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from paperzoo import cards
from paperzoo.reports import facts, statistics, wording
from paperzoo.reports.description import ClaimPair
from paperzoo.reports.model import ClaimLine, Comparison, Goal, Variant

# Words of a command that change no result of a run: a claim's test may be placed anywhere.
ELSEWHERE = ("seed=", "trainer=", "trainer.devices=", "trainer.threads=", "data.workers=", "repeat=", "data.root=")


class Scale(NamedTuple):
    """What the figures of a report are: which metric, in which unit, and what is worth finding."""

    metric: str
    unit: str
    points: str
    goal: Goal
    worth: float | None


def lines(
    tested: Sequence[ClaimPair],
    pairs: Sequence[tuple[Variant, Variant]],
    comparisons: Sequence[Comparison],
    scale: Scale,
) -> tuple[ClaimLine, ...]:
    """A line for each claim.

    Args:
        tested: the claims.
        pairs: baseline and result of each.
        comparisons: of the report. A claim against the report's baseline takes its comparison from there; the others
            are adjusted over themselves.
        scale: of the report.
    """
    known = {line.variant: line for line in comparisons}
    rest = iter(
        statistics.holm(
            [compare(result, baseline, scale) for baseline, result in pairs if not baseline.baseline],
            scale.goal,
            scale.worth,
        )
    )
    found = [known[result.name] if baseline.baseline else next(rest) for baseline, result in pairs]
    return tuple(_line(claim, line, *pair, scale) for claim, line, pair in zip(tested, found, pairs, strict=True))


def compare(variant: Variant, baseline: Variant, scale: Scale) -> Comparison:
    """A variant against another, not adjusted."""
    return statistics.compare(variant.name, _by_seed(variant), _by_seed(baseline), scale.goal, scale.worth)


def _by_seed(variant: Variant) -> dict[int, float]:
    return {entry.seed: score for entry, score in zip(variant.runs, variant.scores, strict=True)}


def _line(tested: ClaimPair, line: Comparison, baseline: Variant, result: Variant, scale: Scale) -> ClaimLine:
    claim = next(claim for claim in cards.load(tested.paper).claims if claim.id == tested.claim)
    given = (claim.result, f"against {claim.baseline}" if claim.baseline else "baseline not stated")
    stated = (" " if claim.baseline else ", ").join(part or "not stated" for part in given)
    return ClaimLine(
        paper=tested.paper,
        claim=claim.id,
        statement=claim.statement,
        reported=f"{stated}, {claim.metric}, {claim.table}",
        measured=_measured(line, result, baseline, scale),
        verdict=judge(line, scale, whole=_is_the_papers_own(claim.test, baseline, result), says=claim.says),
        what=f"{result.name} less {baseline.name}, {f'{scale.points} of ' if scale.points else ''}{scale.metric}",
        difference=line.difference,
        runs=tuple(entry.id for variant in (baseline, result) for entry in variant.runs),
        scale=facts.scale([*baseline.runs, *result.runs]),
    )


def _measured(line: Comparison, result: Variant, baseline: Variant, scale: Scale) -> str:
    scores = f"{wording.interval(result.score, scale.unit)} against {wording.interval(baseline.score, scale.unit)}"
    if line.difference is None:
        return f"nothing: no seed in common ({result.name}, {baseline.name})"
    difference = wording.interval(line.difference, scale.points, signed=True)
    return f"{scores}, {scale.metric}; difference {difference}, n = {line.n}"


def judge(line: Comparison, scale: Scale, *, whole: bool, says: cards.Says = "better") -> cards.Verdict:
    """The verdict on a claim that the result is better than the baseline, not worse or not better.

    ``reproduced`` and ``failed`` are for the paper's own experiment (``whole``) with six pairs; every other experiment
    is scaled down. Fewer than three pairs say nothing.
    """
    if line.difference is None or line.n < statistics.SPEAK_FROM:
        return "not attempted"
    held, ruled_out = _judged(line, scale, says)
    if whole:
        if line.n < statistics.DECIDE_FROM:
            return "undecided"
        return "reproduced" if held else "failed" if ruled_out else "undecided"
    if held:
        return "direction holds (scaled down)"
    return "not supported (scaled down)" if ruled_out else "undecided (scaled down)"


def _judged(line: Comparison, scale: Scale, says: cards.Says) -> tuple[bool, bool]:
    """Whether the adjusted interval shows what a claim says, and whether it rules that out.

    - better: it excludes 0; ruled out if it excludes the smallest effect worth finding
    - not_worse: it excludes a loss worth finding; ruled out if there is a loss, which may be larger
    - not_better: likewise of a gain
    """
    assert line.difference is not None
    better, worse = line.verdict in ("better", "looks better"), line.verdict in ("worse", "looks worse")
    ends = statistics.gains(line.difference, scale.goal)
    if scale.worth is None or ends is None:
        return says == "better" and better, False
    least, most = ends
    if says == "better":
        return better, most < scale.worth
    held, against = (least > -scale.worth, worse) if says == "not_worse" else (most < scale.worth, better)
    return held, against and not held


def _is_the_papers_own(test: cards.Pair | None, baseline: Variant, result: Variant) -> bool:
    return test is not None and _is(test.baseline, baseline) and _is(test.result, result)


def _is(test: str, variant: Variant) -> bool:
    """Whether all of a variant's runs are the experiment that a claim names: no word missing, none added."""
    wanted = {word for word in shlex.split(test) if not word.startswith(ELSEWHERE)}
    given = [{word for word in entry.command[2:] if not word.startswith(ELSEWHERE)} for entry in variant.runs]
    return bool(given) and all(words_of == wanted for words_of in given)
