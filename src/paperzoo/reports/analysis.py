"""From records to a report: arms, intervals, comparisons, claims, costs, and what went wrong in one line each."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from paperzoo import cards
from paperzoo.config.messages import nearest
from paperzoo.errors import UserError
from paperzoo.reports import facts, statistics, wording
from paperzoo.reports.arms import Group, cell_of, groups, latest_attempts
from paperzoo.reports.description import FILE, ClaimPair, Description
from paperzoo.reports.facts import counted, listed
from paperzoo.reports.importance import importance as importance_of
from paperzoo.reports.model import Arm, ClaimLine, Comparison, Report, Verdict
from paperzoo.runs.record import Record
from paperzoo.sweeps.command import command, label, words
from paperzoo.sweeps.specification import Cell, Metric, Sweep

ROWS = 20  # arms whose own command is listed
SENTENCES = 2  # comparisons that have a sentence each; more are gathered by their verdict
METRIC = Metric(name="test/top1", goal="maximize")  # of a sweep that names none
# Words of a command that change no result of a run: a claim's test may be placed anywhere.
ELSEWHERE = ("seed=", "trainer=", "trainer.devices=", "trainer.threads=", "data.workers=", "repeat=", "data.root=")


def analyse(
    records: Sequence[Record],
    sweep: Sweep,
    description: Description | None = None,
    *,
    name: str | None = None,
    problems: Sequence[str] = (),
) -> Report:
    """The report of a sweep's records.

    Args:
        records: in any order, from any source; several attempts of one identity count as one run.
        sweep: whose arms they are.
        description: what a person says about it.
        name: of the sweep file and of the report's folder; the sweep's own where none is given.
        problems: of the source; those of the records come after them.

    Raises:
        UserError: the description names an arm that there is not.
    """
    description = description or Description()
    study = _Study(sweep, description, name or sweep.name)
    study.problems += problems
    return study.grid(records) if sweep.method == "grid" else study.search(records)


class _Study:
    """What the parts of an analysis share."""

    def __init__(self, sweep: Sweep, description: Description, name: str) -> None:
        self.sweep, self.description, self.name = sweep, description, name
        self.metric = sweep.metric or METRIC
        self.percent = self.metric.name.rpartition("/")[2].startswith("top")
        self.problems: list[str] = []

    @property
    def unit(self) -> str:
        return "%" if self.percent else ""

    def grid(self, records: Sequence[Record]) -> Report:
        """Arms over seeds, each against the baseline."""
        found, strangers = groups(self.sweep, records)
        if strangers:
            self.problems.append(f"{counted(strangers, 'run')} of no arm left out: {listed(e.id for e in strangers)}")
        names = _names([group.settings for group in found])
        baseline = self._baseline(names)
        arms = [
            self.arm(name, group, baseline=name == baseline and len(names) > 1)
            for name, group in zip(names, found, strict=True)
        ]
        if not any(group.runs for group in found):
            self.problems.append(f"no run of this sweep was found; `{self._run_here()}` makes them")
        else:
            self.problems += _missing(names, found)
        self._check_data([run for arm in arms for run in arm.runs])
        comparisons = self.comparisons(arms)
        everyone = [entry for group in found for runs in group.runs.values() for entry in runs]
        return self.report(
            arms,
            everyone,
            swept=self.sweep.varying,
            comparisons=comparisons,
            answer=self._answer(arms, comparisons),
            claims=self.claims({arm.name: arm for arm in arms}, comparisons),
        )

    def search(self, records: Sequence[Record]) -> Report:
        """Each finished run an arm of its own; which keys mattered."""
        runs = latest_attempts(records)
        cells = [(entry, cell_of(self.sweep, entry)) for entry in runs]
        strangers = [entry for entry, cell in cells if cell is None]
        if strangers:
            self.problems.append(
                f"{counted(strangers, 'run')} of another search left out: {listed(e.id for e in strangers)}"
            )
        ours = [(entry, cell) for entry, cell in cells if cell is not None]
        if not ours:
            self.problems.append(f"no run of this sweep was found; `{self._run_here()}` makes them")
        scored = [(entry, cell) for entry, cell in ours if self._usable(f"run {entry.id}", entry)]
        names = _names([self.sweep.arm(cell) for _, cell in scored], [entry.id for entry, _ in scored])
        arms = [
            self.arm(name, Group(self.sweep.arm(cell), cell, runs={entry.seed: [entry]}), told=True)
            for name, (entry, cell) in zip(names, scored, strict=True)
        ]
        importance = importance_of(self.sweep, arms)
        return self.report(
            arms,
            [entry for entry, _ in ours],
            comparisons=(),
            swept=[key for key in self.sweep.parameters if key in self.sweep.varying],
            importance=importance,
            answer=self._best(arms, importance),
        )

    def report(
        self, arms: Sequence[Arm], everyone: Sequence[Record], *, swept: Sequence[str], answer: str, **more: Any
    ) -> Report:
        """What grids and searches have in common."""
        said = self.description
        return Report(
            name=self.name,
            title=said.title or self.sweep.name.replace("_", " "),
            question=said.question or self.sweep.description,
            answer=answer,
            method=self.sweep.method,
            metric=self.metric.name,
            unit=self.unit,
            goal=self.metric.goal,
            swept=tuple(swept),
            arms=tuple(arms),
            scale=tuple(said.scale),
            problems=tuple(self.problems),
            facts=facts.of(everyone, [run for arm in arms for run in arm.runs]),
            commands=self._commands(arms),
            **more,
        )

    def arm(self, name: str, group: Group, *, baseline: bool = False, told: bool = False) -> Arm:
        """An arm's scores and costs; what is wrong with its runs is told once."""
        chosen: list[Record] = []
        for seed in sorted(group.runs):
            where = f"{name}, seed {seed}"
            runs = group.runs[seed]
            usable = [entry for entry in runs if told or self._usable(where, entry)]
            if len(usable) > 1:
                which = ", ".join(entry.id for entry in usable)
                self.problems.append(
                    f"{where}: {len(usable)} finished runs that differ in code, data or configuration ({which}); "
                    f"the latest counts"
                )
            chosen += usable[-1:]
        if len(chosen) == 1 and self.sweep.method == "grid":
            self.problems.append(f"{name}: one seed has a result, so that there is no interval")
        scores = tuple(self._score(entry, self.metric.name) for entry in chosen)
        best = [self._score(entry, f"best/{self.metric.name.removeprefix('best/')}") for entry in chosen]
        return Arm(
            name=name,
            settings=group.settings,
            command=self._command(group.cell),
            runs=tuple(chosen),
            scores=scores,
            score=statistics.interval(scores),
            best_score=statistics.interval(best) if all(map(math.isfinite, best)) else None,
            counts=dict(Counter(entry.status for runs in group.runs.values() for entry in runs)),
            cost=facts.cost(chosen),
            baseline=baseline,
        )

    def comparisons(self, arms: Sequence[Arm]) -> tuple[Comparison, ...]:
        """Every arm against the baseline, Holm-adjusted over them."""
        baseline = next((arm for arm in arms if arm.baseline), None)
        if baseline is None:
            return ()
        compared = [self._compare(arm, baseline) for arm in arms if arm is not baseline]
        for line in compared:
            if not line.n and baseline.runs and any(arm.runs for arm in arms if arm.name == line.arm):
                self.problems.append(f"{line.arm}: no seed in common with {baseline.name}, so that nothing is compared")
        return statistics.holm(compared, self.metric.goal)

    def _compare(self, arm: Arm, baseline: Arm) -> Comparison:
        return statistics.compare(arm.name, _by_seed(arm), _by_seed(baseline), self.metric.goal)

    def _score(self, entry: Record, metric: str) -> float:
        """A run's metric in the report's unit; NaN where it has none."""
        rows = entry.epochs[-1] if entry.epochs else {}
        value = entry.metrics.get(metric, rows.get(metric, math.nan))
        return float(value) * (100 if self.percent else 1)

    def _usable(self, where: str, entry: Record) -> bool:
        """Whether a run has the metric; else a line says why not."""
        if entry.status != "finished":
            reason = f": {entry.failure.message}" if entry.failure and entry.status == "failed" else ""
            done = f" in epoch {len(entry.epochs) + 1}" if entry.status in ("interrupted", "running") else ""
            verb = "is running" if entry.status == "running" else entry.status
            self.problems.append(" ".join(f"{where}: {verb}{done}{reason} ({entry.id})".split()))
            return False
        score = self._score(entry, self.metric.name)
        if math.isfinite(score):
            return True
        known = self.metric.name in entry.metrics
        what = f"{self.metric.name} is {score}" if known else f"has no {self.metric.name}"
        self.problems.append(f"{where}: {what}, so that it is left out ({entry.id})")
        return False

    def _baseline(self, names: Sequence[str]) -> str:
        wanted = self.description.baseline
        return self._known("baseline", wanted, names) if wanted else next(iter(names), "")

    def _known(self, place: str, arm: str, names: Iterable[str]) -> str:
        """An arm's name, or a line that lists them."""
        names = list(names)
        if arm not in names:
            place = f"reports/{self.name}/{FILE}: {place}"
            raise UserError(f"{place}: there is no arm {arm}, there are {', '.join(names)}{nearest(arm, names)}")
        return arm

    def _check_data(self, runs: Sequence[Record]) -> None:
        """Arms are compared on the same data, unless the data are what is swept."""
        seen = {(entry.data.name, entry.data.fingerprint) for entry in runs if entry.data.fingerprint}
        if len(seen) > 1 and not any(key == "data" or key.startswith("data.") for key in self.sweep.varying):
            names = listed(f"{name} {fingerprint[:10]}" for name, fingerprint in sorted(seen))
            self.problems.append(f"the runs saw {len(seen)} different sets of data: {names}")

    def _command(self, cell: Cell) -> str:
        line = [str(word) for word in command(self.sweep, cell)]
        return shlex.join(word for word in line if word != "/usr/bin/env")

    def _run_here(self) -> str:
        return f"python src/sweep.py sweeps/{self.name}.yaml"

    def _commands(self, arms: Sequence[Arm]) -> dict[str, str]:
        """What one does with a report."""
        again = f"python src/reproduce.py reports/{self.name}"
        lines = {
            "run the sweep here": self._run_here(),
            "run it on W&B": f"wandb sweep sweeps/{self.name}.yaml",
            "write this report from the runs": f"python src/report.py sweeps/{self.name}.yaml",
            "re-derive it from its own records": again,
        }
        rows = {f"run {arm.name} again and compare": f"{again} row={shlex.quote(arm.name)}" for arm in arms[:ROWS]}
        return lines | rows

    def _answer(self, arms: Sequence[Arm], comparisons: Sequence[Comparison]) -> str:
        """What was found, from the comparisons alone."""
        baseline = next((arm for arm in arms if arm.baseline), None)
        if baseline is None:
            scores = [f"{arm.name}: {wording.interval(arm.score, self.unit)}" for arm in arms if arm.score]
            return f"{self.metric.name}, mean and 95 % interval: {'; '.join(scores)}." if scores else "No result yet."
        if not any(arm.score for arm in arms):
            return "No result yet."
        if len(comparisons) <= SENTENCES:
            return " ".join(self._sentence(line, baseline.name) for line in comparisons)
        return " ".join(self._by_verdict(comparisons, baseline.name))

    def _by_verdict(self, comparisons: Sequence[Comparison], baseline: str) -> Iterator[str]:
        """Of many arms a sentence for each verdict; the table has their p."""
        phrases: dict[Verdict, str] = {
            "better": f"Better than {baseline}",
            "worse": f"Worse than {baseline}",
            "direction": f"A direction away from {baseline}, no more with so few seeds",
            "no difference seen": f"No difference from {baseline} was seen",
            "too few seeds": "Too few seeds to say",
        }
        for verdict, phrase in phrases.items():
            lines = [line for line in comparisons if line.verdict == verdict]
            differences = (f"{c.arm} {wording.interval(c.difference, self.points, signed=True)}" for c in lines)
            if lines:
                yield f"{phrase}: {listed(differences)}."
        yield f"{_span(sorted({line.n for line in comparisons}))} pairs each{self._found(comparisons)}."

    def _found(self, comparisons: Sequence[Comparison]) -> str:
        """What would have been found where nothing was."""
        sizes = sorted(c.detectable for c in comparisons if c.detectable and c.verdict == "no difference seen")
        size = f"{_span([wording.number(size) for size in sizes])} {self.points}".strip() if sizes else ""
        return f"; a true difference of {size} would be found four times in five" if sizes else ""

    def _sentence(self, line: Comparison, baseline: str) -> str:
        if line.difference is None or line.verdict == "too few seeds":
            return f"{line.arm} against {baseline}: too few seeds to say ({counted(line.n, 'pair')})."
        figures = (
            f"{wording.interval(line.difference, self.points, signed=True)}, "
            f"n = {line.n}, Holm p {_equals(wording.probability(line.p_holm))}"
        )
        if line.verdict == "no difference seen":
            smallest = f"{wording.number(line.detectable)} {self.points}".strip()
            seen = f"; a true one of {smallest} would be found four times in five" if line.detectable else ""
            return f"No difference was seen between {line.arm} and {baseline} ({figures}{seen})."
        gain = statistics.is_gain(line.difference.mean, self.metric.goal)
        if line.verdict == "direction":
            tends = f"{line.arm} tends to be {'better' if gain else 'worse'} than {baseline}"
            return f"{tends}; it takes six seeds to say so ({figures})."
        return f"{line.arm} is {line.verdict} than {baseline} ({figures})."

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.percent else ""

    def _best(self, arms: Sequence[Arm], importance: Mapping[str, float]) -> str:
        """The best run of a search, and the key that mattered most."""
        if not arms:
            return "No result yet."
        choose = max if self.metric.goal == "maximize" else min
        best = choose(arms, key=lambda arm: arm.scores[0])
        score = f"{wording.number(best.scores[0])} {self.unit}".strip()
        most = max(importance, key=lambda key: importance[key], default=None)
        matters = f" {most} mattered most ({importance[most]:.2f} of the importance)." if most else ""
        return f"Best of {counted(arms, 'run')}: {self.metric.name} {score} with {best.name} (one seed).{matters}"

    def claims(self, arms: Mapping[str, Arm], comparisons: Sequence[Comparison]) -> tuple[ClaimLine, ...]:
        """The papers' claims beside what the arms measured; Holm's p is the report's, else over the claims."""
        pairs = [self._arms_of(tested, arms) for tested in self.description.claims]
        known = {line.arm: line for line in comparisons}
        others = statistics.holm(
            [self._compare(result, baseline) for baseline, result in pairs if not baseline.baseline], self.metric.goal
        )
        rest = iter(others)
        lines = [known[result.name] if baseline.baseline else next(rest) for baseline, result in pairs]
        return tuple(
            self._claim(tested, line, *pair)
            for tested, line, pair in zip(self.description.claims, lines, pairs, strict=True)
        )

    def _arms_of(self, tested: ClaimPair, arms: Mapping[str, Arm]) -> tuple[Arm, Arm]:
        place = f"claims ({tested.paper} {tested.claim})"
        if tested.baseline == tested.result:
            raise UserError(f"reports/{self.name}/{FILE}: {place}: {tested.result} is both baseline and result")
        baseline, result = (arms[self._known(place, name, arms)] for name in (tested.baseline, tested.result))
        return baseline, result

    def _claim(self, tested: ClaimPair, line: Comparison, baseline: Arm, result: Arm) -> ClaimLine:
        claim = next(claim for claim in cards.load(tested.paper).claims if claim.id == tested.claim)
        given = (claim.result, f"against {claim.baseline}" if claim.baseline else "baseline not stated")
        stated = (" " if claim.baseline else ", ").join(part or "not stated" for part in given)
        return ClaimLine(
            paper=tested.paper,
            claim=claim.id,
            statement=claim.statement,
            reported=f"{stated}, {claim.metric}, {claim.table}",
            measured=self._measured(line, result, baseline),
            verdict=self._judged(line, claim.test, baseline, result),
            what=f"{result.name} less {baseline.name}, {f'{self.points} of ' if self.points else ''}{self.metric.name}",
            difference=line.difference,
            runs=tuple(entry.id for arm in (baseline, result) for entry in arm.runs),
            scale=facts.scale([*baseline.runs, *result.runs]),
        )

    def _measured(self, line: Comparison, result: Arm, baseline: Arm) -> str:
        scores = f"{wording.interval(result.score, self.unit)} against {wording.interval(baseline.score, self.unit)}"
        if line.difference is None:
            return f"nothing: no seed in common ({result.name}, {baseline.name})"
        difference = wording.interval(line.difference, self.points, signed=True)
        return f"{scores}, {self.metric.name}; difference {difference}, n = {line.n}"

    def _judged(self, line: Comparison, test: cards.Pair | None, baseline: Arm, result: Arm) -> cards.Verdict:
        """``reproduced`` and ``failed`` are for the paper's own experiment; every other is scaled down."""
        if line.verdict == "too few seeds" or line.difference is None:
            return "not attempted"
        seen = line.verdict in ("better", "direction") and statistics.is_gain(line.difference.mean, self.metric.goal)
        whole = test is not None and _is(test.baseline, baseline) and _is(test.result, result)
        if whole and line.n >= statistics.DECIDE_FROM:
            return "reproduced" if seen else "failed"
        return "direction holds (scaled down)" if seen else "not supported (scaled down)"


def _missing(names: Sequence[str], found: Sequence[Group]) -> Iterator[str]:
    """What is planned and has no record, a line an arm."""
    for name, group in zip(names, found, strict=True):
        seeds = [str(seed) for seed in group.seeds if seed not in group.runs]
        if not group.runs:
            yield f"{name}: not run yet"
        elif seeds:
            yield f"{name}: not run yet: seed {listed(seeds)}"


def _is(test: str, arm: Arm) -> bool:
    """Whether all of an arm's runs are the experiment that a claim names, word for word: nothing cut, nothing added."""
    wanted = {word for word in shlex.split(test) if not word.startswith(ELSEWHERE)}
    given = [{word for word in entry.command[2:] if not word.startswith(ELSEWHERE)} for entry in arm.runs]
    return bool(given) and all(words_of == wanted for words_of in given)


def _by_seed(arm: Arm) -> dict[int, float]:
    return {entry.seed: score for entry, score in zip(arm.runs, arm.scores, strict=True)}


def _names(settings: Sequence[Mapping[str, Any]], ids: Sequence[str] = ()) -> list[str]:
    """Short and distinct: the value where one key is swept, else key=value; a search's twins get their run's id."""
    short = [{key: wording.setting(value) for key, value in one.items()} for one in settings]
    names = [next(iter(one.values())) if len(one) == 1 and not ids else ", ".join(words(one)) for one in short]
    names = [name or "all runs" for name in names]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if not twice:
        return names
    exact = ids or [label(dict(one)) for one in settings]
    return [f"{name} ({more})" if name in twice else name for name, more in zip(names, exact, strict=True)]


def _span(ends: Sequence[Any]) -> str:
    """The first to the last."""
    return f"{ends[0]} to {ends[-1]}" if ends[0] != ends[-1] else str(ends[0])


def _equals(p: str) -> str:
    return p if p.startswith(("<", ">")) else f"= {p}"
