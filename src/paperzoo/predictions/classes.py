"""A classifier's predictions: ``label``, ``predicted``, ``loss`` (cross-entropy) and ``probabilities`` (K)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.text import Text
from torchmetrics import MeanMetric

from paperzoo import pictures
from paperzoo.display import Display
from paperzoo.metrics.calibration import bins
from paperzoo.predictions.kind import Given, Kind, Rows, percent, show_classes
from paperzoo.tasks.classification import Classification


class Classes(Kind):
    """See above."""

    columns = ("label", "predicted", "loss", "probabilities")

    def rows(self, given: Given, classes: int) -> Rows:
        """See ``Kind``; what is compared with the labels are probabilities (B, K)."""
        probabilities = given.scored
        columns = (given.labels, probabilities.argmax(1), given.losses, probabilities)
        return dict(zip(self.columns, columns, strict=True))

    def metrics_of(self, batches: Sequence[Rows], classes: int) -> dict[str, float]:
        """See ``Kind``; by the same code as in an evaluation."""
        scores = Classification.make_scores(None, classes)  # type: ignore[arg-type]  # of the number of classes alone
        losses = MeanMetric(nan_strategy="disable").set_dtype(torch.float64)
        for batch in batches:
            losses.update(batch["loss"])
            scores.update(batch["probabilities"], batch["label"])
        values = {name: float(value) for name, value in scores.compute().items() if name != "confusion"}
        return {"loss": float(losses.compute())} | values

    def show(self, display: Display, batches: Sequence[Rows], names: Sequence[str]) -> None:
        """See ``Kind``."""

        def cells(row: OfClass) -> list[str | Text]:
            shares = (percent(row.recall), percent(row.precision))
            return [f"{row.samples:,}", f"{row.predicted:,}", *shares, Text(row.taken_for)]

        columns = ("class", "samples", "predicted", "recall", "precision", "most often taken for")
        show_classes(display, columns, by_class(batches, names), ("recall", lambda row: row.recall), cells)

    def draw(self, path: Path, batches: Sequence[Rows], title: str) -> bool:
        """The reliability diagram, as a PNG; none where no probability is finite."""
        probabilities = torch.cat([batch["probabilities"] for batch in batches])
        confidence, predicted = probabilities.max(1)
        correct = (predicted == torch.cat([batch["label"] for batch in batches])).to(confidence.dtype)
        known = confidence.isfinite()
        if not known.any():
            return False
        found = bins(confidence[known].clamp(max=1.0), correct[known])
        count, mean, accuracy = (part.numpy() for part in found)
        pictures.save(pictures.reliability(count, mean, accuracy, found.ece), title, path)
        return True


class OfClass(NamedTuple):
    """A row of the table of classes."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    name: str
    samples: int
    predicted: int
    recall: float  # NaN without samples
    precision: float  # NaN where it is never predicted
    taken_for: str  # the class that its samples are wrongly given most often, with how many


def by_class(batches: Sequence[Rows], names: Sequence[str]) -> list[OfClass]:
    """What a split's predictions say of each class."""
    label = torch.cat([batch["label"] for batch in batches])
    predicted = torch.cat([batch["predicted"] for batch in batches])
    count = len(names)
    confusion = torch.bincount(label * count + predicted, minlength=count * count).reshape(count, count)
    hits, samples, given = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    wrong = confusion - torch.diag(hits)
    rows = []
    for k, name in enumerate(names):
        most = int(wrong[k].argmax())
        taken = f"{names[most]} ({int(wrong[k, most])})" if wrong[k, most] else ""
        shares = (float(hits[k] / samples[k]), float(hits[k] / given[k]))
        rows.append(OfClass(k, str(name), int(samples[k]), int(given[k]), *shares, taken))
    return rows
