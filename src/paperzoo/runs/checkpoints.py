"""Checkpoints: best on validation, last, and the exact state that an interrupted run goes on from.

Files are written beside their place and renamed; a digest stands beside each, so that a damaged one is seen and
the one before it is used. Everything loads with ``weights_only=True``.
"""

import hashlib
import os
import pickle
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from paperzoo.errors import UserError, first_line
from paperzoo.files import temporary_path, write_atomically
from paperzoo.runs import folders

BEST, LAST = folders.BEST, folders.LAST
CONFIG = "config"  # of the run, without places: data with its preprocessing, model, trainer
STATE, PREVIOUS = "state.ckpt", "previous.ckpt"  # the exact state, the newest two


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to write and read checkpoints, made atomic and checked.

    Args:
        config: plain data that every checkpoint says of its run under ``CONFIG``, so that it can be used by itself.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` and its digest."""
        save(checkpoint | ({CONFIG: self.config} if self.config else {}), Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint as plain data, whatever is asked for."""
        return load(Path(path), map_location)


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a reader sees the old or the new one, with its digest beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as file:
            _write(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        digest = file_digest(temporary)
        if path.name == STATE and path.is_file() and is_whole(path):
            _keep_previous(path)
        write_atomically(digest_path(path), digest.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """``torch.save``, whose own complaint about a file that took no more hides the disk's."""
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _keep_previous(path: Path) -> None:
    """Let a whole state be the previous one, too; it stays in its place, so that at any moment one of them is whole."""
    previous = path.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    write_atomically(digest_path(previous), digest_path(path).read_bytes())
    try:
        os.link(path, previous)
    except OSError:  # a file system without links
        shutil.copyfile(path, previous)


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's plain data.

    Raises:
        UserError: it is missing, damaged, or holds more than plain data; the line says which.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    if not is_whole(path):
        raise UserError(f"{path}: damaged, its content does not match {digest_path(path).name}")
    return read_plain(path, map_location)


def read_plain(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A file of tensors and plain data, from whatever source.

    Raises:
        UserError: it cannot be read, or holds more than that.
    """
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):  # bytes that are none of torch's
            raise UserError(f"{path}: is no checkpoint of PyTorch's") from None
        found = re.search(r"GLOBAL (\S+)", str(error))  # what it names; torch's first lines only advise to trust it
        more = f" ({found[1]})" if found else ""
        raise UserError(f"{path}: refused, it holds more than tensors and plain data{more}") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:  # text, say
        raise UserError(f"{path}: damaged, it cannot be read ({first_line(error)})") from None


def step_of(state: dict[str, Any]) -> int:
    """The step of the run that an exact state is of: that of its stage, and those of the stages before."""
    if "loop" in state:
        return int(state["global_step"])
    before = state["callbacks"].get("History", {}).get("stage_start", (0, 0, 0))
    return int(state["global_step"]) + int(before[2])


def newest_state(folder: Path) -> Path | None:
    """The newest exact state in a run folder that is whole, or None."""
    candidates = [folder / "checkpoints" / name for name in (STATE, PREVIOUS)]
    return next((path for path in candidates if path.is_file() and is_whole(path)), None)


def remove_states(folder: Path, *, keep: bool = False) -> None:
    """Delete the exact states of a run that is finished, all but the last one where that is kept."""
    for name in (PREVIOUS,) if keep else (STATE, PREVIOUS):
        remove(folder / name)


def save_weights(trainer: Any, network: Any, path: Path, average: Any = None) -> None:
    """Save a checkpoint without an optimiser's state; where an average of the weights is kept, of that."""
    with average.applied(network) if average else nullcontext():
        trainer.save_checkpoint(path, weights_only=True)


def remove(path: Path) -> None:
    """Delete a checkpoint and its digest, if it is there."""
    path.unlink(missing_ok=True)
    digest_path(path).unlink(missing_ok=True)


def kept(folder: Path) -> list[Path]:
    """Those of single steps in a folder of checkpoints, in their order: see ``runs/kept.py``."""
    return sorted(folder.glob("step_*.ckpt"), key=lambda path: int(path.stem.removeprefix("step_")))


def is_whole(path: Path) -> bool:
    """Whether a checkpoint's content matches its digest."""
    beside = digest_path(path)
    return beside.is_file() and beside.read_text(errors="replace").strip() == file_digest(path)


def digest_path(path: Path) -> Path:
    """Where a checkpoint's digest stands."""
    return path.with_name(f"{path.name}.sha256")


def file_digest(path: Path) -> str:
    """SHA-256 of a file: 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
