"""``run.json``: the record of a run, typed, validated on reading, written atomically."""

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from paperzoo.errors import UserError
from paperzoo.files import write_atomically
from paperzoo.metric import BEFORE, Metric

SCHEMA = 3
READABLE = (1, 2, SCHEMA)  # in 1 a segment has no ``process``; before 3 images were classified, in one stage
FILE = "run.json"
TORN = ".*.tmp"  # files that were being written
Status = Literal["running", "finished", "failed", "interrupted"]
SILENT_AFTER = 300  # seconds without a heartbeat after which a process on another host is taken for dead
PROC = Path("/proc")  # Linux


class RecordPart(BaseModel):
    """A part of a record: unknown fields are refused, so that a record is never half understood."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings", val_json_bytes="utf8")


class Segment(RecordPart):
    """One process's stretch of a run: a run that was killed twice and resumed has three."""

    host: str
    pid: int
    process_started: float  # seconds since the epoch
    process: str | None = None  # what tells it from a later one with its pid, whatever the clock does
    started: str
    updated: str  # the heartbeat
    from_step: int
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


class DataRecord(RecordPart):
    """The data that a run saw."""

    name: str
    fingerprint: str
    description: str
    sizes: dict[str, int]
    skipped: dict[str, int]


class Anchor(RecordPart):
    """That later code was shown to give the record's numbers, and what the record was before."""

    id: str
    code_version: str
    shown_by: str  # the comparison of the newest code with the one before it, and where
    rounded: tuple[str, ...] = ()  # comparisons before that found a kernel to round otherwise since


class Provenance(RecordPart):
    """Where the code, the packages and the machine came from."""

    code_version: str
    git_commit: str | None
    git_dirty: bool | None
    lock_hash: str | None
    versions: dict[str, str]
    hardware: dict[str, Any]
    code_files: dict[str, str] = {}  # each file that can change a number, and its digest
    anchored: Anchor | None = None


class Determinism(RecordPart):
    """The flags under which two runs are equal bit for bit."""

    algorithms: bool
    cudnn_benchmark: bool
    cublas_workspace: str | None
    threads: int


class Cost(RecordPart):
    """What the run took."""

    model_config = ConfigDict(populate_by_name=True)

    parameters: int
    macs: int | None  # of one sample; None where they are not counted
    units_per_second: float | None = Field(
        default=None, validation_alias=AliasChoices("units_per_second", "images_per_second")
    )
    peak_memory_bytes: int | None = None


class Failure(RecordPart):
    """Why a run did not finish."""

    kind: str
    message: str


class Measure(RecordPart):
    """A metric of the task, so that whoever shows it needs no task: see ``paperzoo.metric.Metric``."""

    name: str
    goal: Literal["max", "min"] = "max"
    percent: bool = False
    label: str = ""


class StageRecord(RecordPart):
    """A stage of a run, and what it took."""

    name: str
    kind: str  # fit or loop
    rows: int  # of ``epochs`` that are its own
    steps: int
    seconds: float  # of training, validation aside


class Parent(RecordPart):
    """A run whose weights this one began with."""

    id: str
    identity: str
    weights: str


class Result(RecordPart):
    """The metrics of one set of weights."""

    epoch: int | float  # 1.5: in the middle of the second
    step: int
    metrics: dict[str, float]


class Record(RecordPart):
    """All that is known of a run."""

    schema_version: int = SCHEMA
    id: str
    identity: str
    attempt: int
    status: Status
    command: list[str]
    config: dict[str, Any]
    seed: int
    ranks: int
    batch_size: int
    global_batch_size: int
    data: DataRecord
    provenance: Provenance
    determinism: Determinism
    cost: Cost
    unit: str = "image"  # what throughput counts
    measures: list[Measure] = []  # the task's metrics; the first is the headline
    info: dict[str, Any] = {}  # what the data said of itself: classes, preprocessing
    stages: list[StageRecord] = []
    parents: list[Parent] = []
    segments: list[Segment]
    epochs: list[dict[str, float | int]] = []
    results: dict[str, Result] = {}  # last, best
    checkpoints: dict[str, str] = {}
    failure: Failure | None = None

    @property
    def whole_epochs(self) -> list[dict[str, float | int]]:
        """The rows without those of validations within an epoch, whose ``epoch`` is no whole number."""
        return [row for row in self.epochs if row.get("epoch", 0) % 1 == 0]

    @property
    def wall_seconds(self) -> float:
        """Seconds that the run took, over all its segments."""
        return sum(segment.wall_seconds for segment in self.segments)

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics: ``test/top1`` of the last epoch, ``best/test/top1`` of the weights that validation chose."""
        last = self.results["last"].metrics if "last" in self.results else {}
        best = self.results["best"].metrics if "best" in self.results else {}
        return {**last, **{f"best/{name}": value for name, value in best.items()}}

    @property
    def task_metrics(self) -> tuple[Metric, ...]:
        """The task's metrics; those of classification and segmentation where a record is from before it said so."""
        if self.measures:
            return tuple(Metric(m.name, m.goal, m.percent, m.label) for m in self.measures)
        names = {key.rsplit("/", 1)[-1] for key in self.metrics}
        return tuple(metric for metric in BEFORE if metric.name in names) or BEFORE

    @property
    def started(self) -> str:
        """When the first segment began (ISO 8601, UTC)."""
        return self.segments[0].started

    def observed_status(self) -> Status:
        """The status as seen from outside: a record whose process is gone was interrupted."""
        if self.status == "running" and not is_alive(self.segments[-1]):
            return "interrupted"
        return self.status


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_segment(from_step: int) -> Segment:
    """A segment of this process."""
    return Segment(
        host=socket.gethostname(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        process=process_mark(os.getpid()),
        started=now(),
        updated=now(),
        from_step=from_step,
    )


def is_here(segment: Segment) -> bool:
    """Whether its process is, or was, one of this host's."""
    return segment.host == socket.gethostname()


def is_alive(segment: Segment) -> bool:
    """Whether a segment's process lives: on another host, whether it gave a sign lately."""
    if not is_here(segment):
        return time.time() - datetime.fromisoformat(segment.updated).timestamp() < SILENT_AFTER
    return process_lives(segment.pid, segment.process, segment.process_started)


def process_lives(pid: int, mark: str | None, started: float) -> bool:
    """Whether a process of this host lives that had this ``process_mark``; where it had none, was created then."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and nobody has waited for it yet
            return False
        return process_mark(pid) == mark if mark is not None else abs(process.create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False


def process_mark(pid: int) -> str | None:
    """What no other process has, and no step of the clock moves: the boot and, since it, the start in ticks.

    psutil's time of creation is the time of the boot plus the ticks, and the boot's moves with the clock. None where
    there is no such file, or no such process.
    """
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2]  # a name may hold anything
    except OSError:
        return None
    return f"{boot}/{after_name.split()[19]}"  # field 22 of proc_pid_stat(5)


def read(folder: Path) -> Record:
    """The record in a run folder.

    Raises:
        UserError: it is missing, damaged, or of another schema version; the line names the file.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such record; `python src/runs.py` lists the runs") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(content, path)


def parse(text: str | bytes, place: object) -> Record:
    """The record that a text of JSON holds.

    Raises:
        UserError: it is damaged, or of another schema version; the line begins with ``place``.
    """
    try:
        content = json.loads(text)
        if "\\ud" in str(text).lower():
            json.dumps(content, ensure_ascii=False).encode()  # half of a character cannot be written again
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: damaged, it cannot be read as JSON ({str(error).splitlines()[0]})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise UserError(f"{place}: schema version {version!r}, this Paperzoo reads {readable}; use the one it is from")
    try:
        return Record.model_validate(content | {"schema_version": SCHEMA})  # as which it is written again
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{place}: damaged, {where or 'record'}: {first['msg']}") from None


def write(folder: Path, record: Record) -> None:
    """Write ``run.json`` so that a reader sees the old or the new record, whatever happens meanwhile."""
    write_atomically(folder / FILE, record.model_dump_json(indent=1).encode())


def remove_torn(folder: Path) -> None:
    """Remove what a process that was killed while it wrote has left in a run folder, which nobody else writes now."""
    for path in (*folder.glob(TORN), *folder.glob(f"checkpoints/{TORN}")):
        path.unlink(missing_ok=True)
