"""The metrics of a run as it goes: read at intervals, a row per epoch, kept across a kill.

A validation within an epoch has a row, too: ``epoch`` 1.5 is in the middle of the second, and of the training metrics,
which are an epoch's, it has none.
"""

import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from paperzoo.display import Display
from paperzoo.files import write_atomically
from paperzoo.machine import batches_within
from paperzoo.runs.record import StageRecord

Row = dict[str, float | int]
EPOCHS, STEPS = "metrics.csv", "steps.csv"


class History(L.Callback):
    """Reads the module's running metrics every window and at the end of an epoch.

    Args:
        display: shows the rows.
        on_row: is called with each row and its step (W&B), if there is one.
    """

    def __init__(self, display: Display, on_row: Callable[[Row, int], None] | None) -> None:
        self.display = display
        self.on_row = on_row
        self.staged = False  # whether rows say which stage they are of
        self.stage, self.stage_name = 0, ""
        self.stage_start = (0, 0, 0)  # rows, epochs and steps before this stage
        self.epochs: list[Row] = []
        self.steps: list[Row] = []
        self.seconds = 0.0  # of training in this epoch, validation aside
        self.units = 0  # of this epoch
        self.mark = 0.0
        self.loss = float("nan")
        self.rate = 0.0  # the learning rate of the last step

    # stages

    def begin_stage(self, number: int, name: str, *, resumed: bool) -> None:
        """Rows from now on are of this stage; a resumed one learns from its state what came before."""
        self.stage, self.stage_name = number, name
        self.mark = time.perf_counter()
        if not resumed:
            epochs = int(self.epochs[-1]["epoch"]) if self.epochs else 0
            self.stage_start = (len(self.epochs), epochs, self.last_step)
        if self.staged:
            self.display.line(f"stage {number + 1}: {name}")

    @property
    def last_step(self) -> int:
        """The step of the newest row."""
        return int(self.epochs[-1]["step"]) if self.epochs else 0

    def stage_record(self, name: str, kind: str) -> StageRecord:
        """What the stage that has just ended took."""
        rows = self.epochs[self.stage_start[0] :]
        seconds = sum(row.get("seconds", 0.0) for row in rows)
        return StageRecord(
            name=name, kind=kind, rows=len(rows), steps=self.last_step - self.stage_start[2], seconds=seconds
        )

    def tried(self, values: Mapping[str, float]) -> Row:
        """The row of a loop's try."""
        now = time.perf_counter()
        step = self.last_step + 1
        epoch = int(self.epochs[-1]["epoch"]) if self.epochs else 0
        row: Row = {"epoch": epoch, "step": step, "stage": self.stage + 1, **values, "seconds": now - self.mark}
        self.mark = now
        self.epochs.append(row)
        shown = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
        self.display.line(f"  {self.stage_name} {step - self.stage_start[2]}: {shown}")
        self._tell(row, step)
        return row

    # a fit

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Show the table's header, and the rows that a resumed run has already."""
        self.display.start(trainer.max_epochs or 1, pl_module.headline(), pl_module.unit)
        for row in self.epochs[self.stage_start[0] :]:
            self.display.epoch(self._own(row))
        self.mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Reset the counters, and forget the last validation: not every epoch has one."""
        pl_module.results.pop("val", None)
        pl_module.running.start_epoch()
        self.seconds, self.units = 0.0, 0
        self.mark = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the rate of the step: after it the schedule has moved on."""
        self.rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the metrics if the window is full."""
        self.units += pl_module.running.counts[-1] * trainer.world_size
        self.loss = pl_module.running.latest(self.loss)
        if pl_module.running.full:
            self._read(trainer, pl_module)
        now = time.perf_counter()
        self.seconds += now - self.mark
        self.mark = now
        rate = self.units / max(self.seconds, 1e-9)
        self.display.step(trainer.current_epoch, batch_idx + 1, int(trainer.num_training_batches), rate, self.loss)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Validation is no training time; one within an epoch has a row."""
        self.mark = time.perf_counter()
        if done := batches_within(trainer):
            row = self._place(trainer)
            row["epoch"] += round(done / trainer.num_training_batches, 6) - 1
            self._add(row | _validated(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Make the epoch's row."""
        if pl_module.running.counts:
            self._read(trainer, pl_module)
        row = self._place(trainer)
        row |= {f"train/{name}": value for name, value in pl_module.running.epoch().items()}
        row |= _validated(pl_module)
        seconds = max(self.seconds, 1e-9)
        row |= {f"{pl_module.unit}s_per_second": pl_module.running.totals[0] / seconds, "seconds": seconds}
        if self.epochs and self.epochs[-1]["step"] == row["step"] and self.epochs[-1]["epoch"] % 1:
            self.epochs.pop()  # the validation that ended the training ended the epoch
        self._add(row)

    def _add(self, row: Row) -> None:
        self.epochs.append(row)
        self.display.epoch(self._own(row))
        self._tell(row, int(row["step"]))

    def _place(self, trainer: L.Trainer) -> Row:
        """Where in the run it is, over all stages."""
        _, epochs, steps = self.stage_start
        row: Row = {
            "epoch": epochs + trainer.current_epoch + 1,
            "step": steps + trainer.global_step,
            "lr": self.rate,
        }
        return row | ({"stage": self.stage + 1} if self.staged else {})

    def _own(self, row: Row) -> Row:
        """A row with the epoch of its stage."""
        return {**row, "epoch": row["epoch"] - self.stage_start[1]}

    def _tell(self, row: Row, step: int) -> None:
        if self.on_row:
            self.on_row(row, step)

    def _read(self, trainer: L.Trainer, pl_module: Any) -> None:
        means = pl_module.running.read()
        if not pl_module.running.looks_at_once:  # a GPU, several ranks: no loss is known but the mean of what was read
            self.loss = means["loss"]
        place = self._place(trainer)
        row: Row = {"step": place.pop("step"), "epoch": place.pop("epoch"), **place}
        row |= {f"train/{name}": value for name, value in means.items()}
        self.steps.append(row)
        self._tell({f"window/{k}" if k.startswith("train/") else k: v for k, v in row.items()}, int(row["step"]))

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
        return {
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": self.seconds,
            "units": self.units,
            "stage_start": list(self.stage_start),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.epochs, self.steps = list(state_dict["epochs"]), list(state_dict["steps"])
        self.seconds, self.units = state_dict["seconds"], state_dict.get("units", 0)
        rows, epochs, steps = state_dict.get("stage_start", (0, 0, 0))
        self.stage_start = (rows, epochs, steps)
        self.mark = time.perf_counter()


def _validated(module: Any) -> Row:
    """The metrics of the last validation, if there was one in this epoch."""
    return {f"val/{name}": value for name, value in module.results.get("val", {}).items()}
