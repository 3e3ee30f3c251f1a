"""Stop training when validation no longer improves."""

from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping

from paperzoo.machine import batches_within


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
        self.within = False  # whether it stopped before the end of an epoch

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Nothing: the metric is read where the module has it, after a validation."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Lightning forgets that it was to stop."""
        trainer.should_stop = trainer.should_stop or bool(self.stopped_epoch)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Look at the metric after a validation within an epoch; after another one, the epoch's end follows."""
        if batches_within(trainer):
            self._look(trainer, pl_module)
            self.within = trainer.should_stop

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Likewise, if this epoch was validated, and not stopped by what is known already."""
        if not self.stopped_epoch:
            self._look(trainer, pl_module)

    def _look(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Stop if the metric has not improved for long; every rank has the same."""
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
        when = f"{'in' if self.within else 'after'} epoch {self.stopped_epoch}"
        return (
            f"stopped {when}: {self.monitor} has not been better than "
            f"{float(self.best_score):.6g} for {self.wait_count} validations (stopping=early)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and where in the epoch it stopped."""
        return {**super().state_dict(), "within": self.within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; states from before have stopped at the end of an epoch."""
        super().load_state_dict(state_dict)
        self.within = state_dict.get("within", False)
