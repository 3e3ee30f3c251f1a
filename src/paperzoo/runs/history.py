"""The metrics of a run as it goes: read at intervals, a row per epoch, kept across a kill."""

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from paperzoo.display import Display
from paperzoo.runs.record import write_atomically

Row = dict[str, float | int]
EPOCHS, STEPS = "metrics.csv", "steps.csv"


class History(L.Callback):
    """Reads the module's running metrics every window and at the end of an epoch.

    Args:
        display: shows the rows.
        on_row: is told each row and its step (W&B), if there is one.
        batch_size: over all ranks.
    """

    def __init__(self, display: Display, batch_size: int, on_row: Callable[[Row, int], None] | None) -> None:
        self.display = display
        self.batch_size = batch_size
        self.on_row = on_row
        self.epochs: list[Row] = []
        self.steps: list[Row] = []
        self.seconds = 0.0  # of training in this epoch, validation aside
        self.images = 0  # of this epoch
        self.mark = 0.0
        self.loss = float("nan")

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Show the table's header, and the rows that a resumed run has already."""
        self.display.start(trainer.max_epochs or 1, pl_module.headline)
        for row in self.epochs:
            self.display.epoch(row)
        self.mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin to count anew."""
        pl_module.running.start_epoch()
        self.seconds, self.images = 0.0, 0
        self.mark = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the metrics if the window is full."""
        self.images += self.batch_size
        if pl_module.running.full:
            self._read(trainer, pl_module)
        now = time.perf_counter()
        self.seconds += now - self.mark
        self.mark = now
        rate = self.images / max(self.seconds, 1e-9)
        self.display.step(trainer.current_epoch, batch_idx + 1, int(trainer.num_training_batches), rate, self.loss)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Validation is no training time."""
        self.mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Make the epoch's row."""
        if pl_module.running.counts:
            self._read(trainer, pl_module)
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": self._rate(trainer)}
        row |= {f"train/{name}": value for name, value in pl_module.running.epoch().items()}
        row |= {f"val/{name}": value for name, value in pl_module.results.get("val", {}).items()}
        seconds = max(self.seconds, 1e-9)
        row |= {"images_per_second": pl_module.running.totals[0] / seconds, "seconds": seconds}
        self.epochs.append(row)
        self.display.epoch(row)
        self._tell(row, trainer.global_step)

    def _tell(self, row: Row, step: int) -> None:
        if self.on_row:
            self.on_row(row, step)

    def _read(self, trainer: L.Trainer, pl_module: Any) -> None:
        means = pl_module.running.read()
        self.loss = means["loss"]
        row: Row = {"step": trainer.global_step, "epoch": trainer.current_epoch + 1, "lr": self._rate(trainer)}
        row |= {f"train/{name}": value for name, value in means.items()}
        self.steps.append(row)
        self._tell({f"window/{k}" if k.startswith("train/") else k: v for k, v in row.items()}, trainer.global_step)

    def _rate(self, trainer: L.Trainer) -> float:
        """The learning rate of the last step: the schedule has already moved on to the next."""
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        factor = schedule.lr_lambdas[0](max(schedule.last_epoch - 1, 0))
        return float(schedule.base_lrs[0] * factor)

    def write(self, folder: Path) -> None:
        """Write both tables as CSV."""
        for name, rows in ((EPOCHS, self.epochs), (STEPS, self.steps)):
            columns = list(dict.fromkeys(column for row in rows for column in row))
            text = io.StringIO()
            table = csv.DictWriter(text, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            write_atomically(folder / name, text.getvalue().encode())

    def state_dict(self) -> dict[str, Any]:
        """All rows, and how far this epoch is."""
        return {"epochs": self.epochs, "steps": self.steps, "seconds": self.seconds, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.epochs, self.steps = list(state_dict["epochs"]), list(state_dict["steps"])
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]
