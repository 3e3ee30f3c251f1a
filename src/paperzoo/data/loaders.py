"""Loaders: whole batches from memory, the DataLoader for what does not fit, a stream for what is not stored.

All give ``(images uint8 (B, C, H, W), labels (B,), draws (B, 3) or None)`` and go on in the middle of an epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from paperzoo.data.augment import draws
from paperzoo.data.images import CorruptImage, open_image, to_pixels
from paperzoo.data.order import Order
from paperzoo.data.sources import Split, Stream
from paperzoo.errors import RunError
from paperzoo.randomness import generator, seed_of

Batch = tuple[Tensor, Tensor, Tensor | None]


class Loader(ABC):
    """What the loaders share: an order, and a position in it that is part of the run's exact state."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.sampler = order  # where Lightning looks for set_epoch
        self.batch_sampler = None  # Lightning asks for it, to see whether evaluation is shuffled

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches():
            self.order.done += 1
            yield batch
        if self.order.seed is None:
            self.order.done = 0

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """The batches of the epoch from the order's position on."""

    def draws(self) -> Tensor | None:
        """The epoch's table of random numbers, a row for each image; None in evaluation."""
        order = self.order
        return None if order.seed is None else draws(order.size, order.seed, order.epoch)


class MemoryLoader(Loader):
    """Batches by index from tensors in memory: no workers, no per-image work."""

    def __init__(self, images: Tensor, labels: Tensor, order: Order) -> None:
        super().__init__(order)
        self.images, self.labels = images, labels

    def batches(self) -> Iterator[Batch]:
        """See ``Loader``."""
        table = self.draws()
        for index in self.order:
            yield self.images[index], self.labels[index], None if table is None else table[index]


class Decoded(Dataset[tuple[Tensor, int, int]]):
    """Images decoded one by one in a worker; a training crop is drawn from (seed, epoch, index) alone."""

    def __init__(self, split: Split, rows: np.ndarray, chans: int, size: int | None, crop_seed: int | None) -> None:
        self.split, self.rows = split, rows
        self.chans, self.size = chans, size
        self.crop = v2.RandomResizedCrop(size, antialias=True) if crop_seed is not None and size else None
        self.crop_seed = crop_seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int]:
        epoch, index = key
        row = int(self.rows[index])
        try:
            image = open_image(self.split.read(row))
        except CorruptImage as error:
            raise RunError(f"{self.split.where(row)}: {error}; remove it, or set data.on_error=skip") from None
        if self.crop is None:
            return torch.from_numpy(to_pixels(image, self.chans, self.size)), int(self.split.labels[row]), index
        pixels = torch.from_numpy(to_pixels(image, self.chans, None))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("crop", self.crop_seed or 0, epoch, index))
            return self.crop(pixels), int(self.split.labels[row]), index


class Keyed:
    """An order as torch's DataLoader wants it: lists of keys, each with the epoch, so that workers know it."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.order:
            yield [(self.order.epoch, index) for index in batch.tolist()]

    def __len__(self) -> int:
        return len(self.order)


class DecodingLoader(Loader):
    """torch's DataLoader over images that are decoded as they come."""

    def __init__(self, dataset: Decoded, order: Order, workers: int) -> None:
        super().__init__(order)
        self.loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=Keyed(order),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # or torch draws the workers' seed from the run's own generator
        )

    def batches(self) -> Iterator[Batch]:
        """See ``Loader``."""
        table = self.draws()
        for images, labels, index in self.loader:
            yield images, labels, None if table is None else table[index]


class StreamLoader(Loader):
    """Images in the order of a stream, shuffled within a buffer; what an interrupted epoch has seen is read again."""

    def __init__(
        self, stream: Stream, skip: int, order: Order, decode: Callable[[Any, str], np.ndarray | None], name: str
    ) -> None:
        super().__init__(order)
        self.stream, self.skip = stream, skip
        self.decode = decode
        self.name = name

    def batches(self) -> Iterator[Batch]:
        """See ``Loader``: rank r takes every image whose number in the stream leaves the rest r."""
        order, images, labels = self.order, [], []
        seed = None if order.seed is None else seed_of("stream", order.seed, order.epoch)
        skip_batches, given = order.done, 0
        for number, (raw, label) in enumerate(self.stream.rows(self.skip, order.size, seed)):
            if number % order.ranks != order.rank:
                continue
            pixels = self.decode(raw, f"{self.name}, row {number} of the stream")
            if pixels is None:
                continue
            images.append(torch.from_numpy(pixels))
            labels.append(label)
            if len(images) == order.batch_size:
                if given >= skip_batches:
                    yield self._batch(images, labels, given)
                images, labels, given = [], [], given + 1
        if images and not order.drop_last and given < len(order):
            yield self._batch(images, labels, given)

    def _batch(self, images: list[Tensor], labels: list[int], number: int) -> Batch:
        order = self.order
        table = None
        if order.seed is not None:
            table = torch.rand(
                len(images), 3, generator=generator("augment", order.seed, order.epoch, number, order.rank)
            )
        return torch.stack(images), torch.tensor(labels), table
