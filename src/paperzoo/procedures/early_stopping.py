"""Stop training when validation no longer improves."""

from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping


class EarlyStopping(LightningEarlyStopping):
    """Lightning's early stopping, on the task's first metric; a run that is resumed after it stopped stays stopped.

    Args:
        metric: name of the metric, and ``min`` or ``max``, what is better.
        goal: see ``metric``.
        patience: validations without improvement that are waited for.
        min_delta: how much better counts as better.
    """

    def __init__(self, metric: str, goal: str, patience: int = 5, min_delta: float = 0.0) -> None:
        super().__init__(monitor=f"val/{metric}", mode=goal, patience=patience, min_delta=min_delta, check_finite=False)
        self.metric = metric

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Nothing: the metric is read when an epoch ends."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Lightning forgets that it was to stop."""
        trainer.should_stop = trainer.should_stop or bool(self.stopped_epoch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The epoch's end follows."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the metric, if this epoch was validated; every rank has the same."""
        value = pl_module.results.get("val", {}).get(self.metric)
        if value is None:
            return
        stop, _ = self._evaluate_stopping_criteria(torch.tensor(value, dtype=torch.float64))
        if stop:
            self.stopped_epoch = trainer.current_epoch + 1
            trainer.should_stop = True

    def said(self) -> str | None:
        """Why training ended before its last epoch, if it did."""
        if not self.stopped_epoch:
            return None
        return (
            f"stopped after epoch {self.stopped_epoch}: {self.monitor} has not been better than "
            f"{float(self.best_score):.6g} for {self.wait_count} validations (stopping=early)"
        )
