"""A run that is under way: opened once by rank 0, inherited by the other ranks, recorded until it ends."""

import fcntl
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytorch_lightning as L

from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData
from paperzoo.distributed import from_rank_zero
from paperzoo.errors import UserError
from paperzoo.files import write_atomically
from paperzoo.machine import batches_within
from paperzoo.runs import checkpoints, extending, folders, provenance, record
from paperzoo.runs.code_version import code_version
from paperzoo.runs.history import History, Row
from paperzoo.runs.identity import code_of, identity
from paperzoo.runs.record import Cost, DataRecord, Failure, Measure, Parent, Record, Result, StageRecord
from paperzoo.runs.signals import undisturbed

INHERITED = "PAPERZOO_RUN"  # environment variable by which the ranks that Lightning starts learn of the folder
FOLDER_FILE = "PAPERZOO_TELL"  # environment variable: a file for the run's folder, which the starter reads
HEARTBEAT = 30  # seconds
LOCK = ".lock"
SKIPPED = "skipped.txt"  # which samples were left out
ORPHANS_LIVE = 15.0  # seconds: the data workers of a killed process hold its lock until they see that it is gone


@dataclass
class Place:
    """Where a run lives, and the state that it goes on from, if any, with the threads that it began with."""

    folder: Path
    state: Path | None = None
    threads: int | None = None

    def to_json(self) -> str:
        """For the environment of the other ranks."""
        return json.dumps([str(self.folder), str(self.state) if self.state else None, self.threads])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """As written by ``to_json``."""
        folder, state, threads = json.loads(text)
        return cls(Path(folder), Path(state) if state else None, threads)


class Session:
    """The folder and the record of this process's run. Only rank 0 writes."""

    def __init__(self, place: Place, entry: Record | None, lock: int | None = None) -> None:
        self.lock = lock
        self.folder = place.folder
        self.state = place.state
        self.threads = place.threads
        self.record = entry
        self.wall = time.perf_counter()
        self.cpu = time.process_time()
        self.written = 0.0
        self.ended = False

    @property
    def checkpoints(self) -> Path:
        """Where this run's checkpoints are."""
        return self.folder / "checkpoints"

    def write(self) -> None:
        """Write the record, with a heartbeat."""
        if self.record is None:
            return
        segment = self.record.segments[-1]
        segment.updated = record.now()
        segment.wall_seconds = round(time.perf_counter() - self.wall, 3)
        segment.cpu_seconds = round(time.process_time() - self.cpu, 3)
        record.write(self.folder, self.record)
        self.written = time.monotonic()

    def beat(self) -> None:
        """Write the record if that is due."""
        if time.monotonic() - self.written > HEARTBEAT:
            self.write()

    def name_skipped(self, names: dict[str, list[str]]) -> None:
        """Write which samples were left out, a line for each, if any was."""
        lines = [f"{split}: {name}\n" for split, found in names.items() for name in found]
        if lines:
            write_atomically(self.folder / SKIPPED, "".join(lines).encode())

    def finish(self, results: dict[str, Result], epochs: list[Row], stages: list[StageRecord]) -> None:
        """Write the results; the exact state of a finished run is no longer needed."""
        if self.record is None:
            return
        self.record.results = results
        self.record.epochs, self.record.stages = list(epochs), stages
        self.record.checkpoints = {
            path.stem: f"checkpoints/{path.name}"
            for path in (
                self.checkpoints / checkpoints.LAST,
                self.checkpoints / checkpoints.BEST,
                *checkpoints.kept(self.checkpoints),
            )
            if path.is_file()
        }
        speed = f"{self.record.unit}s_per_second"
        trained = [row for row in epochs if speed in row]
        seconds = sum(row["seconds"] for row in trained)
        units = sum(row["seconds"] * row[speed] for row in trained)
        self.record.cost.units_per_second = units / max(seconds, 1e-9) if trained else None
        self.end("finished")
        checkpoints.remove_states(self.checkpoints, keep=self.record.config["checkpoint"].get("keep_state", False))

    def end(self, status: record.Status, failure: Failure | None = None) -> None:
        """Write how it ended, once: a signal that comes when it has finished does not make it unfinished."""
        if self.ended:
            return
        with undisturbed():
            if self.record is not None:
                self._write_end(self.record, status, failure)
            self.ended = True
            if self.lock is not None:
                os.close(self.lock)
                self.lock = None

    def _write_end(self, entry: Record, status: record.Status, failure: Failure | None) -> None:
        entry.status, entry.failure = status, failure
        entry.cost.peak_memory_bytes = peak_memory()
        try:
            self.write()
        except OSError:  # the failure may be the disk's: then the record stays as it is, and reads as interrupted
            if status == "finished":
                raise


class Keeper(L.Callback):
    """Keeps the record and the CSV files up to date while a run trains."""

    def __init__(self, session: Session, history: History) -> None:
        self.session = session
        self.history = history

    def on_train_batch_end(self, *_: Any) -> None:
        """A heartbeat, if it is due."""
        self.session.beat()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Validation can be long, too."""
        self.session.beat()

    def on_test_batch_end(self, *_: Any) -> None:
        """And the test."""
        self.session.beat()

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The row of one within an epoch."""
        if batches_within(trainer):
            self.on_train_epoch_end()

    def on_train_epoch_end(self, *_: Any) -> None:
        """The epoch's row."""
        if self.session.record:
            self.session.record.epochs = list(self.history.epochs)
            self.session.write()
            self.history.write(self.session.folder)


class Subject(NamedTuple):
    """What a run's first record says of the task: its cost on one sample, its metrics, its unit, its parent."""

    cost: Cost
    measures: list[Measure]
    unit: str
    parents: list[Parent]


def begin(config: Config, data: RunData, trainer: L.Trainer, subject: Subject) -> Session:
    """Open the run: decide its folder (once, by rank 0), take its lock, write its first record.

    Raises:
        UserError: the folder cannot be made or written, or the run to resume is not there or is running.
    """
    try:
        return _begin(config, data, trainer, subject)
    except OSError as error:
        raise UserError(
            f"paths.runs_dir={config.paths.runs_dir}: cannot write to it ({error}); choose another"
        ) from None


def _begin(config: Config, data: RunData, trainer: L.Trainer, subject: Subject) -> Session:
    inherited = os.environ.get(INHERITED)
    if inherited and trainer.global_rank > 0:
        return Session(Place.from_json(inherited), None)
    if trainer.world_size > 1 and trainer.global_rank > 0:
        return Session(Place.from_json(from_rank_zero(None)), None)
    code = code_of(config)
    key = identity(config, ranks=trainer.world_size, data_fingerprint=data.fingerprint, code=code_version(code))
    runs_dir = Path(config.paths.runs_dir).resolve()
    place = _resumed(runs_dir, config, key) if config.resume else None
    place = place or Place(folders.create(runs_dir, config.model.name, key)[0])
    place.state = place.state or extending.bring(config, place.folder)
    lock = _lock(place.folder)
    known = (place.folder / record.FILE).is_file()
    if known and not _can_go_on(place.folder):  # another process had the lock, and ended it
        raise UserError(f"{place.folder}: this run has been finished meanwhile; start without resume for a new attempt")
    if known:
        place.threads = record.read(place.folder).determinism.threads
    record.remove_torn(place.folder)
    from_rank_zero(place.to_json())
    os.environ[INHERITED] = place.to_json()
    session = Session(place, _first_record(place, config, key, code, data, trainer, subject), lock)
    session.write()
    _tell(place.folder)
    return session


def finished_before(config: Config, data: RunData, ranks: int) -> Record | None:
    """The latest finished run of the identity that ``config`` has, if it makes training needless.

    It does with ``repeat=false``, and with ``resume=auto`` where no interrupted run is left to go on with: a cluster
    that starts a finished job again changes nothing.
    """
    if config.repeat and config.resume != "auto":
        return None
    key = identity(config, ranks=ranks, data_fingerprint=data.fingerprint, code=code_version(code_of(config)))
    runs_dir = Path(config.paths.runs_dir).resolve()
    folder = folders.latest_finished(runs_dir / config.model.name / key)
    if folder is None or (config.resume == "auto" and _resumed(runs_dir, config, key)):
        return None
    _tell(folder)
    return record.read(folder)


def _tell(folder: Path) -> None:
    if os.environ.get(FOLDER_FILE):
        write_atomically(Path(os.environ[FOLDER_FILE]), str(folder).encode())


def _first_record(
    place: Place, config: Config, key: str, code: dict[str, str], data: RunData, trainer: L.Trainer, subject: Subject
) -> Record:
    """The record of a new run, or an interrupted run's with a new segment."""
    step = checkpoints.step_of(checkpoints.load(place.state)) if place.state else 0
    if (place.folder / record.FILE).is_file():
        entry = record.read(place.folder)
        entry.status, entry.failure = "running", None
        entry.segments.append(record.new_segment(step))
        return entry
    diff = provenance.dirty_diff()
    if diff:
        write_atomically(place.folder / provenance.DIFF, diff.encode())
    return Record(
        id=f"{key}-{place.folder.name}",
        identity=key,
        attempt=int(place.folder.name),
        status="running",
        command=["python", *sys.argv],
        config=config.model_dump(mode="json", by_alias=True),
        seed=config.seed,
        ranks=trainer.world_size,
        batch_size=config.data.batch_size,
        global_batch_size=config.data.batch_size * trainer.world_size * config.trainer.accumulate_grad_batches,
        data=DataRecord(
            name=config.data.name,
            fingerprint=data.fingerprint,
            description=data.description,
            sizes=dict(data.sizes),
            skipped=dict(data.skipped),
        ),
        provenance=provenance.provenance(code),
        determinism=provenance.determinism(),
        cost=subject.cost,
        unit=subject.unit,
        measures=subject.measures,
        info=data.info,
        parents=subject.parents,
        segments=[record.new_segment(step)],
    )


def _resumed(runs_dir: Path, config: Config, key: str) -> Place | None:
    """The interrupted run to go on with: of the same identity, or the one that ``resume`` names."""
    if config.resume == "auto":
        parent = runs_dir / config.model.name / key
        candidates = [parent / str(attempt) for attempt in reversed(folders.attempts(parent))]
    else:
        candidates = [folders.find(runs_dir, str(config.resume), f"resume={config.resume}")]
        if candidates[0].parent.name != key:
            raise UserError(
                f"resume={config.resume}: its identity is {candidates[0].parent.name}, this configuration, data and "
                f"code have {key}; give the same overrides (see {candidates[0] / record.FILE}), or start without resume"
            )
    for folder in candidates:
        if _can_go_on(folder):
            return Place(folder, checkpoints.newest_state(folder))
    if config.resume == "auto":
        return None
    raise UserError(f"resume={config.resume}: it is {record.read(candidates[0]).observed_status()}, not interrupted")


def _can_go_on(folder: Path) -> bool:
    try:
        return record.read(folder).observed_status() in ("interrupted", "failed")
    except UserError:  # damaged, or killed before its first record was written
        return not (folder / record.FILE).exists() and not _is_locked(folder)


def _lock(folder: Path) -> int:
    """Hold the folder until the run or this process ends: no two processes go on with one run."""
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    until = time.monotonic() + ORPHANS_LIVE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(descriptor)
                raise UserError(f"{folder}: another process is working on this run") from None
            time.sleep(0.1)


def _is_locked(folder: Path) -> bool:
    """Whether a process holds it, such as one that has made it and not yet written its record."""
    try:
        with (folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def peak_memory() -> int:
    """The most memory that this process had resident, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
