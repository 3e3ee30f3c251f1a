"""Detection of objects: boxes, and with instance segmentation their masks, judged by COCO's average precision.

A network has ``losses(images, image_sizes, targets)``, a dictionary of means over a batch, and ``detect(images,
image_sizes, ...)``, for each image ``boxes`` (D, 4), ``scores`` (D,), ``labels`` (D,) and, where it segments, ``masks``
(D, h, w) of probabilities inside of the boxes. Targets are ``data.detection``'s.
"""

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import timm
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from paperzoo.data.interface import Batch
from paperzoo.detection.coco_ap import BOX, DEFAULT, MASK, judge
from paperzoo.detection.curves import OfSplit, precision_recall, write
from paperzoo.detection.masks import encode_rle, paste
from paperzoo.detection.pictures import beside_truth
from paperzoo.distributed import gather
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.tasks.task import Task

OF_DETECT = ("score_threshold", "nms_threshold", "max_detections", "mask_stages")  # options that are no network's
DRAWN, SHOWN = 5, 0.5  # images that are drawn, and the score from which on a detection is
RECORDED = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # of COCO's figures


class Detection(Task):
    """A network that finds boxes.

    Options of the model named in ``OF_DETECT`` are given to ``detect`` where they are not None, over the network's own
    (``detecting``); all others are the network's.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("box_ap", percent=True, label="box AP"),
        Metric("box_ap50", percent=True, label="box AP at IoU 0.5"),
        Metric("box_ap75", percent=True, label="box AP at IoU 0.75"),
    )
    kinds: ClassVar[dict[str, str]] = {"box": BOX}  # of AP, by the start of a metric's name

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        model = self.hparams["model"]
        own = {name: model[name] for name in OF_DETECT if model.get(name) is not None}
        self.detecting = {**getattr(self.network, "detecting", {}), **own}
        self.collected: list[tuple[tuple[int, int], list[dict[str, Any]], list[dict[str, Any]]]] = []
        self.tested: OfSplit | None = None  # the last pass over the test split

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """See ``build_network``; options that are None are left out."""
        own = {name: value for name, value in options.items() if name not in OF_DETECT and value is not None}
        return self.build_network(num_classes=self.info["num_classes"], **own)

    def build_network(self, network: str, num_classes: int, **options: Any) -> nn.Module:
        """A detector from timm's registry."""
        importlib.import_module(f"paperzoo.papers.{self.hparams['model']['name']}")  # it registers its networks
        return timm.create_model(network, num_classes=num_classes, **options)

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """An image as large as the first test image: what a network's ``forward`` does is counted."""
        return (torch.zeros(1, self.info["in_chans"], *data.example_size()),)

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The network's.

        Raises:
            UserError: a stage weighs samples, whose losses a detector does not tell apart.
        """
        if batch.weights is not None:
            name = self.hparams["model"]["name"]
            raise UserError(f"model={name}: its losses are of a batch; samples cannot be weighted")
        images = batch.inputs.contiguous(memory_format=self.memory_format)
        return self.network.losses(images, sizes_of(batch), [self._typed(one) for one in batch.targets])

    def _typed(self, target: dict[str, Any]) -> dict[str, Any]:
        """Boxes in the weights' precision."""
        return {**target, "boxes": target["boxes"].to(next(self.network.parameters()).dtype)}

    def evaluate(self, batch: Batch) -> None:
        """Detect, and keep what was found and what is there, at the stored size."""
        images = batch.inputs.contiguous(memory_format=self.memory_format)
        every = self.network.detect(images, sizes_of(batch), **self.detecting)
        for found, target in zip(every, batch.targets, strict=True):
            original = tuple(target["original"])
            results = self.results_of(at_size(found, target["size"], original), original)
            self.collected.append((original, target["truth"], results))

    def results_of(self, found: dict[str, Tensor], size: tuple[int, int]) -> list[dict[str, Any]]:
        """Detections of an image of (height, width) in COCO's form."""
        boxes = found["boxes"].double()
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        rows = zip(boxes.tolist(), found["scores"].double().tolist(), found["labels"].tolist(), strict=True)
        return [{"bbox": box, "score": score, "category_id": label} for box, score, label in rows]

    def compute(self, split: str) -> dict[str, float]:
        """COCO's figures over all ranks: AP, at IoU 0.5 and 0.75, of small, medium and large objects."""
        every = [one for part in gather(self.collected) for one in part]
        self.collected = []
        images, truth, found = (list(part) for part in zip(*every, strict=True))
        results: dict[str, float] = {}
        curves = {}
        for name, kind in self.kinds.items():
            judged = judge(images, truth, found, self.info["num_classes"], kind, self.info.get("evaluator", DEFAULT))
            curves[name] = judged.precision
            kept = {key: value for key, value in judged.figures.items() if key in RECORDED and not math.isnan(value)}
            results |= {f"{name}_{key}": value for key, value in kept.items()}
        if split == "test":
            self.tested = OfSplit(curves, truth, found)
        return results

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """Curves of precision and recall, with the tables of both, and predictions beside the truth."""
        names = self.info["class_names"]
        if self.tested is not None:
            if self.place.folder is not None:
                write(self.place.folder, self.tested, names)
            for kind, precision in self.tested.curves.items():
                yield f"precision_recall_{kind}", precision_recall(precision, names)
        examples = data.examples(DRAWN)
        if not examples:
            return
        training = self.training
        self.eval()
        images, truth, found = [], [], []
        for pixels, target in examples:
            batch = data.normalise(data.pad([pixels]).to(self.device), [target])
            (own,) = self.network.detect(batch, [target["size"]], **self.detecting)
            kept = own["scores"] >= SHOWN
            own = {name: value[kept].cpu() for name, value in own.items()}
            if "masks" in own:
                own["masks"] = paste(own["masks"], own["boxes"], target["size"])
            images.append(pixels.permute(1, 2, 0).numpy())
            truth.append({name: target[name] for name in own if name in target})
            found.append(own)
        self.train(training)
        yield "predictions", beside_truth(images, truth, found, names)


class InstanceSegmentation(Detection):
    """A network that finds boxes and masks."""

    metrics: ClassVar = (
        Metric("mask_ap", percent=True, label="mask AP"),
        Metric("mask_ap50", percent=True, label="mask AP at IoU 0.5"),
        Metric("mask_ap75", percent=True, label="mask AP at IoU 0.75"),
        *Detection.metrics,
    )
    kinds: ClassVar = {"mask": MASK, "box": BOX}

    def results_of(self, found: dict[str, Tensor], size: tuple[int, int]) -> list[dict[str, Any]]:
        """With compressed codes of the masks."""
        codes = encode_rle(paste(found["masks"], found["boxes"], size))
        return [{**one, "segmentation": code} for one, code in zip(super().results_of(found, size), codes, strict=True)]


def sizes_of(batch: Batch) -> list[tuple[int, int]]:
    """(height, width) of the images before padding."""
    return [tuple(target["size"]) for target in batch.targets]


def at_size(found: dict[str, Tensor], size: tuple[int, int], original: tuple[int, int]) -> dict[str, Tensor]:
    """Detections in an image of (height, width) ``size``, as they are in the stored one of ``original``."""
    ratio = found["boxes"].new_tensor([original[1] / size[1], original[0] / size[0]] * 2)
    return {**found, "boxes": found["boxes"] * ratio}
