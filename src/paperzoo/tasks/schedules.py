"""Learning-rate schedules in closed form: the factor of the base rate at each optimiser step.

A closed form has no state, so that a resumed run has the rate that an uninterrupted one has.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

Factor = Callable[[int], float]


def constant(
    *, total_steps: int, steps_per_epoch: float, warmup_epochs: float = 0.0, warmup_start: float = 0.0
) -> Factor:
    """The base rate throughout, after a linear warm-up."""
    return _after_warmup(lambda _: 1.0, round(warmup_epochs * steps_per_epoch), warmup_start)


def cosine(
    *,
    total_steps: int,
    steps_per_epoch: float,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
    final: float = 0.0,
) -> Factor:
    """Half a cosine from 1 to ``final``: lr_t = (1 + cos(pi t / T)) / 2 (SGDR, Eq. 5 without restarts).

    t counts from the end of the warm-up and T is what remains after it, as in the official code of Switchable
    Normalization; timm's default counts from the start, so that its rate is below the base when warm-up ends.
    """
    warmup = round(warmup_epochs * steps_per_epoch)
    span = max(total_steps - warmup, 1)

    def factor(step: int) -> float:
        return _half_cosine(1.0, final, min(step / span, 1.0))

    return _after_warmup(factor, warmup, warmup_start)


def step(
    *,
    total_steps: int,
    steps_per_epoch: float,
    milestones: Sequence[float],
    gamma: float,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
) -> Factor:
    """Times ``gamma`` at each milestone (epochs): step t has passed milestone m if t >= m * steps_per_epoch."""
    warmup = round(warmup_epochs * steps_per_epoch)
    edges = sorted(round(milestone * steps_per_epoch) for milestone in milestones)
    return _after_warmup(lambda t: gamma ** bisect_right(edges, t + warmup), warmup, warmup_start)


def poly(
    *, total_steps: int, steps_per_epoch: float, power: float, warmup_epochs: float = 0.0, warmup_start: float = 0.0
) -> Factor:
    """From 1 to 0 by ``(1 - t / T) ** power``, with T what remains after the warm-up: scene parsing's schedule."""
    warmup = round(warmup_epochs * steps_per_epoch)
    span = max(total_steps - warmup, 1)
    return _after_warmup(lambda t: (1 - min(t / span, 1.0)) ** power, warmup, warmup_start)


def one_cycle(
    *,
    total_steps: int,
    steps_per_epoch: float,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Factor:
    """One rise and one fall over the run (Smith and Topin, 2018), both half a cosine, as torch's ``OneCycleLR``.

    From ``1 / div_factor`` to 1 at step ``pct_start * total_steps - 1``, then to ``1 / (div_factor *
    final_div_factor)`` at the last step. The momentum stays as it is. It has its rise in itself, so that
    ``warmup_epochs`` must be 0.
    """
    top, end = pct_start * total_steps - 1, total_steps - 1
    low = 1 / div_factor

    def factor(step: int) -> float:
        if step <= top:
            return _half_cosine(low, 1.0, step / top if top > 0 else 1.0)
        return _half_cosine(1.0, low / final_div_factor, min((step - top) / max(end - top, 1e-9), 1.0))

    return factor


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


class Plateau:
    """Times ``factor`` whenever the metric has not improved for more than ``patience`` validations, after the warm-up.

    The one schedule with a state: ``LambdaLR`` keeps its attributes, plain data, in every checkpoint.
    """

    def __init__(self, warmup: int, start: float, factor: float, patience: int) -> None:
        self.warmup, self.start, self.factor, self.patience = warmup, start, factor, patience
        self.scale, self.waited = 1.0, 0
        self.best: float | None = None

    def __call__(self, step: int) -> float:
        """The factor of the base rate at a step."""
        return _after_warmup(lambda _: self.scale, self.warmup, self.start)(step)

    def observe(self, value: float | None, goal: str) -> None:
        """Learn the metric of a validation."""
        if value is None:
            return
        known = not math.isnan(value)  # a metric that is undefined is no improvement
        if known and (self.best is None or (value > self.best if goal == "max" else value < self.best)):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale * self.factor, 0


def plateau(
    *,
    total_steps: int,
    steps_per_epoch: float,
    factor: float = 0.1,
    patience: int = 2,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
) -> Factor:
    """As ``Plateau`` does, by the task's first metric on validation."""
    return Plateau(round(warmup_epochs * steps_per_epoch), warmup_start, factor, patience)


def _after_warmup(factor: Factor, warmup: int, start: float) -> Factor:
    """Linear from ``start`` to 1 over ``warmup`` steps (the first step has ``start + (1 - start) / warmup``)."""

    def warmed(t: int) -> float:
        if t < warmup:
            return start + (1 - start) * (t + 1) / warmup
        return factor(t - warmup)

    return warmed
