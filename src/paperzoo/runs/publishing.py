"""What of a record others may see: all that its results rest on, nothing of who made it and where."""

from pathlib import PurePath
from typing import Any

from paperzoo.runs.record import Record, Segment

PLACES = {"data_dir": "data", "runs_dir": "runs"}  # the defaults, whatever the machine's are
# The packages that a result can depend on; the lock file's hash stands for all.
PACKAGES = (
    "python", "torch", "torchvision", "numpy", "pillow", "timm", "pytorch-lightning", "torchmetrics", "hydra-core",
    "datasets", "mlxtend",
)  # fmt: skip
OWN = ("paths.", "hydra.", "logger.", "logger=", "resume=", "tags=")  # words that say where, not what


def published(entry: Record) -> Record:
    """A record without host names, process ids, users' paths, and packages that no result depends on.

    ``published(published(x)) == published(x)``. What tells where own data lie (``data.root``, ``data.path``) stays: the
    run cannot be repeated without it.
    """
    versions = {name: entry.provenance.versions[name] for name in PACKAGES if name in entry.provenance.versions}
    return entry.model_copy(
        update={
            "status": entry.observed_status() if _has_host(entry) else entry.status,
            "command": _command(entry.command),
            "config": _config(entry.config),
            "segments": [_segment(segment) for segment in entry.segments],
            "provenance": entry.provenance.model_copy(update={"versions": versions}),
        }
    )


def _has_host(entry: Record) -> bool:
    """Whether the record is as its run wrote it: nobody can look after a process without its host."""
    return bool(entry.segments and entry.segments[-1].host)


def _command(words: list[str]) -> list[str]:
    """``python src/train.py model=scnet``: the program without the folders above it, no word about places."""
    if len(words) < 2:
        return words
    program = PurePath(words[1])
    interpreter, *rest = words[0], *(word for word in words[2:] if not word.startswith(OWN))
    return [interpreter, f"src/{program.name}" if program.is_absolute() else words[1], *rest]


def _config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with default places, and without W&B's names."""
    changes: dict[str, Any] = {"paths": PLACES} if "paths" in config else {}
    if "logger" in config:
        changes["logger"] = {"name": "none"}
    changes |= {key: None for key in ("resume",) if key in config}
    return {**config, **changes}


def _segment(segment: Segment) -> Segment:
    return segment.model_copy(update={"host": "", "pid": 0, "process_started": 0.0, "process": None})
