"""Saves the exact state of a run at intervals, restores it, and stops cleanly on a signal.

States are saved where nothing is half done: after an optimiser step within an epoch (never with gradients half
accumulated), after the validation that follows it if one does, at the end of an epoch with its validation, or between
two tries of a loop.
"""

import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import nn

from paperzoo import random_state
from paperzoo.distributed import from_rank_zero, gather, max_over_ranks
from paperzoo.errors import Interrupted
from paperzoo.machine import batches_within, is_validation_next
from paperzoo.metric import Metric
from paperzoo.runs.checkpoints import BEST, STATE, save_weights
from paperzoo.runs.signals import NOTED, SIGNALS, may_listen

PATIENCE = 10.0  # seconds for the end of a validation, after which the state is saved; clusters kill after 30


class Interval:
    """When a state is due, and whether a signal asked the run to stop."""

    def __init__(self, every_steps: int | None, every_seconds: float | None) -> None:
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.last_time = time.monotonic()
        self.received = 0
        self.received_at = 0.0
        self.previous_handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def is_due(self, step: int) -> bool:
        """Whether so many steps, or seconds, have passed."""
        if self.every_steps and step % self.every_steps == 0:
            return True
        return self.every_seconds is not None and time.monotonic() - self.last_time >= self.every_seconds

    def saved(self) -> None:
        """Restart the interval."""
        self.last_time = time.monotonic()

    def install(self) -> None:
        """Note signals from now on; what acts on them is whoever looks at ``received``."""
        self.saved()
        if may_listen():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received, self.received_at = number, time.monotonic()
        NOTED.append(number)
        signal.signal(signal.SIGINT, self.previous_handlers[signal.SIGINT])  # a second Ctrl-C does not wait

    def restore(self) -> None:
        """Restore the handlers of before."""
        if not may_listen():
            return
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)


class ExactState(Checkpoint):
    """Random states, intervals of saving, signals, and which stage of the run is under way.

    A ``Checkpoint`` of Lightning's, so that it is the last callback: it saves when all others have done their part.

    Args:
        folder: for checkpoints.
        words: what the random states are seeded from, beside the rank.
        interval: when to save.
        progress: ``stage``, its number, and ``outcomes`` and ``records`` of the stages before.
    """

    def __init__(
        self, folder: Path, words: tuple[int | str, ...], interval: Interval, progress: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.words, self.interval = folder, words, interval
        self.progress = progress or {"stage": 0, "outcomes": [], "records": []}
        self.saved: list[dict[str, Any]] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The last moment before the first batch: set this rank's random state, and note signals.

        Lightning's own handlers, set up just before, are replaced: they broadcast from within the handler.
        """
        if self.saved is None:
            random_state.seed_everything(*self.words, "rank", trainer.global_rank)
        else:
            random_state.restore(self.saved[trainer.global_rank])
        self.interval.install()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save if it is time, and stop if a signal asked for it; ``on_train_epoch_end`` has the end of an epoch."""
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True  # or Lightning would end without validating these weights
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if between_steps and batch_idx + 1 < trainer.num_training_batches and not trainer.should_stop:
            if is_validation_next(trainer, batch_idx + 1):
                return  # Lightning (2.6.6) takes it for done in a state from before it; ``on_validation_end`` saves
            self._act(trainer, pl_module, due=self.interval.is_due(trainer.global_step))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Likewise, after a validation within an epoch."""
        if batches_within(trainer):
            self._act(trainer, pl_module, due=self.interval.is_due(trainer.global_step))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Likewise; the end of training is always saved, so that a kill during the tests loses nothing."""
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
        self._act(trainer, pl_module, due=last or self.interval.is_due(trainer.global_step))

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A signal does not wait for the end of a long validation: the last saved state is before it.

        Where ranks validate together, one that stopped would leave the others waiting: they stop after it.
        """
        waited = time.monotonic() - self.interval.received_at
        if self.interval.received and waited > PATIENCE and trainer.world_size == 1:
            raise Interrupted(self.interval.received)

    def _act(self, trainer: L.Trainer, pl_module: Any, *, due: bool) -> None:
        """Save or stop if any rank is due or got a signal: all ranks do the same."""
        stop, save = max_over_ranks([int(self.interval.received), int(due)], pl_module.device)
        if stop or save:
            spoilt = max_over_ranks([int(not _is_finite(pl_module))], pl_module.device)[0]  # a rank may have a part
            pl_module.running.check(sound=not spoilt)  # else the state before this one is kept
            trainer.save_checkpoint(self.folder / STATE)
            self.interval.saved()
        if stop:
            raise Interrupted(stop)

    def state_dict(self) -> dict[str, Any]:
        """Every rank's random state, and the stage."""
        return {"ranks": gather(random_state.state()), **self.progress}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until ``on_train_start``: what comes between draws numbers too."""
        self.saved = state_dict["ranks"]


def _is_finite(module: nn.Module) -> bool:
    """Whether all parameters are; a NaN gradient spoils them before a loss tells."""
    return bool(torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all())


class Best(L.Callback):
    """Keeps the weights that are best on validation (the first of equals). The test split is never looked at.

    Args:
        folder: for checkpoints.
        metric: the task's first, which says whether more or less is better.
    """

    def __init__(self, folder: Path, metric: Metric) -> None:
        self.folder, self.metric = folder, metric
        self.average: Any = None  # of the weights, where one is kept
        self.value: float | None = None
        self.epoch = self.step = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """A validation within an epoch chooses, too."""
        if batches_within(trainer):
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save if better."""
        value = from_rank_zero(pl_module.results.get("val", {}).get(self.metric.name))
        if value is not None and self._is_better(value):
            self.value, self.epoch, self.step = value, trainer.current_epoch + 1, trainer.global_step
            save_weights(trainer, pl_module.network, self.folder / BEST, self.average)

    def _is_better(self, value: float) -> bool:
        if self.value is None:
            return not math.isnan(value)
        return value > self.value if self.metric.goal == "max" else value < self.value

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"value": self.value, "epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; in states from before, nothing was -inf."""
        value = state_dict["value"]
        self.value = None if value == float("-inf") else value
        self.epoch, self.step = state_dict["epoch"], state_dict["step"]
