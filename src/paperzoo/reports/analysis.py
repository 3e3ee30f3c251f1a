"""From records to a report: variants, intervals, comparisons, claims, costs, and what went wrong in one line each."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from paperzoo import cards
from paperzoo.config.messages import nearest
from paperzoo.errors import UserError
from paperzoo.reports import facts, statistics, wording
from paperzoo.reports.description import FILE, ClaimPair, Description
from paperzoo.reports.facts import counted, listed
from paperzoo.reports.importance import importance as importance_of
from paperzoo.reports.model import ClaimLine, Comparison, Report, Variant, Verdict
from paperzoo.reports.variants import Group, cell_of, groups, latest_attempts
from paperzoo.runs.record import Record
from paperzoo.sweeps.command import command, label, words
from paperzoo.sweeps.specification import Cell, Metric, Sweep

ROWS = 20  # variants whose own command is listed
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
        sweep: whose variants they are.
        description: what a person says about it.
        name: of the sweep file and of the report's folder; the sweep's own where none is given.
        problems: of the source; those of the records come after them.

    Raises:
        UserError: the description names a variant that there is not.
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
        """Variants over seeds, each against the baseline."""
        found, strangers = groups(self.sweep, records)
        if strangers:
            self.problems.append(
                f"{counted(strangers, 'run')} of no variant left out: {listed(e.id for e in strangers)}"
            )
        names = _names([group.settings for group in found])
        baseline = self._baseline(names)
        variants = [
            self.variant(name, group, baseline=name == baseline and len(names) > 1)
            for name, group in zip(names, found, strict=True)
        ]
        if not any(group.runs for group in found):
            self.problems.append(f"no run of this sweep was found; `{self._run_here()}` makes them")
        else:
            self.problems += _missing(names, found)
        self._check_data([run for variant in variants for run in variant.runs])
        comparisons = self.comparisons(variants)
        everyone = [entry for group in found for runs in group.runs.values() for entry in runs]
        return self.report(
            variants,
            everyone,
            swept=self.sweep.varying,
            comparisons=comparisons,
            answer=self._answer(variants, comparisons),
            claims=self.claims({variant.name: variant for variant in variants}, comparisons),
        )

    def search(self, records: Sequence[Record]) -> Report:
        """Each finished run a variant of its own; which keys mattered."""
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
        names = _names([self.sweep.variant(cell) for _, cell in scored], [entry.id for entry, _ in scored])
        variants = [
            self.variant(name, Group(self.sweep.variant(cell), cell, runs={entry.seed: [entry]}), told=True)
            for name, (entry, cell) in zip(names, scored, strict=True)
        ]
        importance = importance_of(self.sweep, variants)
        return self.report(
            variants,
            [entry for entry, _ in ours],
            comparisons=(),
            swept=[key for key in self.sweep.parameters if key in self.sweep.varying],
            importance=importance,
            answer=self._best(variants, importance),
        )

    def report(
        self, variants: Sequence[Variant], everyone: Sequence[Record], *, swept: Sequence[str], answer: str, **more: Any
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
            variants=tuple(variants),
            scale=tuple(said.scale),
            problems=tuple(self.problems),
            facts=facts.of(everyone, [run for variant in variants for run in variant.runs]),
            commands=self._commands(variants),
            **more,
        )

    def variant(self, name: str, group: Group, *, baseline: bool = False, told: bool = False) -> Variant:
        """A variant's scores and costs; what is wrong with its runs is told once."""
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
        return Variant(
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

    def comparisons(self, variants: Sequence[Variant]) -> tuple[Comparison, ...]:
        """Every variant against the baseline, Holm-adjusted over them."""
        baseline = next((variant for variant in variants if variant.baseline), None)
        if baseline is None:
            return ()
        compared = [self._compare(variant, baseline) for variant in variants if variant is not baseline]
        for line in compared:
            if (
                not line.n
                and baseline.runs
                and any(variant.runs for variant in variants if variant.name == line.variant)
            ):
                self.problems.append(
                    f"{line.variant}: no seed in common with {baseline.name}, so that nothing is compared"
                )
        return statistics.holm(compared, self.metric.goal)

    def _compare(self, variant: Variant, baseline: Variant) -> Comparison:
        return statistics.compare(variant.name, _by_seed(variant), _by_seed(baseline), self.metric.goal)

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

    def _known(self, place: str, variant: str, names: Iterable[str]) -> str:
        """A variant's name, or a line that lists them."""
        names = list(names)
        if variant not in names:
            place = f"reports/{self.name}/{FILE}: {place}"
            raise UserError(
                f"{place}: there is no variant {variant}, there are {', '.join(names)}{nearest(variant, names)}"
            )
        return variant

    def _check_data(self, runs: Sequence[Record]) -> None:
        """Variants are compared on the same data, unless the data are what is swept."""
        seen = {(entry.data.name, entry.data.fingerprint) for entry in runs if entry.data.fingerprint}
        if len(seen) > 1 and not any(key == "data" or key.startswith("data.") for key in self.sweep.varying):
            names = listed(f"{name} {fingerprint[:10]}" for name, fingerprint in sorted(seen))
            self.problems.append(f"the runs saw {len(seen)} different sets of data: {names}")

    def _command(self, cell: Cell) -> str:
        line = [str(word) for word in command(self.sweep, cell)]
        return shlex.join(word for word in line if word != "/usr/bin/env")

    def _run_here(self) -> str:
        return f"python src/sweep.py sweeps/{self.name}.yaml"

    def _commands(self, variants: Sequence[Variant]) -> dict[str, str]:
        """What one does with a report."""
        again = f"python src/reproduce.py reports/{self.name}"
        lines = {
            "run the sweep here": self._run_here(),
            "run it on W&B": f"wandb sweep sweeps/{self.name}.yaml",
            "write this report from the runs": f"python src/report.py sweeps/{self.name}.yaml",
            "re-derive it from its own records": again,
        }
        rows = {
            f"run {variant.name} again and compare": f"{again} row={shlex.quote(variant.name)}"
            for variant in variants[:ROWS]
        }
        return lines | rows

    def _answer(self, variants: Sequence[Variant], comparisons: Sequence[Comparison]) -> str:
        """What was found, from the comparisons alone."""
        baseline = next((variant for variant in variants if variant.baseline), None)
        if baseline is None:
            scores = [
                f"{variant.name}: {wording.interval(variant.score, self.unit)}" for variant in variants if variant.score
            ]
            return f"{self.metric.name}, mean and 95 % interval: {'; '.join(scores)}." if scores else "No result yet."
        if not any(variant.score for variant in variants):
            return "No result yet."
        if len(comparisons) <= SENTENCES:
            return " ".join(self._sentence(line, baseline.name) for line in comparisons)
        return " ".join(self._by_verdict(comparisons, baseline.name))

    def _by_verdict(self, comparisons: Sequence[Comparison], baseline: str) -> Iterator[str]:
        """Of many variants a sentence for each verdict; the table has their p."""
        phrases: dict[Verdict, str] = {
            "better": f"Better than {baseline}",
            "worse": f"Worse than {baseline}",
            "direction": f"A direction away from {baseline}, no more with so few seeds",
            "no difference seen": f"No difference from {baseline} was seen",
            "too few seeds": "Too few seeds to say",
        }
        for verdict, phrase in phrases.items():
            lines = [line for line in comparisons if line.verdict == verdict]
            differences = (f"{c.variant} {wording.interval(c.difference, self.points, signed=True)}" for c in lines)
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
            return f"{line.variant} against {baseline}: too few seeds to say ({counted(line.n, 'pair')})."
        figures = (
            f"{wording.interval(line.difference, self.points, signed=True)}, "
            f"n = {line.n}, Holm p {_equals(wording.probability(line.p_holm))}"
        )
        if line.verdict == "no difference seen":
            smallest = f"{wording.number(line.detectable)} {self.points}".strip()
            seen = f"; a true one of {smallest} would be found four times in five" if line.detectable else ""
            return f"No difference was seen between {line.variant} and {baseline} ({figures}{seen})."
        gain = statistics.is_gain(line.difference.mean, self.metric.goal)
        if line.verdict == "direction":
            tends = f"{line.variant} tends to be {'better' if gain else 'worse'} than {baseline}"
            return f"{tends}; it takes six seeds to say so ({figures})."
        return f"{line.variant} is {line.verdict} than {baseline} ({figures})."

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.percent else ""

    def _best(self, variants: Sequence[Variant], importance: Mapping[str, float]) -> str:
        """The best run of a search, and the key that mattered most."""
        if not variants:
            return "No result yet."
        choose = max if self.metric.goal == "maximize" else min
        best = choose(variants, key=lambda variant: variant.scores[0])
        score = f"{wording.number(best.scores[0])} {self.unit}".strip()
        most = max(importance, key=lambda key: importance[key], default=None)
        matters = f" {most} mattered most ({importance[most]:.2f} of the importance)." if most else ""
        return f"Best of {counted(variants, 'run')}: {self.metric.name} {score} with {best.name} (one seed).{matters}"

    def claims(self, variants: Mapping[str, Variant], comparisons: Sequence[Comparison]) -> tuple[ClaimLine, ...]:
        """The papers' claims beside what the variants measured; Holm's p is the report's, else over the claims."""
        pairs = [self._variants_of(tested, variants) for tested in self.description.claims]
        known = {line.variant: line for line in comparisons}
        others = statistics.holm(
            [self._compare(result, baseline) for baseline, result in pairs if not baseline.baseline], self.metric.goal
        )
        rest = iter(others)
        lines = [known[result.name] if baseline.baseline else next(rest) for baseline, result in pairs]
        return tuple(
            self._claim(tested, line, *pair)
            for tested, line, pair in zip(self.description.claims, lines, pairs, strict=True)
        )

    def _variants_of(self, tested: ClaimPair, variants: Mapping[str, Variant]) -> tuple[Variant, Variant]:
        place = f"claims ({tested.paper} {tested.claim})"
        if tested.baseline == tested.result:
            raise UserError(f"reports/{self.name}/{FILE}: {place}: {tested.result} is both baseline and result")
        baseline, result = (variants[self._known(place, name, variants)] for name in (tested.baseline, tested.result))
        return baseline, result

    def _claim(self, tested: ClaimPair, line: Comparison, baseline: Variant, result: Variant) -> ClaimLine:
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
            runs=tuple(entry.id for variant in (baseline, result) for entry in variant.runs),
            scale=facts.scale([*baseline.runs, *result.runs]),
        )

    def _measured(self, line: Comparison, result: Variant, baseline: Variant) -> str:
        scores = f"{wording.interval(result.score, self.unit)} against {wording.interval(baseline.score, self.unit)}"
        if line.difference is None:
            return f"nothing: no seed in common ({result.name}, {baseline.name})"
        difference = wording.interval(line.difference, self.points, signed=True)
        return f"{scores}, {self.metric.name}; difference {difference}, n = {line.n}"

    def _judged(self, line: Comparison, test: cards.Pair | None, baseline: Variant, result: Variant) -> cards.Verdict:
        """``reproduced`` and ``failed`` are for the paper's own experiment; every other is scaled down."""
        if line.verdict == "too few seeds" or line.difference is None:
            return "not attempted"
        seen = line.verdict in ("better", "direction") and statistics.is_gain(line.difference.mean, self.metric.goal)
        whole = test is not None and _is(test.baseline, baseline) and _is(test.result, result)
        if whole and line.n >= statistics.DECIDE_FROM:
            return "reproduced" if seen else "failed"
        return "direction holds (scaled down)" if seen else "not supported (scaled down)"


def _missing(names: Sequence[str], found: Sequence[Group]) -> Iterator[str]:
    """What is planned and has no record, a line a variant."""
    for name, group in zip(names, found, strict=True):
        seeds = [str(seed) for seed in group.seeds if seed not in group.runs]
        if not group.runs:
            yield f"{name}: not run yet"
        elif seeds:
            yield f"{name}: not run yet: seed {listed(seeds)}"


def _is(test: str, variant: Variant) -> bool:
    """Whether all of a variant's runs are the experiment that a claim names: no word missing, none added."""
    wanted = {word for word in shlex.split(test) if not word.startswith(ELSEWHERE)}
    given = [{word for word in entry.command[2:] if not word.startswith(ELSEWHERE)} for entry in variant.runs]
    return bool(given) and all(words_of == wanted for words_of in given)


def _by_seed(variant: Variant) -> dict[int, float]:
    return {entry.seed: score for entry, score in zip(variant.runs, variant.scores, strict=True)}


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
