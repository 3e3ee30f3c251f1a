"""Checkpoints that stay besides the last and the best: the k best on validation, and that of every n-th epoch.

Lightning's ``ModelCheckpoint`` is not used: its state has absolute paths, so that a run that was moved or extended
loses them, and after a kill it writes beside a file that it finds there (``-v1``).
"""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from paperzoo.distributed import from_rank_zero
from paperzoo.machine import batches_within
from paperzoo.metric import Metric
from paperzoo.runs import checkpoints
from paperzoo.runs.history import History


class KeptCheckpoints(L.Callback):
    """Saves ``step_<step>.ckpt``, the step being that of the row in ``metrics.csv``; of one fit.

    What is kept depends on rows alone, and its state is in the exact state: a run that is killed at any moment and goes
    on saves and deletes again what it had since then, and ends with the files of a run left alone.

    Args:
        folder: for checkpoints.
        metric: the task's first, by which validations are ranked; the first of equals is the better.
        history: the run's rows; it must come before this among the callbacks.
        average: of the weights, where one is kept.
        top_k: how many of the best stay; None: no more are kept for that, and what an interrupted run kept stays.
        every_n_epochs: of the fit; None: likewise.
    """

    def __init__(
        self,
        folder: Path,
        metric: Metric,
        history: History,
        average: Any = None,
        *,
        top_k: int | None = None,
        every_n_epochs: int | None = None,
    ) -> None:
        self.folder, self.metric, self.history, self.average = folder, metric, history, average
        self.top_k, self.every_n_epochs = top_k or 0, every_n_epochs
        self.top: dict[str, float] = {}  # file -> value, the best first
        self.regular: list[str] = []  # files of every n-th epoch

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """A validation within an epoch may be among the best."""
        if batches_within(trainer):
            self._keep(trainer, pl_module, regular=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Likewise that of an epoch, which may be an n-th one."""
        n = self.every_n_epochs
        self._keep(trainer, pl_module, regular=n is not None and (trainer.current_epoch + 1) % n == 0)

    def _keep(self, trainer: L.Trainer, pl_module: Any, *, regular: bool) -> None:
        """Save these weights if they are to stay, then delete those that are no longer among the best."""
        name = f"step_{self.history.last_step}.ckpt"
        left = self._rank(name, pl_module) if self.top_k else []
        if regular and name not in self.regular:
            self.regular.append(name)
        if regular or name in self.top:
            checkpoints.save_weights(trainer, pl_module.network, self.folder / name, self.average)
        if trainer.is_global_zero:
            for file in left:
                checkpoints.remove(self.folder / file)

    def _rank(self, name: str, pl_module: Any) -> list[str]:
        """Give a validation its place; the files that lose theirs and are kept for nothing else."""
        value = from_rank_zero(pl_module.results.get("val", {}).get(self.metric.name))
        if value is None or math.isnan(value):
            return []
        sign = -1 if self.metric.goal == "max" else 1
        ranked = sorted({**self.top, name: value}.items(), key=lambda item: sign * item[1])
        self.top = dict(ranked[: self.top_k])
        return [file for file, _ in ranked[self.top_k :] if file not in (name, *self.regular)]

    def state_dict(self) -> dict[str, Any]:
        """Which files stay, and why."""
        return {"top": [[name, value] for name, value in self.top.items()], "regular": list(self.regular)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.top, self.regular = dict(state_dict["top"]), list(state_dict["regular"])
