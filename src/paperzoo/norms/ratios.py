"""What switchable layers have learned, epoch by epoch: a row per layer in ``norm_ratios.csv``, and W&B."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from torch import nn

from paperzoo.runs.record import write_atomically

FILE = "norm_ratios.csv"
Row = dict[str, Any]  # epoch, layer, and mean/<kind>, variance/<kind> for each kind of statistics


def layers_with_ratios(network: nn.Module) -> dict[str, Any]:
    """The layers that mix kinds of statistics, by name, from input to output."""
    return {name: module for name, module in network.named_modules() if callable(getattr(module, "ratios", None))}


class NormRatios(L.Callback):
    """Reads the shares of every layer at the end of each epoch.

    Args:
        folder: of the run; None on other ranks than 0.
        tell: is told the shares and the step (W&B), if there is one.
    """

    def __init__(self, folder: Path | None, tell: Callable[[dict[str, float], int], None] | None) -> None:
        self.folder = folder
        self.tell = tell
        self.rows: list[Row] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add the epoch's rows and write the file anew."""
        for name, layer in layers_with_ratios(pl_module.network).items():
            shares = {
                f"{what}/{kind}": pair[place]
                for kind, pair in layer.ratios().items()
                for place, what in enumerate(("mean", "variance"))
            }
            self.rows.append({"epoch": trainer.current_epoch + 1, "layer": name} | shares)
        if self.folder is None:
            return
        self._write(self.folder / FILE)
        if self.tell:
            self.tell(self.shares(), trainer.global_step)

    def last(self) -> list[Row]:
        """The rows of the newest epoch."""
        return [row for row in self.rows if row["epoch"] == self.rows[-1]["epoch"]]

    def shares(self) -> dict[str, float]:
        """The newest epoch's shares: ``norm/<layer>/<mean or variance>/<kind>``."""
        return {
            f"norm/{row['layer']}/{key}": share
            for row in self.last()
            for key, share in row.items()
            if key not in ("epoch", "layer")
        }

    def _write(self, path: Path) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(path, text.getvalue().encode())

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows = list(state_dict["rows"])
