"""The schedules as choices of a run: ``conf/scheduler/warmup_*.yaml``, in epochs, as factors of the base rate.

They count optimiser steps, so that accumulation changes nothing, and are functions of the step alone, so that a resumed
run has the rate of one left alone.
"""

from collections.abc import Callable, Sequence

from paperzoo.errors import UserError
from paperzoo.papers.cosine_decay.schedules import cosine, step_decay

EACH = ("step", "epoch")


def warmup_cosine(
    *,
    total_steps: int,
    steps_per_epoch: float,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
    final: float = 0.0,
    cycle_epochs: float | None = None,
    cycle_factor: int = 1,
    each: str = "step",
) -> Callable[[int], float]:
    """``cosine``: warm-up from 0 at step 0, the base at its end, ``final`` at ``total_steps``.

    Args:
        total_steps, steps_per_epoch: of the optimiser.
        warmup_epochs: of warm-up; may be a fraction.
        warmup_start: must be 0.
        final: the factor at the end.
        cycle_epochs, cycle_factor: restarts (SGDR's T_0 and T_mult), or None.
        each: "step", or "epoch": the decay keeps the rate that an epoch began with.

    Raises:
        UserError: warm-up is to begin elsewhere than at 0.
    """
    warmup = _warmup(warmup_epochs, warmup_start, steps_per_epoch)
    end = max(total_steps, warmup)  # trainer.max_steps may end a run within its warm-up
    cycle = None if cycle_epochs is None else max(round(cycle_epochs * steps_per_epoch), 1)
    moves = _moving(each, steps_per_epoch, warmup)
    return lambda step: cosine(moves(step), end, warmup, final=final, cycle_steps=cycle, cycle_factor=cycle_factor)


def warmup_step(
    *,
    total_steps: int,
    steps_per_epoch: float,
    milestones: Sequence[float],
    gamma: float,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
    each: str = "step",
) -> Callable[[int], float]:
    """``step_decay``: warm-up from 0, then times ``gamma`` from each milestone (epochs, warm-up included) on.

    Raises:
        UserError: as ``warmup_cosine``.
    """
    warmup = _warmup(warmup_epochs, warmup_start, steps_per_epoch)
    edges = [round(milestone * steps_per_epoch) for milestone in milestones]
    moves = _moving(each, steps_per_epoch, warmup)
    return lambda step: step_decay(moves(step), edges, gamma, warmup)


def _warmup(epochs: float, start: float, steps_per_epoch: float) -> int:
    if start:
        raise UserError(f"scheduler.warmup_start={start:g}: this warm-up begins at 0; use scheduler=cosine or step")
    return round(epochs * steps_per_epoch)


def _moving(each: str, steps_per_epoch: float, warmup: int) -> Callable[[int], int]:
    """The step whose rate a step has; warm-up moves at each."""
    if each not in EACH:
        raise UserError(f"scheduler.each={each}: must be one of {', '.join(EACH)}")
    if each == "step":
        return lambda step: step
    whole = max(round(steps_per_epoch), 1)
    return lambda step: step if step < warmup else max(step // whole * whole, warmup)
