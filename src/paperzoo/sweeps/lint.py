"""What W&B and Hydra would misunderstand in a sweep file, found before the first run."""

import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from paperzoo.config import compose
from paperzoo.config.building import locate
from paperzoo.errors import UserError
from paperzoo.metric import LOSS, Metric
from paperzoo.sweeps.command import command, hydra_words, program_of, words
from paperzoo.sweeps.specification import Cell, Parameter, Sweep, read

HYDRA_FORMS = ("${args_no_hyphens}", "${args_append_hydra}", "${args_override_hydra}")
BOOLEANS = ("true", "false", "True", "False", "TRUE", "FALSE")
COMMAND = """\
command:
  - ${env}
  - ${interpreter}
  - ${program}
  - ${args_no_hyphens}"""
COMPOSED = 200  # of a large grid so many runs are composed, spread over it


def check(path: str | Path) -> Sweep:
    """The sweep of a file, if nothing is wrong with it.

    Raises:
        UserError: the first finding.
    """
    sweep = read(path)
    for finding in findings(Path(path), sweep):
        raise UserError(f"{path}: {finding}")
    return sweep


def findings(path: Path, sweep: Sweep) -> Iterator[str]:
    """One line for each thing that would go wrong; the last check composes every run and stops at the first."""
    yield from _program(path, sweep)
    yield from _booleans(path)
    for key, parameter in sweep.parameters.items():
        yield from (f"parameters.{key}: {finding}" for finding in _parameter(key, parameter))
    yield from _metric(sweep)
    yield from _runs(sweep)


def _program(path: Path, sweep: Sweep) -> Iterator[str]:
    if not any(form in sweep.command for form in HYDRA_FORMS):
        yield (
            "command: must hold ${args_no_hyphens}: Hydra reads key=value, W&B's own default gives --key=value; "
            f"paste these lines:\n{COMMAND}"
        )
    if "${program}" not in sweep.command:
        yield "command: must hold ${program}"
    known = ("${env}", "${interpreter}", "${program}", "${args}", *HYDRA_FORMS)
    for word in map(str, sweep.command):
        if word.startswith("${") and word not in known and not word.startswith("${envvar:"):
            yield f"command: {word}: there is no such word, there are {', '.join(known)}, ${{envvar:NAME}}"
    if not Path(program_of(sweep)).is_file():
        yield f"program: {sweep.program} is not there, seen from {Path.cwd()}; W&B starts it from the working folder"


def _booleans(path: Path) -> Iterator[str]:
    """YAML 1.1 reads on, off, yes and no as true and false."""
    for token in yaml.scan(path.read_text(encoding="utf-8")):
        if isinstance(token, yaml.ScalarToken) and token.plain:
            tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, token.value, (True, False))
            if tag == "tag:yaml.org,2002:bool" and token.value not in BOOLEANS:
                yield (
                    f"line {token.start_mark.line + 1}: YAML reads {token.value} as a boolean; "
                    f'write "{token.value}", or true or false'
                )


def _parameter(key: str, parameter: Parameter) -> Iterator[str]:
    if isinstance(parameter.value, dict) or any(isinstance(value, dict) for value in parameter.values or []):
        yield "a mapping does not reach Hydra; write dotted keys, such as optimizer.lr"
        return
    for value in parameter.choices or []:
        yield from _value(key, value)
    choices = [f"{value}" for value in parameter.choices or []]
    if len(set(choices)) < len(choices):
        yield f"a value is there twice in {parameter.choices}: the same run would be planned twice"
    if parameter.kind in ("log_uniform", "q_log_uniform", "inv_log_uniform"):
        yield (
            f"distribution {parameter.kind} takes exponents of e as min and max; "
            f"{parameter.kind}_values takes the values themselves"
        )


def _value(key: str, value: Any) -> Iterator[str]:
    """Does Hydra read the word that W&B makes of the value as that value?"""
    if value is None or (isinstance(value, list) and None in value):
        yield 'null becomes the word None on W&B\'s command line; write "null" in quotes'
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    word = words({key: value})[0]
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:
        yield f"{value!r}: Hydra cannot read {word}; put quotes inside the value: \"'{value}'\""
        return
    if override.is_sweep_override():
        yield f"{value!r}: Hydra reads {word} as several values; put quotes inside: \"'{value}'\" (a list is [a, b])"


def _metric(sweep: Sweep) -> Iterator[str]:
    if sweep.metric is None:
        return
    name = sweep.metric.name
    if not name.startswith(("val/", "test/", "best/", "train/")):
        yield f"metric.name: {name} is logged by no run; such as val/top1, val/loss, test/top1"
    if not name.startswith("val/") and (sweep.method == "bayes" or sweep.early_terminate):
        yield f"metric.name: {name} would choose by what is to be reported; validation chooses, use val/..."


def _runs(sweep: Sweep) -> Iterator[str]:
    """Every run must compose and validate as its own command line would, and its task must have the metric."""
    targets: dict[str, str] = {}
    for cell in samples(sweep):
        try:
            model = compose("train", hydra_words(sweep, cell)).model
        except UserError as error:
            yield f"{' '.join(command(sweep, cell)[2:])}: {error}"
            return
        targets.setdefault(model.target, model.name)
    for target, name in targets.items():
        yield from _logged(sweep, target, name)


def _logged(sweep: Sweep, target: str, model: str) -> Iterator[str]:
    """Whether the runs of a model will have the metric, and whether the sweep looks for its better end.

    The model's class says what its task measures; importing it imports torch, which only this check needs.
    """
    if sweep.metric is None:
        return
    declared: tuple[Metric, ...] = getattr(locate(target), "metrics", ())
    split, _, name = sweep.metric.name.removeprefix("best/").partition("/")
    known = {metric.name: metric for metric in (*declared, LOSS)}
    if not declared or split == "train" or "/" in name or name.startswith("loss_"):
        return  # training logs each of its losses, and papers what their layers have learned
    if name not in known:
        there = [f"{split}/{each}" for each in known]
        near = difflib.get_close_matches(name, known, n=1)  # val/acc is not near val/ece
        hint = f"; did you mean {split}/{near[0]}?" if near else ""
        yield f"metric.name: {sweep.metric.name} is logged by no run of {model}, there are {', '.join(there)}{hint}"
        return
    goal = {"max": "maximize", "min": "minimize"}[known[name].goal]
    if sweep.metric.goal != goal:
        given = sweep.metric.goal if "goal" in sweep.metric.model_fields_set else f"{sweep.metric.goal} (W&B's default)"
        good = "higher" if goal == "maximize" else "lower"
        yield f"metric.goal: {given}, but {good} is better of {sweep.metric.name}; write goal: {goal}"


def samples(sweep: Sweep) -> list[Cell]:
    """Runs that stand for all: of a grid those planned (of a large one some), of a search the ends of each range."""
    if sweep.method == "grid":
        cells = sweep.cells()
        return cells[:: -(-len(cells) // COMPOSED)]
    first = {key: _ends(parameter)[0] for key, parameter in sweep.parameters.items()}
    return [first, *({**first, key: end} for key, p in sweep.parameters.items() for end in _ends(p)[1:])]


def _ends(parameter: Parameter) -> list[Any]:
    """Values at the ends of a range, or all choices."""
    from paperzoo.sweeps.search import at

    return parameter.choices or [at(parameter, 0.0), at(parameter, 1.0)]


def main(paths: list[str]) -> int:
    """Check the files; one line for each finding. Exit code 2 if there is one."""
    count = 0
    for path in paths:
        try:
            lines = [f"{path}: {finding}" for finding in findings(Path(path), read(path))]
        except UserError as error:
            lines = [str(error)]
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        count += len(lines)
    print(f"{len(paths)} sweep file{'s' * (len(paths) != 1)} checked, {count} finding{'s' * (count != 1)}")
    return 2 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or sorted(str(path) for path in Path("sweeps").glob("*.yaml"))))
