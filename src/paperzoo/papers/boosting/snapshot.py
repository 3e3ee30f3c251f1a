"""Snapshot ensembles' learning rate: M cosines one after the other, each from the base rate to 0.

Huang, Li, Pleiss, Liu, Hopcroft, Weinberger: Snapshot Ensembles: Train 1, Get M for Free, ICLR 2017, Eq. 2.
"""

import math
from collections.abc import Callable

from paperzoo.errors import UserError


def snapshot_factor(step: int, total_steps: int, cycles: int) -> float:
    """``(cos(π mod(t, ⌈T/M⌉) / ⌈T/M⌉) + 1) / 2``, the factor of the base rate at a step.

    Args:
        step: t, counted from 0 (the paper's t - 1).
        total_steps: T.
        cycles: M.

    Raises:
        ValueError: there are fewer steps than cycles, or no cycle.
    """
    if cycles < 1 or total_steps < cycles:
        raise ValueError(f"cycles={cycles}: must be at least 1 and at most total_steps={total_steps}")
    length = -(-total_steps // cycles)
    return (math.cos(math.pi * (step % length) / length) + 1) / 2


def snapshot(
    *,
    total_steps: int,
    steps_per_epoch: float,
    cycles: int = 2,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
) -> Callable[[int], float]:
    """``scheduler=snapshot``: cycles of cosines over all steps, without warm-up.

    Raises:
        UserError: there is warm-up, or there are fewer steps than cycles.
    """
    if warmup_epochs or warmup_start:
        raise UserError(f"scheduler.warmup_epochs={warmup_epochs:g}: each cycle begins at the base rate; leave it 0")
    if total_steps < cycles:
        raise UserError(f"scheduler.cycles={cycles}: must be at most the {total_steps} steps of training")
    return lambda step: snapshot_factor(step, total_steps, cycles)
