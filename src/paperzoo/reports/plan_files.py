"""``plan=``: the pilot, the words, and the planned sweep as a file."""

from pathlib import Path

import yaml

from paperzoo import yamls
from paperzoo.errors import UserError
from paperzoo.reports import description, planning, record_sources, wording
from paperzoo.reports.analysis import analyse
from paperzoo.reports.facts import counted
from paperzoo.reports.model import Report
from paperzoo.reports.planning import Planned
from paperzoo.runs.record import write_atomically
from paperzoo.sweeps.specification import SEED, Sweep, read

PLANNED, PILOT = "_planned", "_pilot"  # follow the name of the sweep


def make(
    path: str, effect: float, *, pilot: int | None, source: str, runs_dir: str, out: str, storage: str | None,
    wandb_sweep: str | None,
) -> None:  # fmt: skip
    """Plan a sweep that finds an effect, say what it takes, and write it.

    Args:
        path: of a sweep file, a grid.
        effect: the smallest difference to be found, in the metric's unit (points, where it is shown in %).
        pilot: seeds of a pilot that is run here first; None: the spread comes from the runs that there are.
        source, runs_dir, out, storage, wandb_sweep: see ``write.make``.

    Raises:
        UserError: the sweep is no grid, there are too few runs, or the planned file is there and says something else.
    """
    sweep, name = read(path), Path(path).stem
    if sweep.method != "grid":
        raise UserError(f"plan={effect:g}: {path} is a search (method {sweep.method}); a grid can be planned")
    said = description.read(Path(out) / name / description.FILE)
    if pilot is not None:
        path_of_pilot = _write_pilot(Path(path), sweep, pilot)
        _run_pilot(path_of_pilot, pilot, runs_dir)
        sweep, name, source, storage = read(path_of_pilot), path_of_pilot.stem, "local", None
    found = record_sources.find(source, sweep, name, runs_dir=runs_dir, storage=storage, wandb_sweep=wandb_sweep)
    report = analyse(found.records, sweep, said, name=name, problems=found.problems)
    for line in report.problems:
        print(f"note: {line}")
    try:
        planned = planning.plan(report, effect)
    except UserError as error:
        line = str(error).replace("plan=:", f"plan={effect:g}:", 1)
        if pilot is None and "too few" in line:
            line += f"; pilot=4 runs {_pilot_runs(sweep, 4)} first, those of seeds 0 to 3"
            published = Path(out) / name
            if (published / record_sources.RECORDS).is_file():
                line += f"; source={published} takes those of the report that is there"
        raise UserError(line) from None
    _say(report, planned)
    _write(Path(path), report, planned, said, Path(out))


def _pilot_runs(sweep: Sweep, count: int) -> str:
    cells = {yaml.safe_dump(sweep.variant(cell)) for cell in sweep.cells()}
    return counted(len(cells) * count, "run")


def _write_pilot(path: Path, sweep: Sweep, count: int) -> Path:
    """The sweep with a few seeds only, beside the sweep file."""
    own = [cell[SEED] for cell in sweep.cells() if SEED in cell]
    chosen = [*dict.fromkeys(int(seed) for seed in own), *(s for s in range(count + len(own)) if s not in own)][:count]
    pilot = path.with_name(f"{path.stem}{PILOT}.yaml")
    _save(pilot, _with_seeds(path, chosen, pilot.stem), f"The pilot of {path}: the spread between seeds, to plan with.")
    return pilot


def _run_pilot(path: Path, count: int, runs_dir: str) -> None:
    from paperzoo.sweeps import local

    print(f"pilot: {_pilot_runs(read(path), count)}, {counted(count, 'seed')} of every variant, by {path}")
    if local.run(str(path), agents=1, storage=None, runs_dir=runs_dir, max_failures=5, retry_failed=False):
        raise UserError(f"{path}: a run of the pilot failed; the lines above say why, the same command goes on")


def _say(report: Report, planned: Planned) -> None:
    """What was found, and what it takes."""
    points = report.points
    effect = f"{wording.number(planned.effect)} {points}".strip()
    print(
        f"spread of a paired difference: {wording.number(planned.spread.value)} {points}".rstrip()
        + f" (standard deviation, {planned.spread.degrees:g} degrees of freedom, from {_runs(report)})"
    )
    width = max(len("variant"), *(len(own.name) for own in planned.variants))
    print(f"{'variant':{width}}  pairs  own spread  power with {planned.seeds} seeds at its own spread")
    for own in planned.variants:
        finds = "" if own.power is None else "finds it" if own.power >= planning.POWER else "may miss it"
        print(
            f"{own.name:{width}}  {own.pairs:5}  {wording.number(own.spread):>10}  "
            f"{wording.probability(own.power)} {finds}".rstrip()
        )
    variants = counted(len(planned.variants), "variant")
    time = f", about {wording.seconds(planned.seconds)} one at a time" if planned.seconds else ""
    print(
        f"planned: {planned.seeds} seeds, {counted(planned.seeds * len(report.variants), 'run')}{time}: a difference "
        f"of {effect} is found with power .8 (paired t, Holm over {variants}, averaged over possible true spreads)"
    )
    if len(planned.variants) > 1:
        print(f"with one variant beside the baseline {planned.alone} seeds would do")


def _runs(report: Report) -> str:
    return counted(sum(len(variant.runs) for variant in report.variants), "run")


def _write(path: Path, report: Report, planned: Planned, said: description.Description, out: Path) -> None:
    """The planned sweep beside its model, and what its report states in advance."""
    new = path.with_name(f"{path.stem}{PLANNED}.yaml")
    used = [run.seed for variant in report.variants for run in variant.runs]
    used += [int(cell[SEED]) for cell in read(path).cells() if SEED in cell]
    first = max(used, default=-1) + 1
    chosen = list(range(first, first + planned.seeds))
    effect = f"{planned.effect:g} {report.points}".strip()
    why = (
        f"Planned from {_runs(report)} (spread of a paired difference {planned.spread.value:.3g}): {planned.seeds} "
        f"seeds find a difference of {effect} with power .8.\n"
        "# The seeds are new: the runs that the spread comes from are not used again."
    )
    folder = out / new.stem
    stated = said.model_copy(update={"worth": planned.effect}).model_dump(exclude_defaults=True)
    _save(new, _with_seeds(path, chosen, new.stem), why)
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / description.FILE, stated, f"Stated before the runs, by plan={planned.effect:g}.")
    print(f"written: {new} (seeds {chosen[0]} to {chosen[-1]}) and {folder / description.FILE} (worth: {effect})")
    print(f"run it: python src/sweep.py {new}")


def _with_seeds(path: Path, chosen: list[int], name: str) -> dict[str, object]:
    plain = yamls.read(path)
    parameters = {**plain["parameters"]}
    parameters[SEED] = {"values": chosen}
    return {**plain, "name": name, "parameters": parameters}


def _save(path: Path, content: dict[str, object], comment: str) -> None:
    """Write a file, unless another is there."""
    if path.is_file() and yamls.read(path) != content:
        raise UserError(f"{path}: is there already and says something else; move it away")
    dumped = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=118)
    write_atomically(path, f"# {comment}\n{dumped}".encode())
