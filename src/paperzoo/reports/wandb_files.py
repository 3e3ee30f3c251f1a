"""Reader of W&B's own files (``run-<id>.wandb``), as an offline run leaves them.

The file is a log in LevelDB's framing: after a header of 7 bytes, blocks of 32 KiB hold chunks of checksum (4 bytes),
length (2), kind (1) and payload; a message is one chunk (FULL) or several (FIRST, MIDDLE ..., LAST). Each message is a
``Record`` of W&B's protobuf. A file whose writer was killed ends anywhere: what is whole is read.
"""

import contextlib
import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from paperzoo.errors import UserError
from paperzoo.runs.record import Status
from paperzoo.tracking import STEP

BLOCK = 32 * 1024
FILE_HEADER = b":W&B"
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Logged:
    """A run as W&B knows it: nested configuration, rows of metrics, last values."""

    id: str
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    status: Status = "interrupted"  # one that was killed has no exit code
    started: float = 0.0  # seconds since the epoch
    sweep: str = ""


def messages(path: Path) -> Iterator[bytes]:
    """The messages of a file, up to where it is torn or damaged.

    Raises:
        UserError: it is no such file.
    """
    content = path.read_bytes()
    if content[:4] != FILE_HEADER:
        raise UserError(f"{path}: no W&B file: it begins with {content[:4]!r}, not {FILE_HEADER!r}")
    position, parts = 7, b""
    while position + HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:  # padding at the end of a block
            position += left
            continue
        checksum, length, kind = HEADER.unpack_from(content, position)
        payload = content[position + HEADER.size : position + HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(bytes([kind]))) != checksum:
            return
        position += HEADER.size + length
        parts = payload if kind in (FULL, FIRST) else parts + payload
        if kind in (FULL, LAST):
            yield parts


def read(paths: Iterable[Path]) -> tuple[list[Logged], list[str]]:
    """The runs in files, and a line for each file that cannot be read.

    An offline run that is resumed goes on in another folder: the files of one id are one run, in the order in which
    they began; of rows for the same step the later counts, since a killed run goes on before where it died.
    """
    segments: dict[str, list[Logged]] = {}
    problems = []
    for path in sorted(paths):
        try:
            run = _segment(path)
        except (UserError, OSError) as error:
            problems.append(str(error))
            continue
        if run is None:
            problems.append(f"{path}: holds no run; it was torn before its first message")
            continue
        segments.setdefault(run.id, []).append(run)
    return [_merged(sorted(parts, key=lambda run: run.started)) for _, parts in sorted(segments.items())], problems


def _segment(path: Path) -> Logged | None:
    """One file's run."""
    from wandb.proto import wandb_internal_pb2

    run: Logged | None = None
    for message in messages(path):
        entry = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        with contextlib.suppress(DecodeError):  # of a later W&B: what is known of it is read
            entry.ParseFromString(message)
        kind = entry.WhichOneof("record_type")
        if kind == "run":
            run = run or Logged(entry.run.run_id, started=entry.run.start_time.ToNanoseconds() / 1e9)
            run.sweep = entry.run.sweep_id or run.sweep
            _update(run.config, entry.run.config.update)
        elif run is None:
            continue
        elif kind == "config":
            _update(run.config, entry.config.update)
        elif kind == "summary":
            _update(run.summary, entry.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, entry.history.item)
            run.history.append(row)
        elif kind == "exit":
            run.status = "failed" if entry.exit.exit_code else "finished"
    return run


def _update(target: dict[str, Any], items: Iterable[Any]) -> None:
    """Set values by their keys; those of nested keys below each other, as they were given."""
    for item in items:
        keys = list(item.nested_key) or [item.key]
        node = target
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = json.loads(item.value_json)


def _merged(parts: list[Logged]) -> Logged:
    """The segments of one run as one."""
    rows: dict[Any, dict[str, Any]] = {}
    whole = Logged(parts[0].id, started=parts[0].started, sweep=parts[-1].sweep, status=parts[-1].status)
    for number, part in enumerate(parts):
        whole.config |= part.config
        whole.summary |= part.summary
        for row in part.history:
            step = row.get(STEP, (number, row.get("_step")))
            rows[step] = rows.get(step, {}) | row
    numbered = all(isinstance(step, (int, float)) for step in rows)
    whole.history = [rows[step] for step in (sorted(rows) if numbered else rows)]
    return whole
