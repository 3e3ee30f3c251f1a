"""Stopping a run from within, at an exact step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def stopped_by(number: int, after_steps: int) -> Iterator[None]:
    """Send this process a signal after so many optimiser steps."""
    count = 0

    def after_step(*_: object) -> None:
        nonlocal count
        count += 1
        if count == after_steps:
            os.kill(os.getpid(), number)

    handle = register_optimizer_step_post_hook(after_step)
    try:
        yield
    finally:
        handle.remove()


class Died(BaseException):
    """As if the process had been killed: nothing may handle it."""


@contextmanager
def dying_at(step: int) -> Iterator[None]:
    """Raise ``Died`` right after an optimiser step."""
    count = 0

    def after_step(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise Died

    handle = register_optimizer_step_post_hook(after_step)
    try:
        yield
    finally:
        handle.remove()
