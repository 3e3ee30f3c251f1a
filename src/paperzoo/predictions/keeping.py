"""Keeping what an evaluation gives its metrics: the metrics and the file are of the same numbers."""

from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as L
from rich.markup import escape
from torch import Tensor

from paperzoo import pictures
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.predictions.files import KINDS, write
from paperzoo.predictions.kind import Given, Rows
from paperzoo.tasks.classification import Classification
from paperzoo.tasks.detection import Detection, InstanceSegmentation


class Kept(L.Callback):
    """Keeps the predictions of a module while it is evaluated; a callback where Lightning does it.

    Args:
        module: a classifier, or a network that labels pixels.
        task: of its data.
        maps: the folder that class indices of the pixels go to, an image a PNG named by its index; None writes none.

    Raises:
        UserError: it does something else, or ``maps`` is given and it labels no pixels.
    """

    of: ClassVar[type] = Classification

    def __init__(self, module: Any, task: str, maps: Path | None = None) -> None:
        if task not in KINDS or not isinstance(module, self.of):
            raise UserError(f"predictions=true: is for runs that do {' or '.join(KINDS)} of images, this is {task}")
        if maps is not None and task != "segmentation":
            raise UserError(f"maps=true: is for runs of segmentation, this one is of {task}")
        self.module: Any = module
        self.kind, self.task, self.maps = KINDS[task], task, maps
        self.batches: list[Rows] = []
        self._now: dict[str, Tensor] = {}

    def __enter__(self) -> "Kept":
        """The module's metrics tell what they are given."""
        scores, losses = self.module.scores, self.module.mean_losses
        self._own = update_scores, update_losses = scores.update, losses.update

        def scored(values: Tensor, labels: Tensor) -> None:
            update_scores(values, labels)
            self._now |= {"scored": values.cpu(), "labels": labels.cpu()}

        def lost(values: Tensor) -> None:
            update_losses(values)
            self._now["losses"] = values.double().cpu()

        scores.update, losses.update = scored, lost
        return self

    def __exit__(self, *_: Any) -> None:
        """They are as they were."""
        self.module.scores.update, self.module.mean_losses.update = self._own
        if len(self._now) == len(Given._fields):
            self._close()

    def begin(self, index: Tensor) -> None:
        """Samples with these places in the split come next."""
        if self._now:
            self._close()
        self._now = {"index": index.cpu()}

    def _close(self) -> None:
        given, classes = Given(**self._now), self.module.num_classes
        self._now = {}
        self.batches.append({"index": given.index} | self.kind.rows(given, classes))
        if self.maps is None:
            return
        try:
            self.maps.mkdir(parents=True, exist_ok=True)
            for place, indices in zip(given.index.tolist(), self.kind.maps_of(given).numpy(), strict=True):
                pictures.save_map(indices, classes, self.maps / f"{place}.png")
        except OSError as error:
            raise UserError(f"{self.maps}: cannot be written ({error.strerror or error})") from None

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: int) -> None:
        """Which samples come."""
        self.begin(batch.index)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: int) -> None:
        """Likewise."""
        self.begin(batch.index)

    def store(self, path: Path, about: dict[str, Any], title: str) -> None:
        """Write the file and its picture, and show the table of classes.

        Args:
            path: of the file; the picture's differs in its ending.
            about: see ``files.write``; the task is added.
            title: of the picture.
        """
        write(path, self.batches, about | {"task": self.task})
        display, picture = Display(), path.with_suffix(".png")
        self.kind.show(display, self.batches, about["class_names"])
        facts = {"predictions": escape(str(path))}
        if self.kind.draw(picture, self.batches, title):
            facts["calibration"] = escape(str(picture))
        if self.maps is not None:
            facts["maps"] = escape(f"{self.maps}/")
        display.facts(facts)


class KeptObjects(Kept):
    """The same of a detector, which collects by itself, until its metrics are computed."""

    of = Detection

    def __enter__(self) -> "Kept":
        """Nothing else has to tell."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing is to be undone."""

    def begin(self, index: Tensor) -> None:
        """What comes is collected."""

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: int) -> None:
        """What was collected of a batch; the masks that are there only where the network's are compared with them."""
        own = self.module.collected[-len(batch.index) :]
        if not isinstance(self.module, InstanceSegmentation):
            own = [(size, [_without_mask(one) for one in truth], found) for size, truth, found in own]
        self.batches.append({"index": batch.index.cpu()} | self.kind.rows(own, self.module.info["num_classes"]))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: int) -> None:
        """Likewise."""
        self.on_test_batch_end(trainer, pl_module, outputs, batch)


def _without_mask(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name != "segmentation"}
