"""``runs.py``: the runs there are, newest first."""

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.runs import folders, record
from paperzoo.runs.record import Record

HEADLINES = ("test/top1", "test/miou")  # of classification and of segmentation


def show(runs_dir: Path, *, model: str | None, status: str | None, limit: int) -> None:
    """Print a table of runs; records that cannot be read are named below it, and the rest stands."""
    entries: list[Record] = []
    damaged: list[str] = []
    for folder in folders.all_folders(runs_dir):
        try:
            entries.append(record.read(folder))
        except UserError as error:
            damaged.append(str(error))
    entries = [entry for entry in entries if _wanted(entry, model, status)]
    entries.sort(key=lambda entry: entry.started, reverse=True)
    console = Display().console
    if entries:
        console.print(_table(entries[:limit]))
        if len(entries) > limit:
            console.print(f"{len(entries) - limit} older runs are not shown; limit={len(entries)} shows all")
    else:
        console.print(f"no runs in {runs_dir}; `python src/train.py model=scnet` makes one")
    for line in damaged:
        console.print(line, soft_wrap=True)


def _wanted(entry: Record, model: str | None, status: str | None) -> bool:
    return (model in (None, entry.config["model"]["name"])) and (status in (None, entry.observed_status()))


def _table(entries: list[Record]) -> Table:
    table = Table("run", "status", "model", "data", box=None, header_style="bold")
    for name in ("seed", "epochs", "test", "best", "time"):
        table.add_column(name, justify="right")
    table.add_column("started")
    for entry in entries:
        table.add_row(*_cells(entry))
    return table


def _cells(entry: Record) -> Iterator[str]:
    yield from (entry.id, entry.observed_status(), entry.config["model"]["name"], entry.data.name, str(entry.seed))
    yield f"{len(entry.epochs)}/{entry.config['trainer']['max_epochs']}"
    for weights in ("last", "best"):
        metrics = entry.results[weights].metrics if weights in entry.results else {}
        value = next((metrics[name] for name in HEADLINES if name in metrics), None)
        yield "" if value is None else f"{100 * value:.2f} %"
    yield f"{entry.wall_seconds:.0f} s"
    yield entry.started[:19].replace("T", " ")
