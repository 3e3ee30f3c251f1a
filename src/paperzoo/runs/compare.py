"""Comparing the results of two runs: bit for bit, or within a tolerance."""

import math
from collections.abc import Iterator

from paperzoo.runs.record import Record

TIMES = {"seconds", "images_per_second"}  # what differs between two runs with equal results


def metrics(record: Record) -> Iterator[tuple[str, float]]:
    """Every metric of a record with its place, times aside, in a fixed order."""
    for row in record.epochs:
        for name, value in row.items():
            if name not in TIMES:
                yield f"epoch {row['epoch']}: {name}", value
    for weights, result in record.results.items():
        yield f"{weights} weights: epoch", result.epoch
        yield from ((f"{weights} weights: {name}", value) for name, value in result.metrics.items())


def first_difference(expected: Record, got: Record, tolerance: float = 0.0) -> str | None:
    """The first metric in which two records differ by more than ``tolerance`` (relative), or None."""
    left, right = dict(metrics(expected)), dict(metrics(got))
    for place, value in left.items():
        if place not in right:
            return f"{place} is {value!r} in {expected.id} and missing in {got.id}"
        other = right[place]
        if not _equal(value, other, tolerance):
            return f"{place} is {value!r} in {expected.id} and {other!r} in {got.id}"
    extra = next((place for place in right if place not in left), None)
    return f"{extra} is missing in {expected.id} and {right[extra]!r} in {got.id}" if extra else None


def _equal(a: float, b: float, tolerance: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return bool(tolerance) and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
