"""The data of a detection run: splits, changes of training images, batches on the device."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paperzoo.config import build
from paperzoo.data.detection.grouping import grouped_sequence, wider
from paperzoo.data.detection.samples import Sample, Source, Split
from paperzoo.data.detection.schema import DetectionOptions
from paperzoo.data.detection.transforms import flip, padded, resize, scaled_size
from paperzoo.data.fingerprint import fingerprint
from paperzoo.data.images.decoding import CorruptImage
from paperzoo.data.images.loaders import Key, Keyed, Loader, again_words, refusal
from paperzoo.data.interface import Batch, RunData, sequence_of
from paperzoo.data.order import Order
from paperzoo.data.workers import signals_blocked, tie
from paperzoo.detection.masks import encode_rle
from paperzoo.errors import RunError, UserError
from paperzoo.randomness import generator


class DetectionData(RunData):
    """Images with boxes, classes and masks.

    A batch's ``inputs`` are images (B, 3, H, W), normalised, padded with zeros at the right and at the bottom. Its
    ``targets`` are a dictionary for each image: ``boxes`` (G, 4) in pixels of the resized image, ``labels`` (G,) from
    0, ``masks`` (G, h, w) bool, ``semantic`` (h, w) where the data has maps, ``size`` (h, w) before padding. In
    training crowds are left out. In evaluation there are also ``original``, the stored (height, width), and
    ``truth``, all annotations in COCO's form at the stored size.

    After ``setup`` ``class_names`` and ``stuff_names``, and what ``RunData`` says.
    """

    def __init__(self, config: DetectionOptions, **places: Any) -> None:
        super().__init__(config, **places)
        self.parts: dict[str, tuple[Split, np.ndarray]] = {}
        self._left_out: dict[str, list[str]] = {}  # corrupt images, by split

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations and split. A second call does nothing.

        Raises:
            UserError: data is missing, malformed, or too little to be split as configured.
        """
        if self.parts:
            return
        self.source: Source = build(self.config.source, self.config, self.data_dir)
        self.class_names, self.stuff_names = self.source.classes, self.source.stuff
        self.parts = self._split()
        if self.config.on_error == "skip":
            self._skip_corrupt()
        self.sizes = {name: len(rows) for name, (_, rows) in self.parts.items()}
        if empty := [name for name, size in self.sizes.items() if not size]:
            left_out = len(self._left_out.get(empty[0], ()))
            corrupt = f" besides {left_out} that cannot be read" if left_out else ""
            raise UserError(f"data={self.config.name}: there is no image of {empty[0]}{corrupt}")
        if self.sizes["train"] < self.config.batch_size * self.world_size and self.config.drop_last:
            raise UserError(
                f"data.batch_size={self.config.batch_size} on {self.world_size} rank(s): is more than the "
                f"{self.sizes['train']} training images, and data.drop_last=true would drop them"
            )

    def _split(self) -> dict[str, tuple[Split, np.ndarray]]:
        config, source = self.config, self.source
        rows = np.arange(len(source.train))
        parts = {}
        for name, own in (("val", source.val), ("test", source.test)):
            if own is not None:
                parts[name] = (own, np.arange(len(own)))
                continue
            amount = config.validation
            count = round(amount * len(rows)) if amount and amount < 1 else int(amount or 0)
            if not 0 < count < len(rows):
                raise UserError(
                    f"data.validation={amount}: of {len(rows)} images, between 1 and {len(rows) - 1} can be held out"
                )
            order = np.random.default_rng(config.split_seed).permutation(len(rows))
            parts[name] = (source.train, np.sort(rows[order[:count]]))
            rows = np.sort(rows[order[count:]])
        if config.limit_train and config.limit_train < len(rows):
            order = np.random.default_rng([config.split_seed, 1]).permutation(len(rows))
            rows = np.sort(rows[order[: config.limit_train]])
        return {"train": (source.train, rows), **parts}

    def _skip_corrupt(self) -> None:
        """Leave out images that cannot be read, which are found by reading all."""
        for name, (split, rows) in self.parts.items():
            kept = {row for row in rows.tolist() if _readable(split, row)}
            self._left_out[name] = [split.where(row) for row in rows.tolist() if row not in kept]
            self.parts[name] = (split, np.array(sorted(kept), dtype=np.int64))

    # what it is

    @cached_property
    def fingerprint(self) -> str:
        """Of images, annotations, classes and split."""
        parts: list[Any] = ["detection", *self.class_names, *self.stuff_names]
        for name, (split, rows) in self.parts.items():
            parts += [name, fingerprint(split.content(rows.tolist()))]
        return fingerprint(parts)

    @property
    def info(self) -> dict[str, Any]:
        """What a network is built from."""
        config = self.config
        return {
            "num_classes": len(self.class_names),
            "in_chans": 3,
            "class_names": list(self.class_names),
            "stuff_classes": len(self.stuff_names),
            "mean": list(config.mean),
            "std": list(config.std),
            "evaluator": config.evaluator,
        }

    @property
    def description(self) -> str:
        """One line for the summary."""
        counts = ", ".join(f"{size:,} {name}" for name, size in self.sizes.items())
        wrong = sum(map(len, (self.source.problems or {}).values()))
        left_out = f", {wrong:,} malformed annotations left out" if wrong else ""
        return f"{self.config.name} ({counts}; {len(self.class_names)} classes{left_out})"

    @property
    def skipped(self) -> dict[str, int]:
        """Malformed annotations by split and kind, and corrupt images by split."""
        return {name: len(found) for name, found in self.skipped_names().items()}

    def skipped_names(self) -> dict[str, list[str]]:
        """The malformed annotations and the corrupt images."""
        return {**(self.source.problems or {}), **self._left_out}

    @property
    def equal_batches(self) -> bool:  # type: ignore[override]
        """Whether all ranks train on batches of one size."""
        return self.config.drop_last

    def example_size(self) -> tuple[int, int]:
        """(height, width) of the first test image as the network sees it."""
        split, rows = self.parts["test"]
        height, width = scaled_size(split.size(int(rows[0])), evaluated_at(self.config), self.config.longer)
        pixels = self.pad([torch.zeros(3, height, width)])
        return pixels.shape[2], pixels.shape[3]

    # loaders

    def train_dataloader(self) -> "DetectionLoader":
        """The training batches of this rank, from where a resumed run stopped."""
        return self.order_of(self._loader("train", self.config.batch_size, train=True))

    def val_dataloader(self) -> "DetectionLoader":
        """Every validation image once over the ranks."""
        return self._loader("val", self.config.eval_batch_size, train=False)

    def test_dataloader(self) -> "DetectionLoader":
        """Every test image once over the ranks."""
        return self._loader("test", self.config.eval_batch_size, train=False)

    def examples(self, count: int) -> list[tuple[Tensor, dict[str, Any]]]:
        """Images (3, h, w) uint8 of the test split and their targets, evenly spaced; without those that are corrupt."""
        dataset = self.test_dataloader().dataset
        rows = np.unique(np.linspace(0, self.sizes["test"] - 1, count).astype(int))
        found = [dataset[Key(0, int(row))] for row in rows]
        return [one[:2] for one in found if not isinstance(one, str)]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """On the device: normalise; what is padding stays zero."""
        images, targets, index, training = batch
        return Batch(self.normalise(images, targets), targets, index, self.weights_of(index) if training else None)

    def pad(self, images: list[Tensor]) -> Tensor:
        """Images (3, h, w) in one batch."""
        return padded(images, self.config.divisor)

    def normalise(self, images: Tensor, targets: list[dict[str, Any]]) -> Tensor:
        """(B, 3, H, W) uint8 -> float."""
        double = self.trainer is not None and self.trainer.precision == "64-true"
        dtype = torch.float64 if double else torch.float32
        mean, std = (torch.tensor(v, dtype=dtype, device=images.device) for v in (self.config.mean, self.config.std))
        pixels = (images.to(dtype) / 255 - mean[:, None, None]) / std[:, None, None]
        for image, target in zip(pixels, targets, strict=True):
            height, width = target["size"]
            image[:, height:] = 0
            image[:, :, width:] = 0
        return pixels

    def _loader(self, name: str, batch_size: int, *, train: bool) -> "DetectionLoader":
        split, rows = self.parts[name]
        visits = sequence_of(self, len(rows), None) if train else {}
        if train and self.config.group_by_aspect:
            visits["sequence"], visits["length"] = grouped_sequence(
                **visits, groups=wider(split, rows.tolist()), size=self.config.batch_size * self.world_size
            )
        order = Order(
            len(rows),
            batch_size,
            seed=self.seed if train else None,
            rank=self.rank,
            ranks=self.world_size,
            drop_last=train and self.config.drop_last,
            **visits,
        )
        dataset = Samples(split, rows, self.config, self.seed if train else None)
        return DetectionLoader(dataset, order, self.config.workers, self.config.divisor)


class Samples(Dataset[Any]):
    """Images and targets one by one; in training changed by numbers that seed and key alone decide."""

    def __init__(self, split: Split, rows: np.ndarray, config: DetectionOptions, seed: int | None) -> None:
        self.split, self.rows, self.config, self.seed = split, rows, config, seed

    def __getitem__(self, key: Key) -> Any:
        """Image, target and index, or the line of what is wrong."""
        index = key.index
        row = int(self.rows[index])
        try:
            sample = self.split.read(row)
        except CorruptImage as error:
            return refusal(self.split.where(row), error)
        if self.seed is None:
            return (*self._evaluated(sample, index), index)
        return (*self._trained(sample, key), index)

    def _trained(self, sample: Sample, key: Key) -> tuple[Tensor, dict[str, Any]]:
        assert self.seed is not None
        random = generator("detection", self.seed, key.epoch, key.index, *again_words(key.visit))
        draws = torch.rand(2, generator=random).tolist()
        choices = self.config.shorter
        shorter = choices[min(int(draws[0] * len(choices)), len(choices) - 1)] if choices else None
        image, target = _tensors(sample, ~sample.crowd)
        size = (image.shape[1], image.shape[2])
        image, target = resize(image, target, scaled_size(size, shorter, self.config.longer))
        if draws[1] < self.config.flip:
            image, target = flip(image, target)
        return image, {**target, "size": (image.shape[1], image.shape[2])}

    def _evaluated(self, sample: Sample, index: int) -> tuple[Tensor, dict[str, Any]]:
        shorter = evaluated_at(self.config)
        image, target = _tensors(sample, np.ones(len(sample.crowd), bool))
        original = (image.shape[1], image.shape[2])
        image, target = resize(image, target, scaled_size(original, shorter, self.config.longer))
        size = (image.shape[1], image.shape[2])
        return image, {**target, "size": size, "original": original, "truth": annotations(sample)}


def evaluated_at(config: DetectionOptions) -> int | None:
    """Pixels of the shorter side in evaluation: the largest that training draws."""
    return max(config.shorter) if config.shorter else None


def _tensors(sample: Sample, kept: np.ndarray) -> tuple[Tensor, dict[str, Any]]:
    target = {
        "boxes": torch.from_numpy(sample.boxes[kept]),
        "labels": torch.from_numpy(sample.labels[kept]),
        "masks": torch.from_numpy(sample.masks[kept]),
    }
    if sample.semantic is not None:
        target["semantic"] = torch.from_numpy(np.ascontiguousarray(sample.semantic))
    return torch.from_numpy(np.ascontiguousarray(sample.image)), target


def annotations(sample: Sample) -> list[dict[str, Any]]:
    """A sample's objects in COCO's form: ``bbox`` x, y, width, height; compressed codes of masks."""
    boxes = sample.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"bbox": box, "category_id": label, "iscrowd": int(crowd), "area": area, "segmentation": code}
        for box, label, crowd, area, code in zip(
            boxes.tolist(),
            sample.labels.tolist(),
            sample.crowd.tolist(),
            sample.areas.tolist(),
            encode_rle(sample.masks),
            strict=True,
        )
    ]


def _readable(split: Split, row: int) -> bool:
    try:
        split.read(row)
    except CorruptImage:
        return False
    return True


class DetectionLoader(Loader):
    """Batches of padded images, their targets, their indices, and whether they are training's.

    Args:
        dataset: of samples.
        order: which make up a batch.
        workers: processes that read them.
        divisor: sides of a batch are multiples of it.
    """

    def __init__(self, dataset: Samples, order: Order, workers: int, divisor: int) -> None:
        super().__init__(order)
        self.dataset, self.divisor = dataset, divisor
        self.loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=Keyed(order),
            num_workers=workers,
            collate_fn=list,
            persistent_workers=workers > 0,
            worker_init_fn=tie,
            generator=torch.Generator(),  # or torch draws the workers' seed from the run's own generator
        )

    def batches(self) -> Iterator[Any]:
        """See ``Loader``.

        Raises:
            RunError: an image cannot be read.
        """
        with signals_blocked():
            iterator = iter(self.loader)
        for items in iterator:
            wrong = next((item for item in items if isinstance(item, str)), None)
            if wrong:
                raise RunError(wrong)
            images, targets, index = zip(*items, strict=True)
            yield padded(list(images), self.divisor), list(targets), torch.tensor(index), self.order.seed is not None
