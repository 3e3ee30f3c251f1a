"""What switchable layers have learned, epoch by epoch: a row per layer in ``norm_ratios.csv``, W&B, and a picture.

Every network with such layers gets this callback, whichever paper's it is: the layer's class names it.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
from matplotlib.figure import Figure
from torch import nn

from paperzoo.files import write_atomically

FILE = "norm_ratios.csv"
KINDS = ("#0072B2", "#E69F00", "#56B4E9", "#CC79A7")
Row = dict[str, Any]  # epoch, layer, and mean/<kind>, variance/<kind> for each kind of statistics


def layers_with_ratios(network: nn.Module) -> dict[str, Any]:
    """The layers that mix kinds of statistics, by name, from input to output."""
    return {name: module for name, module in network.named_modules() if callable(getattr(module, "ratios", None))}


class NormRatios(L.Callback):
    """Reads the shares of every layer at the end of each epoch."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add the epoch's rows and write the file again."""
        for name, layer in layers_with_ratios(pl_module.network).items():
            shares = {
                f"{what}/{kind}": pair[place]
                for kind, pair in layer.ratios().items()
                for place, what in enumerate(("mean", "variance"))
            }
            self.rows.append({"epoch": trainer.current_epoch + 1, "layer": name} | shares)
        place = pl_module.place
        if place.folder is None:
            return
        self._write(place.folder / FILE)
        if place.tell:
            place.tell(self.metrics(), trainer.global_step)

    def last(self) -> list[Row]:
        """The rows of the newest epoch."""
        return [row for row in self.rows if row["epoch"] == self.rows[-1]["epoch"]]

    def metrics(self) -> dict[str, float]:
        """What of them goes into the record, the newest epoch's shares: ``norm/<layer>/<mean or variance>/<kind>``."""
        return {
            f"norm/{row['layer']}/{key}": share
            for row in self.last()
            for key, share in row.items()
            if key not in ("epoch", "layer")
        }

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """The newest epoch's shares as a picture."""
        if self.rows:
            yield "norm_ratios", picture(self.last())

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


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """The shares of each kind of statistics, layer by layer: one row of bars for the mean, one for the variance.

    Args:
        rows: one per layer, from input to output: ``layer``, ``mean/<kind>``, ``variance/<kind>``.
    """
    figure = Figure(figsize=(min(max(7, 0.28 * len(rows) + 2), 18), 5.2), layout="constrained")
    for axes, what in zip(figure.subplots(2, 1, sharex=True), ("mean", "variance"), strict=True):
        below = np.zeros(len(rows))
        for kind, color in zip([key[len(what) + 1 :] for key in rows[0] if key.startswith(what)], KINDS, strict=False):
            shares = np.array([row[f"{what}/{kind}"] for row in rows])
            axes.bar(range(len(rows)), shares, 0.9, bottom=below, color=color, label=kind)
            below += shares
        axes.set(ylabel=f"share of the {what}", ylim=(0, 1), xlim=(-0.6, len(rows) - 0.4))
        axes.spines[["top", "right"]].set_visible(False)
    labels = [row["layer"] for row in rows]
    axes.set_xticks(range(len(rows)), labels, rotation=90, fontsize=7 if len(rows) < 60 else 4)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure
