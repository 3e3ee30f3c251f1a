"""An exponential moving average of the weights, beside those that are trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytorch_lightning as L
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from paperzoo.errors import UserError


class MovingAverage(L.Callback):
    """``w' <- decay w' + (1 - decay) w`` after optimiser steps; w' begins as the weights after the first of them.

    Running statistics are averaged likewise. Validation sees the average, the best and the last weights are averages,
    and training goes on with the weights themselves. The exact state holds both. The average of a fit with several
    stages is that of each stage.

    Args:
        decay: between 0 and 1.
        every_n_steps: how many steps lie between two updates.

    Raises:
        UserError: the network has statistics of each rank's own (moving average normalisation), on several ranks.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        self.decay, self.every_n_steps = decay, every_n_steps
        self.average: AveragedModel | None = None
        self.step = 0  # the last that the average has learned of
        self.saved: dict[str, Any] | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Copy the network, where its device is known, and go on with a resumed run's average."""
        if trainer.world_size > 1 and pl_module.has_rank_buffers:
            raise UserError(
                "average=moving: the network keeps statistics of each rank's own, which are not averaged; use one rank"
            )
        self.average = AveragedModel(pl_module.network, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
        if self.saved is not None:
            self.average.load_state_dict(self.saved)
            self.saved = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Learn of a new step; between two of them gradients are accumulated."""
        step = trainer.global_step
        if step > self.step and step % self.every_n_steps == 0:
            assert self.average is not None
            self.average.update_parameters(pl_module.network)
        self.step = step

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Validate the average: before the module makes its statistics those of rank 0."""
        self._swap(pl_module.network)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Back to the weights that are trained."""
        self._swap(pl_module.network)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """The network with the averaged weights, for as long as it lasts."""
        self._swap(network)
        try:
            yield
        finally:
            self._swap(network)

    def keep(self, network: nn.Module) -> None:
        """Give the network the averaged weights for good: at the end of a fit, a resumed one with nothing left too."""
        if self.average is not None:
            self._swap(network)
        elif self.saved is not None:
            prefix = "module."
            network.load_state_dict(
                {name.removeprefix(prefix): value for name, value in self.saved.items() if name.startswith(prefix)}
            )

    @torch.no_grad()
    def _swap(self, network: nn.Module) -> None:
        if self.average is None or not self.average.n_averaged:
            return
        copy = self.average.module
        for one, other in zip(_tensors(network), _tensors(copy), strict=True):
            kept = one.clone()
            one.copy_(other)
            other.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The average, and the last step that it has learned of."""
        return {"step": self.step, "average": self.average.state_dict() if self.average else self.saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until ``on_train_start``."""
        self.step, self.saved = state_dict["step"], state_dict["average"]


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    return chain(network.parameters(), network.buffers())
