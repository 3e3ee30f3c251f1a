"""The reliability diagram of a classifier's run, from what its calibration error is computed of."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as L
import torch
from matplotlib.figure import Figure
from torchmetrics.classification import MulticlassCalibrationError

from paperzoo import pictures
from paperzoo.distributed import gather
from paperzoo.metrics.calibration import Bins, bins


class Reliability(L.Callback):
    """Draws the bins of the calibration error on the last split that was tested.

    Lightning calls callbacks before the module computes its metrics and resets them, so that the metric's own
    confidences are still there.

    Args:
        recorded: whether the bins go into the record, for the pictures of reports.
    """

    def __init__(self, recorded: bool = False) -> None:
        self.recorded = recorded
        self.bins: Bins | None = None

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bins, over all ranks."""
        metric = calibration_of(pl_module)
        if metric is None:
            return
        own: Any = [torch.cat([*values]).cpu() if values else torch.zeros(0) for values in
                    (metric.confidences, metric.accuracies)]  # fmt: skip
        confidence, correct = (torch.cat(parts) for parts in zip(*gather(own), strict=True))
        known = confidence.isfinite()  # a network that diverged gives none: that is in the loss
        self.bins = bins(confidence[known], correct[known], metric.n_bins) if known.any() else None

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """For the run folder."""
        if self.bins is not None:
            count, confidence, accuracy = (part.numpy() for part in self.bins)
            yield "reliability", pictures.reliability(count, confidence, accuracy, self.bins.ece)

    def metrics(self) -> dict[str, float]:
        """``calibration/<bin>/count``, ``confidence`` and ``accuracy`` of the bins that are not empty."""
        if not self.recorded or self.bins is None:
            return {}
        return {
            f"calibration/{place:02}/{name}": float(value)
            for place in range(len(self.bins.count))
            if self.bins.count[place]
            for name, value in zip(Bins._fields, (part[place] for part in self.bins), strict=True)
        }


def callbacks_of(module: Any) -> list[L.Callback]:
    """The callback that a run adds for its tests: one where the module has a calibration error.

    A module that has one of its own (``recorded``) keeps it: Lightning takes a module's callback in place of another of
    its class.
    """
    return [Reliability()] if calibration_of(module) is not None else []


def calibration_of(module: Any) -> MulticlassCalibrationError | None:
    """The metric of a module, or None where it has none."""
    for part in module.modules():
        if isinstance(part, MulticlassCalibrationError):
            return part
    return None
