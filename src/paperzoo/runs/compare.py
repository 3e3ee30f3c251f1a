"""Comparing the results of two runs: bit for bit, or within a tolerance."""

import math
from collections.abc import Iterator

from paperzoo.runs.record import Record


def is_time(name: str) -> bool:
    """Whether a column of a row is what differs between two runs with equal results."""
    return name == "seconds" or name.endswith("_per_second")


def metrics(record: Record) -> Iterator[tuple[str, float]]:
    """Every metric of a record with its place, times aside, in a fixed order."""
    seen: set[float] = set()
    for row in record.epochs:
        place = f"step {row['step']}" if row["epoch"] in seen else f"epoch {row['epoch']}"  # tries have no epoch
        seen.add(row["epoch"])
        yield from ((f"{place}: {name}", value) for name, value in row.items() if not is_time(name))
    for weights, result in record.results.items():
        yield f"{weights} weights: epoch", result.epoch
        yield from ((f"{weights} weights: {name}", value) for name, value in result.metrics.items())


def first_difference(
    expected: Record, got: Record, tolerance: float = 0.0, *, may_have_more: bool = False
) -> str | None:
    """The first metric in which two records differ by more than ``tolerance`` (relative), or None.

    Args:
        expected, got: the records.
        tolerance: 0 is bit for bit.
        may_have_more: ``got`` may have metrics that ``expected`` lacks, as a later version of the code writes down.
    """
    left, right = dict(metrics(expected)), dict(metrics(got))
    for place, value in left.items():
        if place not in right:
            return f"{place} is {value!r} in {expected.id} and missing in {got.id}"
        other = right[place]
        if not _equal(value, other, tolerance):
            return f"{place} is {value!r} in {expected.id} and {other!r} in {got.id}"
    extra = None if may_have_more else next((place for place in right if place not in left), None)
    return f"{extra} is missing in {expected.id} and {right[extra]!r} in {got.id}" if extra else None


def machines(first: Record, second: Record) -> str:
    """In what of the machine that moves the last bits two runs differ; nothing if in none."""
    lines = []
    if first.determinism.threads != second.determinism.threads:
        lines.append(f"threads {first.determinism.threads} and {second.determinism.threads}")
    for key in ("processor", "cpu_capability", "gpus"):
        one, other = first.provenance.hardware.get(key), second.provenance.hardware.get(key)
        if one != other:
            lines.append(f"{key} {one} and {other}")
    return ", ".join(lines)


def _equal(a: float, b: float, tolerance: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return bool(tolerance) and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
