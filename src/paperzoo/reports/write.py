"""A report's folder: what it is derived from, and everything that is derived.

``reports/<name>/`` holds ``runs.jsonl`` (the records), ``<name>.yaml`` (the sweep), ``problems.txt`` (what the source
could not read, if anything), ``places.json`` (where the sweep file and the report are, if elsewhere than usual) and
``report.yaml`` (what the author says, if anything). All else follows from these: the same inputs give the same bytes.
``golden.yaml`` is a check beside them; ``disagreement.json``, if it is there, what runs said for bias and variance.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from paperzoo import cards
from paperzoo.errors import UserError
from paperzoo.reports import bias_variance, description, golden_row, measured, places, record_sources
from paperzoo.reports.analysis import analyse
from paperzoo.reports.figures import draw, write_figures
from paperzoo.reports.markdown import write_markdown
from paperzoo.reports.model import Report
from paperzoo.reports.page import write_index, write_page
from paperzoo.reports.places import Places
from paperzoo.reports.record_sources import PROBLEMS, RECORDS, Found
from paperzoo.reports.runs_csv import write_table
from paperzoo.runs.record import write_atomically
from paperzoo.sweeps.specification import read

DRAWN = (".svg", ".png")


@dataclass(frozen=True)
class Written:
    """A report and the files that were derived."""

    report: Report
    files: list[Path]


def make(
    path: str,
    *,
    source: str,
    runs_dir: str,
    out: str,
    storage: str | None = None,
    wandb_sweep: str | None = None,
) -> Written:
    """Write the report of a sweep file's runs, and the index of all reports.

    A report that is there already stays whole until the new one is.

    Args:
        path: of the sweep file; its stem names the report.
        source: ``local``, ``wandb``, a folder with ``.wandb`` files, or a report's.
        runs_dir: of a local source.
        out: the folder of all reports.
        storage: of the sweep's plan, where it is not the default.
        wandb_sweep: ``<entity>/<project>/<id>``.

    Raises:
        UserError: the sweep, the source or the description is not right, the folder cannot be written, or no run was
            found and a report of some is there.
    """
    sweep, name = read(path), Path(path).stem
    folder = Path(out) / name
    if folder / f"{name}.yaml" == folder / description.FILE:
        raise UserError(f"{path}: a report's own description is called {description.FILE}; give the sweep another name")
    description.read(folder / description.FILE)  # a mistake in it is found before anything is written
    found = record_sources.find(source, sweep, name, runs_dir=runs_dir, storage=storage, wandb_sweep=wandb_sweep)
    if not found.records and _has_records(folder):
        raise UserError(
            f"source={source}: holds no run of {name}, so the report in {folder} stays as it is; "
            f"source={folder} writes it again from its own records"
        )
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=out) as temporary:
            new = Path(temporary) / name
            copy_inputs(folder, new)
            save(found, Path(path), new, Places(str(Path(path)), str(folder), runs_dir))
            del found  # it is read again, and large
            written = derive(new, new)
            _put(new, folder)
        if Path(out).resolve() == cards.REPORTS:
            measured.fill(written.report)
        write_index(Path(out))
    except OSError as error:
        raise UserError(f"out={out}: cannot write to it ({error.strerror}); choose another") from None
    return Written(written.report, [folder / path.name for path in written.files])


def _has_records(folder: Path) -> bool:
    return (folder / RECORDS).is_file() and (folder / RECORDS).stat().st_size > 0


def _put(new: Path, folder: Path) -> None:
    """Move a report to its place, where the description stays and what belonged to the old report goes."""
    folder.mkdir(exist_ok=True)
    names = {path.name for path in new.iterdir()} - {description.FILE}
    for name in sorted(names):
        (new / name).replace(folder / name)
    for path in folder.iterdir():
        if path.name not in names and (path.suffix in DRAWN or path.name in (PROBLEMS, places.FILE)):
            path.unlink()


def save(found: Found, sweep: Path, folder: Path, where: Places | None = None) -> None:
    """Write what a report is derived from.

    Args:
        found: what the source gave.
        sweep: the sweep file, which is copied.
        folder: of the report.
        where: the sweep file and the report will be, for the commands; the usual places unless given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places.save(where or Places.usual(folder.name), folder)
    write_atomically(folder / RECORDS, "".join(record_sources.written(found.records)).encode())
    write_atomically(folder / f"{folder.name}.yaml", sweep.read_bytes())
    problems = folder / PROBLEMS
    if found.problems:
        write_atomically(problems, "".join(f"{' '.join(line.split())}\n" for line in found.problems).encode())
    else:
        problems.unlink(missing_ok=True)


def derive(folder: Path, into: Path) -> Written:
    """Derive everything from the inputs in ``folder``; the files are written to ``into``.

    Raises:
        UserError: an input is missing or has a mistake.
    """
    report = load(folder)
    into.mkdir(parents=True, exist_ok=True)
    drawings = draw(report)
    files = write_figures(report, into, drawings)
    shown = [path.name for path in files if path.suffix == ".svg"]
    files += [write_table(report, into), write_markdown(report, into, shown), write_page(report, into, drawings)]
    return Written(report, files)


def load(folder: Path) -> Report:
    """The report that the inputs in ``folder`` give.

    Raises:
        UserError: an input is missing or has a mistake.
    """
    name = folder.resolve().name
    sweep = read(folder / f"{name}.yaml")
    found = record_sources.of_report(folder)
    said = description.read(folder / description.FILE)
    asked, stale = bias_variance.read(folder, found.records)
    problems = [*found.problems, *stale]
    return analyse(
        found.records, sweep, said, name=name, problems=problems, places=places.read(folder), disagreement=asked
    )


def inputs(folder: Path) -> list[Path]:
    """The files in a report's folder that are given, not derived."""
    names = (RECORDS, f"{folder.resolve().name}.yaml", PROBLEMS, places.FILE, description.FILE, golden_row.FILE,
             bias_variance.FILE)  # fmt: skip
    return [folder / name for name in names if (folder / name).is_file()]


def copy_inputs(folder: Path, into: Path) -> None:
    """Copy what a report is derived from."""
    into.mkdir(parents=True, exist_ok=True)
    for path in inputs(folder):
        shutil.copyfile(path, into / path.name)
