"""Learning rates as a function of the step: linear warm-up, then half a cosine or steps.

He, Zhang, Zhang, Zhang, Xie, Li: Bag of Tricks for Image Classification with Convolutional Neural Networks, CVPR
2019, Sec. 3.1 and 5.1; restarts: Loshchilov, Hutter: SGDR, ICLR 2017, Eq. 5.

Steps are integers from 0. Warm-up is from 0 at step 0 to the base at step ``warmup_steps``, which is the first step
of the decay: there is neither a jump nor a step twice at the base. (timm's cosine counts its decay from step 0 by
default, so that its rate is below the base when warm-up ends.)
"""

import math
from bisect import bisect_right
from collections.abc import Sequence


def cosine(
    step: int,
    total_steps: int,
    warmup_steps: int = 0,
    base: float = 1.0,
    final: float = 0.0,
    cycle_steps: int | None = None,
    cycle_factor: int = 1,
) -> float:
    """Half a cosine from ``base`` at ``warmup_steps`` to ``final`` at ``total_steps`` and after.

    Args:
        step: from 0.
        total_steps: where ``final`` is reached, warm-up included.
        warmup_steps: of linear warm-up from 0.
        base, final: the rates at both ends of the cosine.
        cycle_steps: restart at the base after so many steps (SGDR's T_0); None: one cosine.
        cycle_factor: each cycle is so many times as long as the one before (SGDR's T_mult).

    Raises:
        ValueError: a negative step, more warm-up than there are steps, or a cycle below one step.
    """
    _check(step, warmup_steps)
    if total_steps < warmup_steps:
        raise ValueError(f"warmup_steps={warmup_steps}: is more than total_steps={total_steps}")
    if step < warmup_steps:
        return base * step / warmup_steps
    if step >= total_steps:
        return final
    done, span = step - warmup_steps, total_steps - warmup_steps
    if cycle_steps is not None:
        done, span = _cycle(done, cycle_steps, cycle_factor)
    return final + (base - final) * (1 + math.cos(math.pi * done / span)) / 2


def step_decay(step: int, milestones: Sequence[int], gamma: float, warmup_steps: int = 0) -> float:
    """``gamma`` to the number of milestones up to and including this step, after a linear warm-up from 0.

    Milestones count from step 0, warm-up included.

    Raises:
        ValueError: a negative step or warm-up.
    """
    _check(step, warmup_steps)
    factor = float(gamma) ** bisect_right(sorted(milestones), step)
    return factor * step / warmup_steps if step < warmup_steps else factor


def _cycle(done: int, length: int, factor: int) -> tuple[int, int]:
    """Steps done in the cycle that is under way, and its length."""
    if length < 1:
        raise ValueError(f"cycle_steps={length}: must be at least 1")
    if factor < 1:
        raise ValueError(f"cycle_factor={factor}: must be at least 1")
    while done >= length:
        done, length = done - length, length * factor
    return done, length


def _check(step: int, warmup_steps: int) -> None:
    if step < 0:
        raise ValueError(f"step={step}: must be at least 0")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps}: must be at least 0")
