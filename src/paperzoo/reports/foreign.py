"""Runs as W&B knows them -> records: Paperzoo's own hold theirs, others are read as far as they go."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from paperzoo.errors import UserError
from paperzoo.reports.wandb_files import Logged
from paperzoo.runs import record
from paperzoo.runs.folders import ID
from paperzoo.runs.record import Cost, DataRecord, Determinism, Provenance, Record, Result, Segment
from paperzoo.tracking import RECORD, STEP

Numbers = dict[str, float | int]


def to_record(run: Logged) -> Record:
    """A run's record; of one that holds none, what its configuration, history and summary say.

    What W&B does not know is left at zero or empty, and no report shows it.

    Raises:
        UserError: its record is damaged or of another schema, or it names no seed.
    """
    held = run.config.get(RECORD)
    if isinstance(held, str):
        return record.parse(held, f"W&B run {run.id}")
    config = nested({key: value for key, value in run.config.items() if not key.startswith("_")})
    seed = config.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UserError(f"W&B run {run.id}: its configuration names no seed, so that it is left out")
    known = ID.fullmatch(run.id)
    data = config.get("data")
    data_name = str(data.get("name", "")) if isinstance(data, Mapping) else str(data or "")
    epochs = [_row(row, number) for number, row in enumerate(run.history, 1)]
    return Record(
        id=run.id,
        identity=known["identity"] if known and known["attempt"] else run.id,
        attempt=int(known["attempt"]) if known and known["attempt"] else 1,
        status=run.status,
        command=[],
        config=config,
        seed=seed,
        ranks=1,
        batch_size=0,
        global_batch_size=0,
        data=DataRecord(name=data_name, fingerprint="", description=data_name, sizes={}, skipped={}),
        provenance=Provenance(
            code_version="", git_commit=None, git_dirty=None, lock_hash=None, versions={}, hardware={}
        ),
        determinism=Determinism(algorithms=False, cudnn_benchmark=False, cublas_workspace=None, threads=0),
        cost=Cost(parameters=0, macs=0),
        segments=[_segment(run)],
        epochs=epochs,
        results=_results(run.summary, epochs),
    )


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys below each other: W&B's sweeps and Paperzoo's records write the same settings in two ways."""
    found: dict[str, Any] = {key: value for key, value in config.items() if "." not in key}
    for key, value in config.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            below = node.get(parent)
            node[parent] = dict(below) if isinstance(below, Mapping) else {"name": below} if below else {}
            node = node[parent]
        node.setdefault(last, value)
    return found


def _row(row: Mapping[str, Any], number: int) -> Numbers:
    """A row of the history; Paperzoo's own rows within an epoch are left out of it."""
    own = {key: value for key, value in row.items() if not key.startswith(("_", "window/"))}
    step = own.pop(STEP, row.get("_step", number))
    return {"epoch": number, "step": int(step)} | _numbers(own)


def _numbers(values: Mapping[str, Any]) -> Numbers:
    return {key: value for key, value in values.items() if isinstance(value, (int, float)) and value is not True}


def _results(summary: Mapping[str, Any], epochs: list[Numbers]) -> dict[str, Result]:
    """The last values; W&B keeps no NaN in a summary but null."""
    values = {key: float("nan") if value is None else value for key, value in summary.items()}
    numbers = {key: float(value) for key, value in _numbers(values).items() if not key.startswith("_")}
    best = {key.removeprefix("best/"): value for key, value in numbers.items() if key.startswith("best/")}
    last = {key: value for key, value in numbers.items() if not key.startswith("best/")}
    end = {"epoch": int(epochs[-1]["epoch"]), "step": int(epochs[-1]["step"])} if epochs else {"epoch": 0, "step": 0}
    found = {"last": last, "best": best}
    return {name: Result(**end, metrics=metrics) for name, metrics in found.items() if metrics}


def _segment(run: Logged) -> Segment:
    started = datetime.fromtimestamp(run.started, UTC).isoformat(timespec="milliseconds")
    seconds = run.summary.get("_runtime") or 0
    return Segment(
        host="", pid=0, process_started=0.0, started=started, updated=started, from_step=0, wall_seconds=float(seconds)
    )
