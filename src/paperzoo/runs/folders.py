"""Run folders: ``<runs_dir>/<model>/<identity>/<attempt>/``."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from paperzoo.errors import UserError
from paperzoo.runs import record as records

BEST, LAST = "best.ckpt", "last.ckpt"  # weights that are reported; here, where torch is not imported

ID = re.compile(r"(?P<identity>[0-9a-f]{1,64})(?:-(?P<attempt>[1-9][0-9]*))?")


def create(runs_dir: Path, model: str, identity: str) -> tuple[Path, int]:
    """Make the folder of a new attempt.

    The exclusive ``mkdir`` decides: of two starts at the same moment each gets its own.

    Raises:
        UserError: the folder cannot be made.
    """
    parent = runs_dir / model / identity
    try:
        parent.mkdir(parents=True, exist_ok=True)
        attempt = max(attempts(parent), default=0) + 1
        while True:
            folder = parent / str(attempt)
            try:
                folder.mkdir()
                return folder, attempt
            except FileExistsError:
                attempt += 1
    except OSError as error:
        raise UserError(f"paths.runs_dir={runs_dir}: cannot make {parent} ({error.strerror}); choose another") from None


def attempts(parent: Path) -> list[int]:
    """The attempts of an identity, in order."""
    if not parent.is_dir():
        return []
    return sorted(int(path.name) for path in parent.iterdir() if path.name.isdigit() and path.is_dir())


def all_folders(runs_dir: Path) -> Iterator[Path]:
    """Every run folder below ``runs_dir``."""
    for parent in sorted(runs_dir.glob("*/*")):
        for attempt in attempts(parent):
            yield parent / str(attempt)


def find(runs_dir: Path, run: str, given: str | None = None) -> Path:
    """The folder of a run named by id, unique prefix, bare identity (its latest finished attempt) or folder.

    Args:
        runs_dir: where runs are.
        run: its name.
        given: what the user wrote, for messages: ``resume=12``; None: ``run=<run>``.

    Raises:
        UserError: there is none, or more than one.
    """
    if (Path(run) / records.FILE).is_file():
        return Path(run)
    given = given or f"run={run}"
    match = ID.fullmatch(run)
    if not match:
        raise UserError(f"{given}: neither a run folder nor a run id such as 3f2a9c01de-1; {_listed(runs_dir)}")
    identity, attempt = match["identity"], match["attempt"]
    parents = [path for path in sorted(runs_dir.glob(f"*/{identity}*")) if path.is_dir()]
    if not parents:
        raise UserError(f"{given}: there is no such run in {runs_dir}; {_listed(runs_dir)}")
    if len(parents) > 1:
        names = ", ".join(path.name for path in parents[:5])
        raise UserError(f"{given}: {len(parents)} runs begin so ({names}); give more digits")
    folder = parents[0] / attempt if attempt else _latest(parents[0])
    if not folder.is_dir():
        raise UserError(f"{given}: there is no such attempt; there are {', '.join(map(str, attempts(parents[0])))}")
    return folder


def _listed(runs_dir: Path) -> str:
    return f"`python src/runs.py{option(runs_dir)}` lists them"


def option(runs_dir: Path) -> str:
    """`` runs_dir=...``, for a command that is to find these runs; nothing where it looks by itself."""
    usual = Path(os.environ.get("RUNS_DIR", "runs"))
    return "" if runs_dir.resolve() == usual.resolve() else f" runs_dir={runs_dir}"


def latest_finished(parent: Path) -> Path | None:
    """The latest finished attempt of an identity."""
    finished = [number for number in attempts(parent) if _status(parent / str(number)) == "finished"]
    return parent / str(finished[-1]) if finished else None


def _latest(parent: Path) -> Path:
    """The latest finished attempt; where none is finished, the latest."""
    return latest_finished(parent) or parent / str((attempts(parent) or [1])[-1])


def _status(folder: Path) -> str | None:
    try:
        return records.read(folder).status
    except UserError:
        return None
