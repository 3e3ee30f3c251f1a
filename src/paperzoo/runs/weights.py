"""Weights that a run begins with: a file of published ones, or another run's, ``run:<id>`` or ``run:<id>:best``."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from paperzoo.config.schema import WEIGHTS, Config
from paperzoo.errors import UserError
from paperzoo.runs import folders, record
from paperzoo.runs.record import Parent, Record

RUN = "run:"


class Weights(NamedTuple):
    """Where weights lie, and the run that they are from."""

    path: Path
    parent: Parent | None = None


def of(config: Config) -> Weights | None:
    """The weights that a run begins with, if any."""
    return find(config.model.checkpoint, Path(config.paths.runs_dir)) if config.model.checkpoint else None


def find(name: str, runs_dir: Path, option: str = "model.checkpoint") -> Weights:
    """The weights that an option names.

    Raises:
        UserError: there is no such file or run, or it has no such weights yet.
    """
    if not name.startswith(RUN):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{option}={name}: there is no such file")
        return Weights(path)
    run, _, kind = name.removeprefix(RUN).partition(":")
    if kind and not WEIGHTS.fullmatch(kind):
        raise UserError(f"{option}={name}: a run has weights last, best, and step_<n> where it kept them")
    folder = folders.find(runs_dir.resolve(), run, f"{option}={name}")
    entry = record.read(folder)
    kind = kind or "last"
    path = folder / "checkpoints" / f"{kind}.ckpt"
    if not path.is_file():
        raise UserError(f"{option}={name}: {_without(entry, kind)}")
    return Weights(path, Parent(id=entry.id, identity=entry.identity, weights=kind))


def of_run(folder: Path, entry: Record, kind: str) -> Path:
    """A run's checkpoint, ``last``, ``best`` or one that it kept, ``step_<n>``.

    Raises:
        UserError: it has none.
    """
    path = folder / entry.checkpoints.get(kind, f"checkpoints/{kind}.ckpt")
    if path.is_file():
        return path
    if kind in entry.checkpoints:
        raise UserError(f"run={entry.id}: its {kind} weights, {path}, are gone; copy them back, or train it again")
    raise UserError(f"run={entry.id}: {_without(entry, kind)}")


def _without(entry: Record, kind: str) -> str:
    """What to do where a run has no such weights: one in stages ends with its last ones alone."""
    status = entry.observed_status()
    if entry.checkpoints:
        return f"run {entry.id} is {status} and has no {kind} weights; use {' or '.join(sorted(entry.checkpoints))}"
    return f"run {entry.id} is {status} and has no {kind} weights yet; train it to the end"


def identity_of(name: str, runs_dir: Path) -> str:
    """What of weights is part of a run's identity: what a file holds, or the identity of the run that made them."""
    found = find(name, runs_dir)
    if found.parent:
        return f"{RUN}{found.parent.identity}:{found.parent.weights}"
    return digest(found.path, f"model.checkpoint={name}")


def digest(path: Path, given: str) -> str:
    """SHA-256 of a file that a configuration names.

    Raises:
        UserError: it cannot be read; the line begins with what was given.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{given}: cannot be read ({error.strerror})") from None
