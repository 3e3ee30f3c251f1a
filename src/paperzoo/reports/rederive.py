"""``reproduce.py reports/x``: derive a report again and compare bytes, or run a variant again and compare metrics."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from paperzoo import cards, reproduction
from paperzoo.config.messages import nearest
from paperzoo.config.schema import Paths
from paperzoo.errors import UserError
from paperzoo.reports import golden_row, measured
from paperzoo.reports.page import PAGE, write_index
from paperzoo.reports.write import RECORDS, derive, inputs, load
from paperzoo.verbs import whole_number

SHOWN = 60  # letters of a line that differs
SAYS = ".svg .html .md .csv"  # the later, the more a difference in it says


def run(
    path: str,
    row: str | None,
    seed: str | None,
    diff: str | None,
    root: str | None,
    *,
    runs_dir: str,
    data_dir: str,
    tolerance: float | None,
) -> int:
    """What ``reproduce.py`` does with a folder of reports.

    Raises:
        UserError: it holds no report, or none with such a variant or seed, or the options are a run's.
    """
    if diff is not None:
        raise UserError(f"diff={diff}: goes with a run's id, {path} is a folder")
    if root is not None:
        raise UserError(f"root={root}: goes with a run's id, {path} is a folder")
    if not _reports(Path(path)):
        raise UserError(f"{path}: neither a run nor a report; a report's folder holds {RECORDS}")
    if row is None:
        if seed is not None:
            raise UserError(f"seed={seed}: goes with row=<variant>")
        return reproduce(path, data_dir)
    number = None if seed is None else whole_number("seed", seed)
    return rerun(path, row, number, runs_dir=runs_dir, data_dir=data_dir, tolerance=tolerance)


def _reports(path: Path) -> list[Path]:
    if (path / RECORDS).is_file():
        return [path]
    return sorted(file.parent for file in path.glob(f"*/{RECORDS}"))


def reproduce(path: str, data_dir: str = "data") -> int:
    """Derive a report, or all in a folder and their index, from their records, and run their golden rows.

    Returns:
        0 if not a byte differs and no golden row does, else 1.
    """
    folders = _reports(Path(path))
    differing = 0
    with tempfile.TemporaryDirectory() as temporary:
        for folder in folders:
            into = Path(temporary) / folder.resolve().name
            written = derive(folder, into)
            difference = next(_differences(folder, into), None)
            if difference is None and folder.resolve().parent == cards.REPORTS:
                difference = next(measured.differences(written.report), None)
            differing += difference is not None
            equal = f"{folder}: {len(written.files)} files re-derived byte by byte"
            print(f"NOT re-derived: {difference}" if difference else equal)
            if checked := golden_row.difference(folder, written.report, data_dir):
                differing += not checked[0]
                print(checked[1] if checked[0] else f"NOT reproduced: {checked[1]}")
        if folders != [Path(path)]:
            difference = _difference(Path(path) / PAGE, write_index(Path(temporary)))
            differing += difference is not None
            print(f"NOT re-derived: {difference}" if difference else f"{path}/{PAGE}: re-derived byte by byte")
    return 1 if differing else 0


def _differences(folder: Path, derived: Path) -> Iterator[str]:
    """A line for each file that is not as it is derived, missing, or derived from nothing."""
    given = {path.name for path in inputs(folder)}
    names = {path.name for path in derived.iterdir()} | {path.name for path in folder.iterdir() if path.is_file()}
    for name in sorted(names - given, key=lambda name: (-SAYS.find(Path(name).suffix or "?"), name)):
        difference = _difference(folder / name, derived / name)
        if difference:
            yield difference


def _difference(there: Path, derived: Path) -> str | None:
    """What differs first between two files."""
    if not there.is_file():
        return f"{there} is missing"
    if not derived.is_file():
        return f"{there} follows from no record"
    old, new = there.read_bytes(), derived.read_bytes()
    if old == new:
        return None
    pairs = zip(old.split(b"\n"), new.split(b"\n"), strict=False)
    number, (left, right) = next(
        ((number, pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1]), (0, (b"", b""))
    )
    if not number or there.suffix == ".png":
        return f"{there} differs"
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    start = max(0, at - SHOWN // 2)
    old_text, new_text = (line[start : start + SHOWN].decode(errors="replace") for line in (left, right))
    return f"{there}, line {number}: {old_text!r} is there, {new_text!r} is derived"


def rerun(path: str, row: str, seed: int | None, *, runs_dir: str, data_dir: str, tolerance: float | None) -> int:
    """Run the runs of one variant again, all or that of one seed, and compare each; 0 if all are equal, else 1.

    Raises:
        UserError: there is no such variant or seed.
    """
    if not (Path(path) / RECORDS).is_file():
        raise UserError(f"{path}: row= goes with one report's folder, such as {path}/{_reports(Path(path))[0].name}")
    report = load(Path(path))
    names = [variant.name for variant in report.variants]
    variant = next((variant for variant in report.variants if variant.name == row), None)
    if variant is None:
        raise UserError(f"row={row}: there is no such variant, there are {', '.join(names)}{nearest(row, names)}")
    chosen = [entry for entry in variant.runs if seed in (None, entry.seed)]
    if not chosen:
        known = ", ".join(str(entry.seed) for entry in variant.runs) or "none"
        of_what = f"row={row}" if seed is None else f"seed={seed}"
        raise UserError(f"{of_what}: {row} has no such run in the report; its seeds: {known}")
    paths = Paths(runs_dir=runs_dir, data_dir=data_dir)
    return max(reproduction.again(entry, paths, tolerance) for entry in chosen)
