"""``runs.py``: the runs there are, newest first, with what tells them apart."""

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.metric import LOSS, Metric
from paperzoo.runs import folders, record
from paperzoo.runs.record import Record

IN_COLUMNS = ("model=", "data=", "seed=")  # overrides that have a column
NOT_SHOWN = ("paths.", "logger", "repeat=", "resume=", "tags=", "debug=", "pictures=", "checkpoint.")
ORDERS = ("started", "test", "time")
FORMATS = ("table", "csv")


def show(
    runs_dir: Path, *, model: str | None, status: str | None, limit: int, sort: str = "started", form: str = "table"
) -> None:
    """Print runs; records that cannot be read are named below them, and the rest stands.

    Args:
        runs_dir: where runs are.
        model, status: of those that are shown; None: all.
        limit: how many at most.
        sort: newest first (started), best first (test) or longest first (time).
        form: a table, or CSV for other programs.
    """
    entries, damaged = _read(runs_dir)
    wanted = [entry for entry in entries if _wanted(entry, model, status)]
    wanted.sort(key=_ORDER[sort], reverse=True)
    console = Display().console
    if form == "csv":
        _write_csv(wanted[:limit])
    elif wanted:
        console.print(_table(wanted[:limit]))
        if len(wanted) > limit:
            console.print(f"{len(wanted) - limit} more runs are not shown; limit={len(wanted)} shows all")
    else:
        console.print(_none(runs_dir, entries, model, status), soft_wrap=True)
    for line in damaged:
        console.print(line, soft_wrap=True)


def _read(runs_dir: Path) -> tuple[list[Record], list[str]]:
    entries: list[Record] = []
    damaged: list[str] = []
    for folder in folders.all_folders(runs_dir):
        try:
            entries.append(record.read(folder))
        except UserError as error:
            damaged.append(str(error))
    return entries, damaged


def _none(runs_dir: Path, entries: Sequence[Record], model: str | None, status: str | None) -> str:
    if not entries:
        return f"no runs in {runs_dir}; `python src/train.py model=scnet` makes one"
    asked = " ".join(f"{key}={value}" for key, value in (("model", model), ("status", status)) if value)
    models = ", ".join(sorted({entry.config["model"]["name"] for entry in entries}))
    return f"no runs with {asked} in {runs_dir}; there are {len(entries)} others, of {models}"


def _wanted(entry: Record, model: str | None, status: str | None) -> bool:
    return (model in (None, entry.config["model"]["name"])) and (status in (None, entry.observed_status()))


def _headline(entry: Record) -> Metric:
    return entry.task_metrics[0]


def _tested(entry: Record, weights: str) -> float | None:
    """The headline metric on test; of a run from before it was declared, whichever of the known ones is there."""
    metrics = entry.results[weights].metrics if weights in entry.results else {}
    names = [metric.name for metric in (*entry.task_metrics, LOSS)]
    return next((metrics[f"test/{name}"] for name in names if f"test/{name}" in metrics), None)


def _goodness(entry: Record) -> float:
    value = _tested(entry, "last")
    if value is None:
        return float("-inf")
    return value if _headline(entry).goal == "max" else -value


_ORDER: dict[str, Callable[[Record], Any]] = {
    "started": lambda entry: entry.started,
    "test": _goodness,
    "time": lambda entry: entry.wall_seconds,
}


def _overrides(entry: Record) -> str:
    """The overrides of its command, but for those that have a column and those that change no result."""
    words = [word for word in entry.command if "=" in word and not word.startswith((*IN_COLUMNS, *NOT_SHOWN))]
    return " ".join(words)


def _table(entries: list[Record]) -> Table:
    table = Table("run", "status", "model", "data", "overrides", box=None, header_style="bold")
    for name in ("seed", "epochs", "metric", "test", "best", "time"):
        table.add_column(name, justify="right")
    table.add_column("started")
    for entry in entries:
        table.add_row(*_cells(entry))
    return table


def _cells(entry: Record) -> Iterator[str]:
    yield from (entry.id, entry.observed_status(), entry.config["model"]["name"], entry.data.name, _overrides(entry))
    yield str(entry.seed)
    yield _epochs(entry)
    yield _headline(entry).name
    for weights in ("last", "best"):
        value = _tested(entry, weights)
        yield "" if value is None else _headline(entry).text(value)
    yield f"{entry.wall_seconds:.0f} s"
    yield entry.started[:19].replace("T", " ")


def _epochs(entry: Record) -> str:
    """Those done, of how many; each stage has a number of its own, and a loop none."""
    staged = bool(entry.epochs) and "stage" in entry.epochs[-1]
    done = len(entry.whole_epochs)
    return str(done) if staged else f"{done}/{entry.config['trainer']['max_epochs']}"


def _write_csv(entries: Sequence[Record]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(
        ["run", "status", "model", "data", "overrides", "seed", "metric", "test", "best", "seconds", "started"]
    )
    for entry in entries:
        about = (entry.id, entry.observed_status(), entry.config["model"]["name"], entry.data.name, _overrides(entry))
        tested = (_tested(entry, "last"), _tested(entry, "best"))
        rows.writerow([*about, entry.seed, _headline(entry).name, *tested, entry.wall_seconds, entry.started])
