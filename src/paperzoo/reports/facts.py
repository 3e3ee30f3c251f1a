"""What a report says of its runs besides the metric: cost, data, versions, machine, code, time."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from paperzoo.reports import statistics, wording
from paperzoo.reports.model import Interval
from paperzoo.runs.record import Record

NAMED = 8  # runs or seeds in one line; more are counted


def cost(runs: Sequence[Record]) -> dict[str, Interval]:
    """Over the runs that say so: a foreign run's record has zeros where nothing is known."""
    values: dict[str, list[float]] = {
        "parameters": [entry.cost.parameters for entry in runs],
        "macs": [entry.cost.macs or 0 for entry in runs],
        "seconds": [entry.wall_seconds for entry in runs],
        "units_per_second": [entry.cost.units_per_second or 0 for entry in runs],
        "peak_memory_mib": [(entry.cost.peak_memory_bytes or 0) / 2**20 for entry in runs],
    }
    known = {name: [value for value in column if value > 0 and math.isfinite(value)] for name, column in values.items()}
    found = {name: statistics.interval(column) for name, column in known.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def of(everyone: Sequence[Record], runs: Sequence[Record]) -> dict[str, str]:
    """Data, versions, machine, code and time, in words; where runs differ, each of them."""
    counts = Counter(entry.status for entry in everyone)
    facts = {
        "runs": ", ".join(f"{counts[status]:,} {status}" for status in sorted(counts)),
        "data": _distinct(_data(entry) for entry in runs),
        "batch": _distinct(_batch(entry) for entry in runs),
        "versions": _distinct(_versions(entry) for entry in runs),
        "machine": _distinct(machine(entry) for entry in runs),
        "code": _distinct(_code(entry) for entry in runs),
        "code since": _distinct(_anchor(entry) for entry in runs),
        "time": _time(everyone),
    }
    return {name: fact for name, fact in facts.items() if fact}


def scale(runs: Sequence[Record]) -> str:
    """How large the experiment was: training data and epochs."""
    return _distinct(
        f"{_trained_on(entry)} of {entry.data.name}, {counted(len(entry.whole_epochs), 'epoch')}" for entry in runs
    )


def _trained_on(entry: Record) -> str:
    """The samples of an epoch.

    Where a sampler keeps a part of them, how many of how many; where a sample is of many units, as a chunk of a text
    is of characters, the units. (What does not fill a last batch is not left out by a sampler.)
    """
    size, seen = entry.data.sizes.get("train", 0), _seen(entry)
    if seen > size:
        return counted(seen, entry.unit)
    kept = f"{seen:,} of " if seen and size - seen >= max(entry.global_batch_size, 1) else ""
    return f"{kept}{counted(size, entry.unit)}"


def _seen(entry: Record) -> int:
    """Units of the longest epoch; 0 where the rows do not say."""
    speed = f"{entry.unit}s_per_second"
    seen = [row[speed] * row["seconds"] for row in entry.epochs if {speed, "seconds"} <= row.keys()]
    return max((round(units) for units in seen if math.isfinite(units)), default=0)


def _data(entry: Record) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in entry.data.sizes.items())
    return entry.data.description or f"{entry.data.name} ({sizes})" if sizes else entry.data.description


def _batch(entry: Record) -> str:
    if not entry.global_batch_size:
        return ""
    ranks = f" over {entry.ranks} ranks" if entry.ranks > 1 else ""
    if 0 < entry.data.sizes.get("train", 0) < _seen(entry):  # a sample is of many units
        length = f" of {counted(entry.info['length'], entry.unit)}" if isinstance(entry.info.get("length"), int) else ""
        return f"{counted(entry.global_batch_size, 'sample')}{length}{ranks}"
    return f"{counted(entry.global_batch_size, entry.unit)}{ranks}"


def _versions(entry: Record) -> str:
    shown = ("python", "torch", "torchvision", "timm", "pytorch-lightning")
    versions = entry.provenance.versions
    return ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)


def machine(entry: Record) -> str:
    """Processor, accelerators and threads of a run."""
    hardware = entry.provenance.hardware
    threads = f"{counted(entry.determinism.threads, 'thread')}" if entry.determinism.threads else ""
    gpus = ", ".join(hardware.get("gpus") or [])
    return ", ".join(part for part in (str(hardware.get("processor") or ""), gpus, threads) if part)


def _code(entry: Record) -> str:
    commit = entry.provenance.git_commit
    if not commit:
        return ""
    return f"commit {commit[:12]}{' with changes' if entry.provenance.git_dirty else ''}"


def _anchor(entry: Record) -> str:
    known = entry.provenance.anchored
    return "; ".join([*known.rounded, known.shown_by]) if known else ""


def _time(everyone: Sequence[Record]) -> str:
    total = sum(entry.wall_seconds for entry in everyone)
    return f"{wording.seconds(total)} in all" if total else ""


def _distinct(facts: Iterable[str]) -> str:
    """The facts that there are, sorted; many are counted."""
    seen = sorted({fact for fact in facts if fact})
    return "; ".join(seen[:NAMED]) + (f"; and {len(seen) - NAMED} more" if len(seen) > NAMED else "")


def listed(items: Iterable[str]) -> str:
    """Some items by name; of many the rest is counted."""
    seen = list(items)
    return ", ".join(seen[:NAMED]) + (f" and {len(seen) - NAMED} more" if len(seen) > NAMED else "")


def counted(things: Sequence[Any] | int, what: str) -> str:
    """12 runs, 1 run."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {what}{'' if number == 1 else 's'}"
