"""From records to a report: variants, intervals, comparisons, claims, costs, and what went wrong in one line each."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from paperzoo import metric as metrics
from paperzoo.config.messages import nearest
from paperzoo.errors import UserError
from paperzoo.reports import bias_variance, claims, facts, statistics, wording
from paperzoo.reports.claims import Scale
from paperzoo.reports.description import FILE, ClaimPair, Description
from paperzoo.reports.facts import counted, listed, machine
from paperzoo.reports.headline import headline
from paperzoo.reports.importance import importance as importance_of
from paperzoo.reports.model import ClaimLine, Comparison, Goal, Report, Variant
from paperzoo.reports.places import Places
from paperzoo.reports.variants import Group, cell_of, groups, latest_attempts
from paperzoo.runs.record import Record
from paperzoo.sweeps.command import command, label, words
from paperzoo.sweeps.specification import Cell, Sweep

ROWS = 20  # variants whose own command is listed
WORTH = 0.5  # points: the smallest effect worth finding in a metric that is shown in %, unless report.yaml states one
WORTH_SHARE = 0.01  # of the baseline's mean: likewise in any other metric
GOALS: dict[str, Goal] = {"max": "maximize", "min": "minimize"}


def analyse(
    records: Sequence[Record],
    sweep: Sweep,
    description: Description | None = None,
    *,
    name: str | None = None,
    problems: Sequence[str] = (),
    places: Places | None = None,
    disagreement: Mapping[str, Any] | None = None,
) -> Report:
    """The report of a sweep's records.

    Args:
        records: in any order, from any source; several attempts of one identity count as one run.
        sweep: whose variants they are.
        description: what its author says about it.
        name: of the sweep file and of the report's folder; the sweep's own where none is given.
        problems: of the source; those of the records come after them.
        places: of the sweep file and the report, for the commands; ``sweeps/`` and ``reports/`` unless given.
        disagreement: of a grid's runs, as ``bias_variance`` reads it.

    Raises:
        UserError: the description names a variant that there is not.
    """
    description = description or Description()
    name = name or sweep.name
    study = _Study(sweep, description, name, records, places or Places.usual(name))
    study.problems[:0] = problems
    return study.grid(records, disagreement) if sweep.method == "grid" else study.search(records)


class _Study:
    """What the parts of an analysis share."""

    def __init__(
        self, sweep: Sweep, description: Description, name: str, records: Sequence[Record], places: Places
    ) -> None:
        self.sweep, self.description, self.name, self.places = sweep, description, name, places
        self.problems: list[str] = []
        declared = next((entry.task_metrics for entry in records if entry.measures), None)
        declared = declared or next((entry.task_metrics for entry in records), metrics.BEFORE)
        self.key = sweep.metric.name if sweep.metric else f"test/{declared[0].name}"
        self.metric = metrics.find(declared, self.key)
        self.goal = self._goal(self.metric in (*declared, *metrics.BEFORE, metrics.LOSS))
        self.sample = _only({entry.unit for entry in records}, "image", "sample")
        self.worth: float | None = description.worth

    def _goal(self, declared: bool) -> Goal:
        """As the task declares it; the sweep's where the task does not know the metric."""
        given = self.sweep.metric
        if not declared:
            return given.goal if given else "maximize"
        goal = GOALS[self.metric.goal]
        if given and "goal" in given.model_fields_set and given.goal != goal:
            good = "higher" if goal == "maximize" else "lower"
            self.problems.append(
                f"metric.goal: the sweep says {given.goal}, but {good} is better of {self.key}; the report says {goal}"
            )
        return goal

    @property
    def unit(self) -> str:
        return "%" if self.metric.percent else ""

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.metric.percent else ""

    @property
    def scale(self) -> Scale:
        return Scale(self.key, self.unit, self.points, self.goal, self.worth)

    def grid(self, records: Sequence[Record], disagreement: Mapping[str, Any] | None = None) -> Report:
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
            self.problems.append(f"no run of this sweep was found; `{self.places.run}` makes them")
        else:
            self.problems += _missing(names, found)
        used = [run for variant in variants for run in variant.runs]
        self._check_data(used)
        self._check_machines(used)
        self.worth = self.worth or _usual_worth(self.metric.percent, variants)
        comparisons = self.comparisons(variants)
        everyone = [entry for group in found for runs in group.runs.values() for entry in runs]
        return self.report(
            variants,
            everyone,
            swept=self.sweep.varying,
            comparisons=comparisons,
            answer=self._answer(variants, comparisons),
            claims=self._claims({variant.name: variant for variant in variants}, comparisons),
            worth=self.worth if comparisons else None,
            decompositions=bias_variance.of_variants(variants, disagreement),
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
            self.problems.append(f"no run of this sweep was found; `{self.places.run}` makes them")
        scored = [(entry, cell) for entry, cell in ours if self._usable(f"run {entry.id}", entry)]
        names = _names([self.sweep.variant(cell) for _, cell in scored], [entry.id for entry, _ in scored])
        variants = [
            self.variant(name, Group(self.sweep.variant(cell), cell, runs={entry.seed: [entry]}), checked=True)
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
            metric=self.key,
            unit=self.unit,
            goal=self.goal,
            label=self.metric.title,
            sample=self.sample,
            made_by=self.places.write,
            swept=tuple(swept),
            variants=tuple(variants),
            scale=tuple(said.scale),
            problems=tuple(self.problems),
            facts=facts.of(everyone, [run for variant in variants for run in variant.runs]),
            commands=self._commands(variants),
            **more,
        )

    def variant(self, name: str, group: Group, *, baseline: bool = False, checked: bool = False) -> Variant:
        """A variant's scores and costs; what is wrong with its runs becomes a problem once."""
        chosen: list[Record] = []
        for seed in sorted(group.runs):
            where = f"{name}, seed {seed}"
            runs = group.runs[seed]
            usable = [entry for entry in runs if checked or self._usable(where, entry)]
            if len(usable) > 1:
                which = ", ".join(entry.id for entry in usable)
                self.problems.append(
                    f"{where}: {len(usable)} finished runs that differ in code, data or configuration ({which}); "
                    f"the latest counts"
                )
            chosen += usable[-1:]
        if len(chosen) == 1 and self.sweep.method == "grid" and self.description.baseline is not False:
            self.problems.append(f"{name}: one seed has a result, so that there is no interval")
        scores = tuple(self._score(entry, self.key) for entry in chosen)
        best = [self._score(entry, f"best/{self.key.removeprefix('best/')}") for entry in chosen]
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
        return statistics.holm(compared, self.goal, self.worth)

    def _compare(self, variant: Variant, baseline: Variant) -> Comparison:
        return claims.compare(variant, baseline, self.scale)

    def _score(self, entry: Record, metric: str) -> float:
        """A run's metric in the report's unit; NaN where it has none."""
        rows = entry.epochs[-1] if entry.epochs else {}
        value = entry.metrics.get(metric, rows.get(metric, math.nan))
        return float(value) * (100 if self.metric.percent else 1)

    def _usable(self, where: str, entry: Record) -> bool:
        """Whether a run has the metric; else a line says why not."""
        if entry.status != "finished":
            reason = f": {entry.failure.message}" if entry.failure and entry.status == "failed" else ""
            done = f" in epoch {len(entry.whole_epochs) + 1}" if entry.status in ("interrupted", "running") else ""
            verb = "is running" if entry.status == "running" else entry.status
            self.problems.append(" ".join(f"{where}: {verb}{done}{reason} ({entry.id})".split()))
            return False
        score = self._score(entry, self.key)
        if math.isfinite(score):
            return True
        known = self.key in entry.metrics
        what = f"{self.key} is {score}" if known else f"has no {self.key}"
        self.problems.append(f"{where}: {what}, so that it is left out ({entry.id})")
        return False

    def _baseline(self, names: Sequence[str]) -> str:
        wanted = self.description.baseline
        if wanted is False:
            return ""
        return self._known("baseline", wanted, names) if wanted else next(iter(names), "")

    def _known(self, place: str, variant: str, names: Iterable[str]) -> str:
        """A variant's name, or a line that lists them."""
        names = list(names)
        if variant not in names:
            place = f"{self.places.folder}/{FILE}: {place}"
            raise UserError(
                f"{place}: there is no variant {variant}, there are {', '.join(names)}{nearest(variant, names)}"
            )
        return variant

    def _check_data(self, runs: Sequence[Record]) -> None:
        """Variants are compared on the same data, unless it is what is swept, or each seed has data of its own."""
        own = all(entry.config.get("data", {}).get("split_seed") == entry.seed for entry in runs)
        found = {(own and run.seed, run.data.name, run.data.fingerprint) for run in runs if run.data.fingerprint}
        seen = {(name, fingerprint) for _, name, fingerprint in found}
        swept = any(key == "data" or key.startswith("data.") for key in self.sweep.varying)
        if len(found) > len({seed for seed, _, _ in found}) and not swept:
            names = listed(f"{name} {fingerprint[:10]}" for name, fingerprint in sorted(seen))
            self.problems.append(f"the runs saw {len(seen)} different sets of data: {names}")

    def _check_machines(self, runs: Sequence[Record]) -> None:
        """Runs of one seed differ in their last bits between numbers of threads and processors: that is said."""
        seen = {_machine_of(entry) for entry in runs if entry.determinism.threads}
        if len(seen) > 1 and not any(key.startswith("trainer") for key in self.sweep.varying):
            self.problems.append(
                f"the runs are of {len(seen)} kinds of machine, which round otherwise: {listed(sorted(seen))}"
            )

    def _command(self, cell: Cell) -> str:
        line = [str(word) for word in command(self.sweep, cell)]
        return shlex.join(word for word in line if word != "/usr/bin/env")

    def _commands(self, variants: Sequence[Variant]) -> dict[str, str]:
        """What one does with a report."""
        lines = {
            "run the sweep here": self.places.run,
            "run it on W&B": self.places.on_wandb,
            "write this report from the runs": self.places.write,
            "derive it again from its own records": self.places.derive,
        }
        rows = {
            f"run {variant.name} again and compare": f"{self.places.derive} {shlex.quote(f'row={variant.name}')}"
            for variant in variants[:ROWS]
        }
        return lines | rows

    def _answer(self, variants: Sequence[Variant], comparisons: Sequence[Comparison]) -> str:
        """What was found, from the comparisons alone."""
        baseline = next((variant for variant in variants if variant.baseline), None)
        if not any(variant.score for variant in variants):
            return "No result yet."
        if baseline is not None:
            return headline(comparisons, baseline.name, self.key, self.goal, self.points, self.worth)
        scores = (f"{each.name} {wording.interval(each.score, self.unit)}" for each in variants if each.score)
        return f"{self.key}: {', '.join(scores)}."

    def _best(self, variants: Sequence[Variant], importance: Mapping[str, float]) -> str:
        """The best run of a search, and the key that mattered most."""
        if not variants:
            return "No result yet."
        choose = max if self.goal == "maximize" else min
        best = choose(variants, key=lambda variant: variant.scores[0])
        score = f"{wording.number(best.scores[0])} {self.unit}".strip()
        most = max(importance, key=lambda key: importance[key], default=None)
        matters = f" {most} mattered most ({importance[most]:.2f} of the importance)." if most else ""
        return f"Best of {counted(variants, 'run')}: {self.key} {score} with {best.name} (one seed).{matters}"

    def _claims(self, variants: Mapping[str, Variant], comparisons: Sequence[Comparison]) -> tuple[ClaimLine, ...]:
        """The papers' claims beside what the variants measured."""
        tested = self.description.claims
        pairs = [self._variants_of(claim, variants) for claim in tested]
        return claims.lines(tested, pairs, comparisons, self.scale)

    def _variants_of(self, tested: ClaimPair, variants: Mapping[str, Variant]) -> tuple[Variant, Variant]:
        place = f"claims ({tested.paper} {tested.claim})"
        if tested.baseline == tested.result:
            raise UserError(f"{self.places.folder}/{FILE}: {place}: {tested.result} is both baseline and result")
        baseline, result = (variants[self._known(place, name, variants)] for name in (tested.baseline, tested.result))
        return baseline, result


def _missing(names: Sequence[str], found: Sequence[Group]) -> Iterator[str]:
    """What is planned and has no record, a line a variant."""
    for name, group in zip(names, found, strict=True):
        seeds = [str(seed) for seed in group.seeds if seed not in group.runs]
        if not group.runs:
            yield f"{name}: not run yet"
        elif seeds:
            yield f"{name}: not run yet: seed {listed(seeds)}"


def _usual_worth(percent: bool, variants: Sequence[Variant]) -> float | None:
    """The smallest effect worth finding where the description states none."""
    if percent:
        return WORTH
    score = next((variant.score for variant in variants if variant.baseline), None)
    return (WORTH_SHARE * abs(score.mean) or None) if score else None


def _only(seen: set[str], nothing: str, several: str) -> str:
    """The only element of a set."""
    return several if len(seen) > 1 else next(iter(seen), nothing)


def _names(settings: Sequence[Mapping[str, Any]], ids: Sequence[str] = ()) -> list[str]:
    """Short and distinct: the choice where one config group is swept, else key=value; twins also get their run's id."""
    short = [{key: wording.setting(value) for key, value in one.items()} for one in settings]
    alone = not ids and all(len(one) == 1 and _is_choice(*next(iter(one.items()))) for one in settings)
    names = [next(iter(one.values())) if alone else ", ".join(words(one)) for one in short]
    names = [name or "all runs" for name in names]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if not twice:
        return names
    exact = ids or [label(dict(one)) for one in settings]
    return [f"{name} ({more})" if name in twice else name for name, more in zip(names, exact, strict=True)]


def _is_choice(key: str, value: Any) -> bool:
    """Whether a setting says by itself what it is: ``scnet`` does, the 8 of ``model.scale=8`` does not."""
    return "." not in key and isinstance(value, str) and not value.replace(".", "").isdigit()


def _machine_of(entry: Record) -> str:
    """The machine as far as it moves the last bits."""
    return ", ".join(filter(None, (machine(entry), entry.provenance.hardware.get("cpu_capability"))))
