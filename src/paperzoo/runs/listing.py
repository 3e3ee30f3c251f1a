"""``runs.py``: the runs there are, newest first, with what tells them apart."""

import csv
import sys
from collections.abc import Callable, Sequence
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
WIDE = 160  # columns that the whole table has room in
ALL = ("run", "status", "model", "data", "overrides", "seed", "epochs", "metric", "test", "best", "time", "started")
FEW = ("run", "status", "model, data, overrides", "seed", "epochs", "test metric", "time")
NUMBERS = ("seed", "epochs", "metric", "test", "test metric", "best", "time")


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
        console.print(_table(wanted[:limit], console.width))
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
    return _as_trained(entries), damaged


def _as_trained(entries: Sequence[Record]) -> list[Record]:
    """A repetition by ``reproduce.py`` names a run and no overrides: with the command of the run that it repeats."""
    trained = {entry.identity: entry.command for entry in entries if not _is_repetition(entry)}
    return [
        entry.model_copy(update={"command": trained.get(entry.identity, entry.command)})
        if _is_repetition(entry)
        else entry
        for entry in entries
    ]


def _is_repetition(entry: Record) -> bool:
    return any(Path(word).name in ("reproduce", "reproduce.py") for word in entry.command[:2])


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


def _table(entries: list[Record], width: int) -> Table:
    """All columns where there is room; else those that tell runs apart, and the id whole, so that it can be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    chosen = ALL if width >= WIDE else FEW
    for name in chosen:
        table.add_column(
            name, justify="right" if name in NUMBERS else "left", no_wrap=name in ("run", "status"), overflow="fold"
        )
    for entry in entries:
        cells = _cells(entry)
        table.add_row(*(cells[name] for name in chosen))
    return table


def _cells(entry: Record) -> dict[str, str]:
    headline = _headline(entry)
    last, best = (_tested(entry, weights) for weights in ("last", "best"))
    model, data, changed = entry.config["model"]["name"], entry.data.name, _overrides(entry)
    return {
        "run": entry.id,
        "status": entry.observed_status(),
        "model": model,
        "data": data,
        "overrides": changed,
        "model, data, overrides": f"{model} {data} {changed}".rstrip(),
        "seed": str(entry.seed),
        "epochs": _epochs(entry),
        "metric": headline.name,
        "test": "" if last is None else headline.text(last),
        "test metric": "" if last is None else f"{headline.name} {headline.text(last)}",
        "best": "" if best is None else headline.text(best),
        "time": f"{entry.wall_seconds:.0f} s",
        "started": entry.started[:19].replace("T", " "),
    }


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
