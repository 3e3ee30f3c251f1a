"""Predictions of a network that labels pixels, by image: counts of pixels, from which its metrics are derived again.

``pixels`` are those that are labelled, ``pixel_accuracy`` is the share of them that is right and ``loss`` their mean
cross-entropy (NaN of an image without labelled pixels). ``intersection``, ``union`` and ``truth`` have a number for
each class: pixels that are of it and predicted so, that are either, and that are of it. A class's IoU is the quotient
of the sums of the first two over all images.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from rich.text import Text
from torch import Tensor

from paperzoo.data.images.maps import IGNORED
from paperzoo.display import Display
from paperzoo.predictions.kind import Given, Kind, Rows, percent, show_classes
from paperzoo.tasks.segmentation import scores


class Maps(Kind):
    """See above."""

    columns = ("pixels", "pixel_accuracy", "loss", "intersection", "union", "truth")
    rounded = ("loss",)

    def rows(self, given: Given, classes: int) -> Rows:
        """See ``Kind``; what is compared with the labels (B, H, W) are class indices, losses are of labelled pixels."""
        predicted, labels = given.scored, given.labels
        labelled = labels != IGNORED
        pixels = labelled.flatten(1).sum(1)
        truth, given_as = (_counts(values, labelled, classes) for values in (labels, predicted))
        hits = _counts(labels, labelled & (labels == predicted), classes)
        losses = torch.stack([own.mean() for own in given.losses.split(pixels.tolist())])
        columns = (pixels, hits.sum(1).double() / pixels, losses, hits, truth + given_as - hits, truth)
        return dict(zip(self.columns, columns, strict=True))

    def metrics_of(self, batches: Sequence[Rows], classes: int) -> dict[str, float]:
        """See ``Kind``; by the same code as in an evaluation, but for the loss, a mean over images of their means."""
        hits, union, truth = _sums(batches)
        pixels, losses = (torch.cat([batch[name] for batch in batches]) for name in ("pixels", "loss"))
        seen = pixels > 0
        loss = float((losses[seen] * pixels[seen]).sum() / pixels.sum())
        return {"loss": loss} | scores(hits, truth, union - truth + hits)

    def show(self, display: Display, batches: Sequence[Rows], names: Sequence[str]) -> None:
        """See ``Kind``."""

        def cells(row: OfClass) -> list[str | Text]:
            counts = [f"{count:,}" for count in (row.images, row.pixels, row.predicted)]
            return [*counts, percent(row.iou), percent(row.accuracy)]

        columns = ("class", "images", "pixels", "predicted", "IoU", "accuracy")
        show_classes(display, columns, by_class(batches, names), ("IoU", lambda row: row.iou), cells)

    def maps_of(self, given: Given) -> Any:
        """See ``Kind``."""
        return given.scored


class OfClass(NamedTuple):
    """A row of the table of classes."""

    index: int  # type: ignore[assignment]  # not the method of tuples
    name: str
    images: int  # that have it
    pixels: int
    predicted: int
    iou: float  # NaN where it is neither there nor predicted
    accuracy: float  # NaN without pixels


def by_class(batches: Sequence[Rows], names: Sequence[str]) -> list[OfClass]:
    """What a split's predictions say of each class."""
    hits, union, truth = _sums(batches)
    images = torch.cat([batch["truth"] for batch in batches]).count_nonzero(0)
    predicted = union - truth + hits
    columns = (images, truth, predicted, hits.double() / union, hits.double() / truth)
    return [
        OfClass(k, str(name), *row)
        for k, (name, *row) in enumerate(zip(names, *(column.tolist() for column in columns), strict=True))
    ]


def _sums(batches: Sequence[Rows]) -> tuple[Tensor, ...]:
    """Of the classes (K,), over all images."""
    return tuple(torch.cat([batch[name] for batch in batches]).sum(0) for name in ("intersection", "union", "truth"))


def _counts(values: Tensor, which: Tensor, classes: int) -> Tensor:
    """(B, K): how many of the pixels ``which`` of each image are of each class."""
    image = torch.arange(len(values)).view(-1, 1, 1).expand_as(values)
    cells = image[which] * classes + values[which]
    return torch.bincount(cells, minlength=len(values) * classes).view(len(values), classes)
