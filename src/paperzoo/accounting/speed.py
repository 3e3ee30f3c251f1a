"""What things take on this machine, side by side: speed drifts, so that only what ran in turn compares."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

DRAWS = 2000
LEAST = 6  # rounds, with fewer of which nothing can be said to be faster


def interleaved(
    arms: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    budget: float | None = None,
) -> dict[str, list[float]]:
    """Seconds of every arm in every round, after one that warms up; each takes each arm once, in another order.

    Args:
        arms: what to call, by name.
        rounds: how many, at most.
        clock: ``time.process_time`` where others use the machine, too.
        budget: seconds after which no round begins, once there are ``LEAST``; None has no limit.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    order, begun = list(arms), time.perf_counter()
    for number in range(rounds + 1):
        if budget is not None and number > LEAST and time.perf_counter() - begun > budget:
            break
        random.Random(number).shuffle(order)
        for name in order:
            start = clock()
            arms[name]()
            taken = clock() - start
            if number:
                times[name].append(taken)
    return times


def ratios(one: Iterable[float], other: Iterable[float]) -> list[float]:
    """One to the other, round by round."""
    return [a / b for a, b in zip(one, other, strict=True)]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % of the median: percentiles of bootstrap draws."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    return medians[int(0.025 * DRAWS)], medians[int(0.975 * DRAWS) - 1]
