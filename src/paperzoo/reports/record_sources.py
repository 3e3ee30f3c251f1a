"""Where the records of a sweep come from: run folders, offline W&B files, W&B itself, a report's own ``runs.jsonl``.

Each gives the same records, in the form in which they are published, and a line for whatever it could not read.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from paperzoo.errors import UserError, first_line
from paperzoo.reports import wandb_files
from paperzoo.reports.foreign import to_record
from paperzoo.reports.variants import cell_of, order
from paperzoo.reports.wandb_files import Logged
from paperzoo.runs import folders, record
from paperzoo.runs.identity import without_places
from paperzoo.runs.publishing import published
from paperzoo.runs.record import Record, Status
from paperzoo.sweeps.command import hydra_words
from paperzoo.sweeps.specification import SEED, Cell, Sweep
from paperzoo.tracking import RECORD

PAGE = 100  # runs in one request; lazy ones would take a request each
RECORDS, PROBLEMS = "runs.jsonl", "problems.txt"  # of a report
ROWS = 10_000  # of the history of a run that holds no record; W&B samples longer ones
STATES: dict[str, Status] = {"finished": "finished", "failed": "failed", "running": "running"}  # else interrupted


@dataclass
class Found:
    """What a source gave: records in canonical order, and lines."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find(source: str, sweep: Sweep, name: str, *, runs_dir: str, storage: str | None, wandb_sweep: str | None) -> Found:
    """The records of a sweep.

    Args:
        source: ``local``, ``wandb``, a folder with ``.wandb`` files, or a report's.
        sweep: the specification.
        name: of its file.
        runs_dir: of ``local``.
        storage: of the plan, where it is not the default.
        wandb_sweep: ``<entity>/<project>/<id>``, of ``wandb``.

    Raises:
        UserError: there is no such source, or it cannot be reached.
    """
    if source == "local":
        return local(sweep, name, Path(runs_dir), storage)
    if source == "wandb":
        return online(wandb_sweep)
    if (Path(source) / RECORDS).is_file():
        return of_report(Path(source))
    if Path(source).is_dir():
        return offline(Path(source))
    raise UserError(f"source={source}: must be local, wandb, or a folder that holds .wandb files or {RECORDS}")


def local(sweep: Sweep, name: str, runs_dir: Path, storage: str | None = None) -> Found:
    """The runs below ``runs_dir`` that are the sweep's: by its plan, or by their configuration."""
    planned, problems = _planned(sweep, name, runs_dir, storage)
    known = _Known(sweep)
    kept = _Kept()
    for folder in folders.all_folders(runs_dir):
        try:
            entry = record.read(folder)
        except UserError as error:
            if not planned or folder.parent.name in planned:  # whose it was cannot be read
                problems.append(str(error).replace(f"{runs_dir}/", ""))
            continue
        if entry.identity in planned or known.has(entry):
            kept.add(published(entry))
    return kept.found(problems)


def _planned(sweep: Sweep, name: str, runs_dir: Path, storage: str | None) -> tuple[set[str], list[str]]:
    """The identities of the plan's runs, and what failed before it had a record."""
    default = runs_dir / "sweeps" / f"{name}.db"
    if storage is None and not default.is_file():
        return set(), []
    from paperzoo.sweeps.command import label
    from paperzoo.sweeps.search import cell_of as drawn
    from paperzoo.sweeps.storage import Plan

    plan = Plan(sweep, name, storage or f"sqlite:///{default}")
    identities, problems = set(), []
    for key, trial in plan.counted().items():
        run = trial.user_attrs.get("run")
        if run:
            identities.add(run.rpartition("-")[0])
        elif trial.user_attrs.get("outcome") == "failed":
            cell = plan.cells.get(key) or drawn(sweep, trial.params)
            varying = {k: v for k, v in cell.items() if k in sweep.varying or k == SEED}
            reason = str(trial.user_attrs.get("reason", "")).replace(f"{runs_dir}/", "")
            problems.append(f"{label(varying)}: failed before it had a record: {reason}")
    return identities, problems


class _Known:
    """Whether a run's configuration is one that the sweep's file gives."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.cells = {_key(cell) for cell in sweep.cells()} if sweep.method == "grid" else None
        self.first: dict[str, Cell] = {}

    def has(self, entry: Record) -> bool:
        cell = cell_of(self.sweep, entry)
        if cell is None or (self.cells is not None and _key(cell) not in self.cells):
            return False
        expected = _composed(tuple(hydra_words(self.sweep, self._first(cell))))
        return _agrees(without_places(entry.config), expected, {key.lstrip("+") for key in cell})

    def _first(self, cell: Cell) -> Cell:
        """For all runs that choose the same groups the same values of everything else: they compose once."""
        groups = _key({key: value for key, value in cell.items() if "." not in key and key != SEED})
        return self.first.setdefault(groups, cell)


@lru_cache
def _composed(words: tuple[str, ...]) -> dict[str, Any]:
    """What a command composes; a second or so."""
    from paperzoo.config import compose, dump

    return without_places(dump(compose("train", words)))


def _key(cell: Mapping[str, Any]) -> str:
    return json.dumps(cell, sort_keys=True)


def _agrees(recorded: Any, composed: Any, swept: set[str], place: str = "") -> bool:
    """Equal but for the swept keys; options that came after the run are no difference."""
    if place in swept and not isinstance(recorded, Mapping):
        return True
    if isinstance(recorded, Mapping) and isinstance(composed, Mapping):
        return all(
            key in composed and _agrees(value, composed[key], swept, f"{place}.{key}" if place else key)
            for key, value in recorded.items()
        )
    return bool(recorded == composed)


def offline(folder: Path) -> Found:
    """The runs of all ``.wandb`` files below a folder."""
    files = sorted(folder.rglob("*.wandb"))
    if not files:
        raise UserError(f"source={folder}: there is no .wandb file below it")
    runs, problems = wandb_files.read(files)
    found = _records(runs)
    found.problems = [line.replace(f"{folder}/", "") for line in problems] + found.problems
    return found


def online(path: str | None) -> Found:
    """The runs of a sweep on W&B.

    Raises:
        UserError: no sweep is named, W&B does not let this machine in or cannot be reached, or has no such sweep.
    """
    if not path or path.count("/") != 2:
        raise UserError(f"sweep={path or ''}: must be <entity>/<project>/<id>, as `wandb sweep` has printed it")
    import wandb

    logged, problems = [], []
    try:
        api = wandb.Api(timeout=20)
        filters = {"$and": [{"sweep": api.sweep(path).id}]}
        for run in api.runs(path.rpartition("/")[0], filters=filters, per_page=PAGE, lazy=False):
            try:
                logged.append(_logged(run))
            except (wandb.errors.Error, ValueError, TypeError) as error:
                problems.append(f"W&B run {run.id}: cannot be read ({first_line(error)})")
    except (wandb.errors.Error, ValueError) as error:
        raise UserError(
            f"sweep={path}: W&B does not give it ({first_line(error)}); `wandb login` lets this machine in"
        ) from None
    found = _records(logged)
    found.problems = sorted(found.problems + problems)
    return found


def _logged(run: Any) -> Logged:
    """A run of ``wandb.Api``; its history is fetched only where it holds no record."""
    config = dict(run.config)
    if isinstance(config.get(RECORD), str):
        return Logged(run.id, config=config)
    started = datetime.fromisoformat(str(run.created_at).replace("Z", "+00:00")).timestamp()
    return Logged(
        run.id,
        config=config,
        history=list(run.history(samples=ROWS, pandas=False)),
        summary={key: run.summary.get(key) for key in run.summary.keys()},  # noqa: SIM118 - no mapping of Python's
        status=STATES.get(run.state, "interrupted"),
        started=started,
    )


def _records(runs: Iterable[Logged]) -> Found:
    kept, problems = _Kept(), []
    for run in runs:
        try:
            kept.add(published(to_record(run)))
        except UserError as error:
            problems.append(str(error))
    return kept.found(sorted(problems))


def report_folder(path: str) -> Path:
    """The folder of a report, for a command that is given one.

    Raises:
        UserError: it holds no records.
    """
    if not (Path(path) / RECORDS).is_file():
        raise UserError(f"{path or 'which report?'}: no report; a report's folder holds {RECORDS}")
    return Path(path)


def of_report(folder: Path) -> Found:
    """What a report's folder holds: its records, and what its source could not read."""
    found, problems = lines(folder / RECORDS), folder / PROBLEMS
    known = problems.read_text(encoding="utf-8", errors="replace").splitlines() if problems.is_file() else []
    return Found(found.records, [*known, *found.problems])


def lines(path: Path) -> Found:
    """The records of a report's ``runs.jsonl``, one a line.

    Raises:
        UserError: it cannot be read; a line that cannot is one of the problems.
    """
    kept, problems = _Kept(), []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    kept.add(published(record.parse(line, f"{path.name}, line {number}")))
                except UserError as error:
                    problems.append(str(error))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return kept.found(problems)


class _Kept:
    """Records that share what they have in common: ten thousand of them differ in little, and must fit in memory."""

    def __init__(self) -> None:
        self.all: list[Record] = []
        self.parts: dict[str, BaseModel] = {}
        self.texts: dict[str, str] = {}

    def add(self, entry: Record) -> None:
        """Keep a record."""
        parts = {name: self._part(getattr(entry, name)) for name in ("provenance", "determinism", "data")}
        rows: Any = [{self.texts.setdefault(k, k): v for k, v in row.items()} for row in entry.epochs]
        self.all.append(entry.model_copy(update={**parts, "config": self._plain(entry.config), "epochs": rows}))

    def _part(self, part: BaseModel) -> BaseModel:
        return self.parts.setdefault(part.model_dump_json(), part)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.texts.setdefault(key, key): self._plain(below) for key, below in value.items()}
        return self.texts.setdefault(value, value) if isinstance(value, str) else value

    def found(self, problems: list[str]) -> Found:
        """In canonical order; a record that was there twice counts once, and two that share an id are none."""
        of_id: dict[str, Record] = {}
        torn: set[str] = set()
        for entry in self.all:
            if entry is not (first := of_id.setdefault(entry.id, entry)) and _text(entry) != _text(first):
                torn.add(entry.id)
        records = sorted((entry for name, entry in of_id.items() if name not in torn), key=order)
        more = [f"{name}: two records of this run differ, so that it is left out" for name in sorted(torn)]
        return Found(records, problems + more)


def _text(entry: Record) -> str:
    return entry.model_dump_json()  # NaN equals itself


def written(records: Iterable[Record]) -> Iterator[str]:
    """The lines of ``runs.jsonl``."""
    for entry in sorted(records, key=order):
        yield entry.model_dump_json() + "\n"
