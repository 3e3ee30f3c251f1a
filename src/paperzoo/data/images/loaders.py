"""Loaders: whole batches from memory, the DataLoader for what does not fit, a stream for what is not stored.

All give ``(images uint8 (B, C, H, W), labels (B,), draws (B, 3) or None, index (B,))`` and go on within an epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from paperzoo.data.images.augment import draws
from paperzoo.data.images.decoding import CorruptImage, Raw, channels, open_image, to_pixels
from paperzoo.data.images.stored import Split, Stream
from paperzoo.data.order import Order
from paperzoo.data.workers import signals_blocked, tie
from paperzoo.errors import RunError
from paperzoo.randomness import seed_of

Loaded = tuple[Tensor, Tensor, Tensor | None, Tensor]


class Key(NamedTuple):
    """One visit of a sample: what its random changes depend on, beside the seed."""

    epoch: int
    index: int  # type: ignore[assignment]  # not the method of tuples
    visit: int = 0  # how often the epoch has visited it before


def again_words(visit: int) -> tuple[int, ...]:
    """What a sample's visit adds to the words of its random numbers: its first in an epoch nothing."""
    return (visit,) if visit else ()


class Loader(ABC):
    """What the loaders share: an order, and a position in it that is part of the run's exact state."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.sampler = order  # where Lightning looks for set_epoch
        self.batch_sampler = None  # Lightning asks for it, to see whether evaluation is shuffled
        self._tables: dict[tuple[int, int], Tensor] = {}  # of this epoch

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Loaded]:
        for batch in self.batches():
            self.order.done += 1
            yield batch
        if self.order.seed is None:
            self.order.done = 0

    @abstractmethod
    def batches(self) -> Iterator[Loaded]:
        """The batches of the epoch from the order's position on."""

    def draws(self, index: Tensor, visits: Tensor) -> Tensor | None:
        """Random numbers (B, 3) of the images of a batch; None in evaluation.

        Args:
            index: of the images (B,).
            visits: how often the epoch has visited each before (B,): an image that comes twice is changed twice.
        """
        if self.order.seed is None:
            return None
        drawn = self._table(0)[index]
        for visit in range(1, int(visits.max()) + 1):
            again = visits == visit
            drawn[again] = self._table(visit)[index[again]]
        return drawn

    def _table(self, visit: int) -> Tensor:
        """The epoch's random numbers (N, 3), a row for each image."""
        order = self.order
        assert order.seed is not None
        key = (order.epoch, visit)
        if key not in self._tables:
            self._tables = {known: table for known, table in self._tables.items() if known[0] == order.epoch}
            self._tables[key] = draws(order.size, order.seed, order.epoch, *again_words(visit))
        return self._tables[key]


class MemoryLoader(Loader):
    """Batches by index from tensors in memory: no workers, no per-image work."""

    def __init__(self, images: Tensor, labels: Tensor, order: Order) -> None:
        super().__init__(order)
        self.images, self.labels = images, labels

    def batches(self) -> Iterator[Loaded]:
        """See ``Loader``."""
        for index, visits in self.order.visits():
            yield self.images[index], self.labels[index], self.draws(index, visits), index


class Decoder:
    """From a stored image to pixels (C, H, W) uint8; a training crop is drawn from (seed, epoch, row, visit) alone.

    Args:
        chans, size: of the pixels.
        crop_seed: of random resized crops; None takes the whole image.
        grey: that images are grey was seen on a sample of them: a coloured one must not lose its colours silently.
    """

    def __init__(self, chans: int, size: int, crop_seed: int | None, *, grey: bool) -> None:
        self.chans, self.size, self.grey = chans, size, grey
        self.crop = v2.RandomResizedCrop(size, antialias=True) if crop_seed is not None else None
        self.crop_seed = crop_seed or 0

    def __call__(self, raw: Raw, where: str, epoch: int, row: int, visit: int = 0) -> Tensor:
        """The pixels of an image.

        Raises:
            CorruptImage: it cannot be decoded.
            RunError: it is coloured where all are taken to be grey.
        """
        image = open_image(raw)
        if self.grey and channels(image) == 3:
            raise RunError(f"{where}: is coloured, the images looked at before were grey; set data.in_chans=3")
        if self.crop is None:
            return torch.from_numpy(to_pixels(image, self.chans, self.size))
        pixels = torch.from_numpy(to_pixels(image, self.chans, None))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("crop", self.crop_seed, epoch, row, *again_words(visit)))
            return self.crop(pixels)


def refusal(where: str, error: CorruptImage) -> str:
    """The line for a corrupt image, or a missing one."""
    return f"{where}: {error}; {error.advice}, or set data.on_error=skip to leave such images out"


class Decoded(Dataset[tuple[Tensor, int, int, int] | str]):
    """Images decoded one by one in a worker; what is wrong with one comes as a line, since an error would not."""

    def __init__(self, split: Split, rows: np.ndarray, decoder: Decoder) -> None:
        self.split, self.rows, self.decoder = split, rows, decoder

    def __getitem__(self, key: Key) -> tuple[Tensor, int, int, int] | str:
        epoch, index, visit = key
        row = int(self.rows[index])
        where = self.split.where(row)
        try:
            pixels = self.decoder(self.split.read(row), where, epoch, index, visit)
            if self.split.planes:
                pixels = torch.from_numpy(self.split.labelled(row, pixels.numpy()))
            return pixels, int(self.split.labels[row]), index, visit
        except CorruptImage as error:
            return refusal(where, error)
        except RunError as error:
            return str(error)


def collate(items: list[Any]) -> Any:
    """A batch, or the line of the first image that could not be read."""
    line = next((item for item in items if isinstance(item, str)), None)
    return line if line is not None else default_collate(items)


class Keyed:
    """An order as torch's DataLoader wants it: lists of keys, which tell a worker all that randomness depends on."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def __iter__(self) -> Iterator[list[Key]]:
        for index, visits in self.order.visits():
            yield [Key(self.order.epoch, *place) for place in zip(index.tolist(), visits.tolist(), strict=True)]

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
            collate_fn=collate,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=tie,
            generator=torch.Generator(),  # or torch draws the workers' seed from the run's own generator
        )

    def batches(self) -> Iterator[Loaded]:
        """See ``Loader``."""
        with signals_blocked():
            iterator = iter(self.loader)
        for batch in iterator:
            if isinstance(batch, str):
                raise RunError(batch)
            images, labels, index, visits = batch
            yield images, labels, self.draws(index, visits), index


def row_name(name: str, row: int) -> str:
    """How messages name an image of a stream."""
    return f"{name}, row {row} of the stream"


class StreamLoader(Loader):
    """Images in the order of a stream, shuffled within a buffer; what an interrupted epoch has seen is read again.

    The order says which places of the stream make up a batch. A corrupt image that is to be skipped leaves its batch
    smaller, so that all ranks keep in step.

    Args:
        stream: of all images.
        skip: images at its beginning that are held out.
        order: of places, not permuted.
        decode: pixels of (image, where, epoch, row), or None for one that is skipped.
        name: of the data, for messages.
        skipped: collects the rows that were skipped.
    """

    def __init__(
        self,
        stream: Stream,
        skip: int,
        order: Order,
        decode: Callable[[Raw, str, int, int], Tensor | None],
        name: str,
        skipped: set[int],
    ) -> None:
        super().__init__(order)
        self.stream, self.skip, self.decode, self.name, self.skipped = stream, skip, decode, name, skipped

    def batches(self) -> Iterator[Loaded]:
        """See ``Loader``.

        Raises:
            RunError: the stream ends too early, or a batch has no image that can be read.
        """
        seed = None if self.order.seed is None else seed_of("stream", self.order.seed, self.order.epoch)
        rows = enumerate(self.stream.rows(self.skip, self.order.size, seed))
        for places in self.order:
            yield self._batch(rows, int(places[0]), int(places[-1]))

    def _batch(self, rows: Iterator[tuple[int, tuple[int, Raw, int]]], first: int, last: int) -> Loaded:
        """Read on to the places from ``first`` to ``last``."""
        images: list[Tensor] = []
        labels, taken = [], []
        place = -1
        for place, (row, raw, label) in rows:
            if place >= first:
                pixels = self.decode(raw, self._where(row), self.order.epoch, row)
                if pixels is None:
                    self.skipped.add(row)
                else:
                    images.append(pixels)
                    labels.append(label)
                    taken.append(row)
            if place == last:
                break
        if place < last:
            raise RunError(
                f"{self.name}: the stream ends before its row {self.skip + self.order.size - 1}; lower data.limit_train"
            )
        if not images:
            raise RunError(
                f"{self.name}: none of the {last - first + 1} images of a batch can be read, the last of them is "
                f"{self._where(row)}; mend the data or raise data.batch_size"
            )
        return torch.stack(images), torch.tensor(labels), self._draws_of(taken), torch.tensor(taken)

    def _where(self, row: int) -> str:
        return row_name(self.name, row)

    def _draws_of(self, rows: list[int]) -> Tensor | None:
        order = self.order
        if order.seed is None:
            return None
        return torch.stack([draws(1, order.seed, order.epoch, row)[0] for row in rows])
