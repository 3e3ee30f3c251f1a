"""A classifier's predictions of a split as a Parquet file, and what follows from them alone: metrics, classes, bins.

A row is a sample: ``index`` (its place in the split), ``label``, ``predicted``, ``loss`` (cross-entropy) and
``probabilities``, one of each class. What they are of stands in the file as JSON, metadata under ``paperzoo``. A batch
of the evaluation is a row group, so that sums are rounded as they were.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytorch_lightning as L
import torch
from pyarrow import parquet
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torchmetrics import MeanMetric

from paperzoo import pictures
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.metrics.calibration import bins
from paperzoo.tasks.classification import Classification

ABOUT = b"paperzoo"
COLUMNS = ("index", "label", "predicted", "loss", "probabilities")
SUFFIX = ".parquet"
SHOWN = 40  # classes in the terminal, the worst; the file has all
Rows = dict[str, Tensor]


class Kept(L.Callback):
    """Keeps what a classifier's evaluation gives its metrics: the metrics and the file are of the same numbers.

    Args:
        module: the classifier.
        task: of its data.

    Raises:
        UserError: it is none.
    """

    def __init__(self, module: Any, task: str) -> None:
        if task != "classification" or not isinstance(module, Classification):
            raise UserError(f"predictions=true: is for runs that classify images, this one is of {task}")
        self.module: Any = module
        self.batches: list[Rows] = []

    def __enter__(self) -> "Kept":
        """The module's metrics tell what they are given."""
        scores, losses = self.module.scores, self.module.mean_losses
        self._own = update_scores, update_losses = scores.update, losses.update

        def scored(probabilities: Tensor, labels: Tensor) -> None:
            update_scores(probabilities, labels)
            self._now |= {"probabilities": probabilities.cpu(), "label": labels.cpu()}
            self._now["predicted"] = self._now["probabilities"].argmax(1)

        def lost(values: Tensor) -> None:
            update_losses(values)
            self._now["loss"] = values.double().cpu()

        scores.update, losses.update = scored, lost
        return self

    def __exit__(self, *_: Any) -> None:
        """They are as they were."""
        self.module.scores.update, self.module.mean_losses.update = self._own

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: int) -> None:
        """Which samples come."""
        self._now: Rows = {"index": batch.index.cpu()}
        self.batches.append(self._now)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: int) -> None:
        """Likewise."""
        self.on_test_batch_start(trainer, pl_module, batch, batch_idx)


def write(path: Path, batches: Sequence[Rows], about: dict[str, Any]) -> None:
    """Write a split's predictions.

    Args:
        path: of the file; its folder is made.
        batches: of rows, in the order of the evaluation.
        about: plain data: ``run``, ``weights``, ``split``, ``class_names``, ``metrics``.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = [pa.table({name: _column(batch[name]) for name in COLUMNS}) for batch in batches]
        schema = tables[0].schema.with_metadata({ABOUT: json.dumps(about)})
        with parquet.ParquetWriter(temporary, schema) as writer:
            for table in tables:
                writer.write_table(table.cast(schema))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def _column(values: Tensor) -> Any:
    flat = pa.array(values.flatten().numpy())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.dim() > 1 else flat


def read(path: Path) -> tuple[list[Rows], dict[str, Any]]:
    """The batches of a file, and what they are of.

    Raises:
        UserError: there is no such file, or it is none of predictions.
    """
    if not path.is_file():
        raise UserError(f"run={path}: there is no such file")
    try:
        file = parquet.ParquetFile(path)
        about = json.loads(file.schema_arrow.metadata[ABOUT])
        classes = len(about["class_names"])
        groups = [file.read_row_group(k, columns=list(COLUMNS)) for k in range(file.num_row_groups)]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise UserError(f"run={path}: is no file of predictions, as evaluate.py predictions=true writes it") from None
    return [{name: _tensor(group[name], classes) for name in COLUMNS} for group in groups], about


def _tensor(column: Any, classes: int) -> Tensor:
    whole = column.combine_chunks()
    if pa.types.is_fixed_size_list(whole.type):
        return torch.from_numpy(np.array(whole.flatten())).reshape(-1, classes)
    return torch.from_numpy(np.array(whole))


def metrics_of(batches: Sequence[Rows], split: str, classes: int) -> dict[str, float]:
    """The metrics of a classifier, by the same code as in an evaluation, without the network."""
    scores = Classification.make_scores(None, classes)  # type: ignore[arg-type]  # of the number of classes alone
    losses = MeanMetric(nan_strategy="disable").set_dtype(torch.float64)
    for batch in batches:
        losses.update(batch["loss"])
        scores.update(batch["probabilities"], batch["label"])
    values = {name: float(value) for name, value in scores.compute().items() if name != "confusion"}
    return {f"{split}/{name}": value for name, value in ({"loss": float(losses.compute())} | values).items()}


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


def show(display: Display, batches: Sequence[Rows], about: dict[str, Any]) -> None:
    """Print the table of classes, where there are many the worst."""
    rows = by_class(batches, about["class_names"])
    worst = sorted(rows, key=lambda row: (not row.samples, row.recall, row.index))[:SHOWN]
    table = Table("class", "samples", "predicted", "recall", "precision", "most often taken for", box=None,
                  pad_edge=False, header_style="bold")  # fmt: skip
    for _, name, samples, given, recall, precision, taken in rows if len(rows) <= SHOWN else worst:
        shares = ["" if math.isnan(share) else f"{100 * share:.2f} %" for share in (recall, precision)]
        table.add_row(Text(name), f"{samples:,}", f"{given:,}", *shares, Text(taken))
    display.console.print()
    display.console.print(table)
    if len(rows) > SHOWN:
        display.line(f"the {SHOWN} of {len(rows)} classes with the lowest recall")


def draw(path: Path, batches: Sequence[Rows], title: str) -> None:
    """The reliability diagram of a split's predictions, as a PNG."""
    probabilities = torch.cat([batch["probabilities"] for batch in batches])
    confidence, predicted = probabilities.max(1)
    correct = (predicted == torch.cat([batch["label"] for batch in batches])).to(confidence.dtype)
    known = confidence.isfinite()
    if not known.any():
        return
    found = bins(confidence[known].clamp(max=1.0), correct[known])
    count, mean, accuracy = (part.numpy() for part in found)
    pictures.save(pictures.reliability(count, mean, accuracy, found.ece), title, path)


def evaluate(path: Path) -> dict[str, float]:
    """The metrics that a file of predictions gives, shown beside those of the evaluation that wrote it.

    Raises:
        UserError: see ``read``.
    """
    batches, about = read(path)
    metrics = metrics_of(batches, about["split"], len(about["class_names"]))
    then = {name: about["metrics"][name] for name in metrics if name in about["metrics"]}
    display = Display()
    samples = sum(len(batch["label"]) for batch in batches)
    display.line(f"run {about['run']}, {about['weights']} weights, {samples:,} predictions in {path}")
    measured = [Metric(**metric) for metric in about["measures"]]
    display.results({"now": (about["epoch"], metrics), "when written": (about["epoch"], then)}, measured)
    equal = all(metrics[name] == value for name, value in then.items())
    display.line(f"\n{'every metric equals' if equal else 'some metrics differ from'} that of the network")
    show(display, batches, about)
    return metrics
