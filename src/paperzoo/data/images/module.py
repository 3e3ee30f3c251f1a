"""The data of a run: splits, decoding, batches on the device."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from paperzoo.config import build
from paperzoo.data import splits
from paperzoo.data.fingerprint import WHOLE, digest_of_images, fingerprint
from paperzoo.data.images.augment import Normalise, crop_and_flip
from paperzoo.data.images.decoding import CorruptImage, channels, channels_of_header, open_image, to_pixels
from paperzoo.data.images.loaders import (
    Decoded,
    Decoder,
    DecodingLoader,
    Key,
    Loader,
    MemoryLoader,
    StreamLoader,
    collate,
    refusal,
    row_name,
)
from paperzoo.data.images.maps import Mapped, take_apart
from paperzoo.data.images.rows import SplitRows, moments, readable, spread
from paperzoo.data.images.schema import ImageOptions
from paperzoo.data.images.stored import Source
from paperzoo.data.interface import Batch, RunData, sequence_of
from paperzoo.data.order import Order
from paperzoo.distributed import gather
from paperzoo.errors import RunError, UserError

SHARE_OF_MEMORY = 4  # data is kept in memory if it takes less than this part of what is free
SAMPLE = 2000  # images that mean and std are measured on where data is not in memory
CHUNK = 256  # images that a thread decodes at a time


class Coloured(Exception):
    """An image has colours where those looked at before were grey."""


class ImageData(RunData):
    """Image classification data. Random numbers belong to the sample: they are functions of (seed, epoch, image).

    After ``setup``: ``num_classes``, ``in_chans``, ``image_size``, ``class_names``, ``sizes``, ``skipped``,
    ``mean``, ``std``, ``fingerprint``, ``description``.

    Args:
        config: the data group.
        data_dir: where data sets are looked for.
        seed: of order and augmentation.
        rank, world_size: which part of a global batch this process takes.
    """

    def __init__(self, config: ImageOptions, **places: Any) -> None:
        super().__init__(config, **places)
        self.parts: dict[str, SplitRows] = {}
        self._left_out: dict[str, list[str]] = {}  # corrupt images, by split
        self._skipped_rows: dict[str, set[int]] = {"train": set(), "val": set()}  # those that were met in a stream

    def setup(self, stage: str | None = None) -> None:
        """Load, split, decode. A second call does nothing.

        Raises:
            UserError: data is missing, corrupt or cannot be split as configured; the line names where.
        """
        if self.parts:
            return
        self.source: Source = build(self.config.source, self.config, self.data_dir)
        self.class_names = self.source.classes
        self.num_classes = len(self.class_names)
        self._check_labels()
        self.parts = self._split()
        self._left_out = {name: [] for name in self.parts}
        self._look_at_first()
        self.in_memory = self._fits()
        if self.in_memory:
            self.image_size = self.config.image_size or self._common_size()
            self._decode_all()
        else:
            self._need_image_size()
            if self.config.on_error == "skip":
                self._skip_corrupt()
        self.sizes = {name: len(part) for name, part in self.parts.items()}
        if self.source.stream:
            held_out = self._held_out_of_stream
            self.sizes |= {"train": self.source.stream.length - held_out, "val": held_out}
        self._check_sizes()
        self.mean, self.std = self._moments()

    # what it is

    @cached_property
    def fingerprint(self) -> str:
        """Of the stored images, labels, classes and split; equal wherever the data lies, and however it is read."""
        whole = sum(int(part.split.sizes(part.rows).sum()) for part in self.parts.values()) <= WHOLE
        content: list[Any] = ["images", *self.class_names, self.in_chans, self.image_size]
        for name, part in self.parts.items():
            stored = (part.split.stored(int(row)) for row in part.rows)
            content += [name, part.labels, digest_of_images(stored, whole=whole)]
            if isinstance(part.split, Mapped):
                maps = (part.split.maps.stored(int(row)) for row in part.rows)
                content.append(digest_of_images(maps, whole=whole))
        if self.source.stream:
            content += [self._held_out_of_stream, self.source.version()]
        return fingerprint(content)

    @property
    def info(self) -> dict[str, Any]:
        """What a network is built from."""
        return {
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
            "image_size": self.image_size,
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "samples": self.sizes["train"],
        }

    @property
    def description(self) -> str:
        """One line for the summary."""
        counts = ", ".join(f"{size:,} {name}" for name, size in self.sizes.items())
        kept = "in memory" if self.in_memory else "streamed" if self.source.stream else "decoded as they come"
        size = f"{self.image_size}x{self.image_size}x{self.in_chans}"
        return f"{self.config.name} ({counts}; {size}, {self.num_classes} classes, {kept})"

    def tensors(self, name: str) -> tuple[Tensor, Tensor]:
        """A split in memory: images (N, C, H, W) uint8, maps among their planes, and labels (N,)."""
        part = self.parts[name]
        assert part.images is not None
        return torch.from_numpy(part.images), torch.from_numpy(part.labels)

    def examples(self, count: int) -> Tensor:
        """Images (N, C, H, W) uint8 of the test split with their maps, evenly spaced."""
        loader = self.test_dataloader()
        rows = np.unique(np.linspace(0, self.sizes["test"] - 1, count).astype(int)).tolist()
        if isinstance(loader, MemoryLoader):
            return loader.images[rows]
        assert isinstance(loader, DecodingLoader)
        return collate([loader.loader.dataset[Key(0, row)] for row in rows])[0]

    # loaders

    @property
    def equal_batches(self) -> bool:  # type: ignore[override]
        """Whether all ranks train on batches of one size."""
        return self.config.drop_last and not self.config.is_stream

    def train_dataloader(self) -> Loader:
        """The training batches of this rank, from where a resumed run stopped."""
        return self.order_of(self._loader("train", self.config.batch_size, train=True))

    def plain_train_dataloader(self) -> Loader:
        """Every training image once over the ranks, in order and without augmentation."""
        if self.source.stream:
            return super().plain_train_dataloader()
        return self._loader("train", self.config.eval_batch_size, train=False)

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data, and what a stream has left out so far."""
        state = super().state_dict()
        if self.config.is_stream and self.config.on_error == "skip":
            self.count_skipped()
            state["skipped"] = {name: sorted(rows) for name, rows in self._skipped_rows.items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the loader is made."""
        super().load_state_dict(state_dict)
        for name, rows in state_dict.get("skipped", {}).items():
            self._skipped_rows[name].update(rows)

    def val_dataloader(self) -> Loader:
        """Every validation image once over the ranks."""
        return self._loader("val", self.config.eval_batch_size, train=False)

    def test_dataloader(self) -> Loader:
        """Every test image once over the ranks."""
        return self._loader("test", self.config.eval_batch_size, train=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """On the device: augment (in training) and normalise.

        Gives images (B, C, H, W) float and labels (B,), or (B, H, W) where images have maps, with their indices.
        """
        images, labels, uniform, index = batch
        if uniform is not None:
            images = crop_and_flip(images, uniform, self.config.augment)
        if self.source.train.planes:
            images, labels = take_apart(images)
        return Batch(self._normalise(images), labels, index, self.weights_of(index) if uniform is not None else None)

    @cached_property
    def _normalise(self) -> Normalise:
        double = self.trainer is not None and self.trainer.precision == "64-true"
        return Normalise(self.mean, self.std, torch.float64 if double else torch.float32)

    def _loader(self, name: str, batch_size: int, *, train: bool) -> Loader:
        part = self.parts[name]
        order = Order(
            self.sizes[name],
            batch_size,
            seed=self.seed if train else None,
            rank=self.rank,
            ranks=self.world_size,
            drop_last=train and self.config.drop_last,
            **(self._sequence() if train else {}),
        )
        if part.images is not None:
            return MemoryLoader(*self.tensors(name), order)
        crop_seed = self.seed if train and self.config.augment.resized_crop else None
        grey = self.config.in_chans is None and self.in_chans == 1
        decoder = Decoder(self.in_chans, self.image_size, crop_seed, grey=grey)
        if self.source.stream and name != "test":
            skip = self._held_out_of_stream if train else 0
            decode = partial(self._streamed, decoder)
            return StreamLoader(self.source.stream, skip, order, decode, self.config.name, self._skipped_rows[name])
        return DecodingLoader(Decoded(part.split, part.rows, decoder), order, self.config.workers)

    def _sequence(self) -> dict[str, Any]:
        """The order of the training samples, as the sampler says; a stream shuffles itself."""
        size = self.sizes["train"]
        if self.source.stream:
            if self.view is not None or self.weights is not None:
                raise UserError("data.streaming=true: a stage weighs or chooses samples, which a stream does not know")
            return {"sequence": lambda _: torch.arange(size)}
        return sequence_of(self, size, torch.from_numpy(self.parts["train"].labels))

    def _streamed(self, decoder: Decoder, raw: Any, where: str, epoch: int, row: int) -> Tensor | None:
        """Pixels, or None for a corrupt image that is to be skipped."""
        try:
            return decoder(raw, where, epoch, row)
        except CorruptImage as error:
            if self.config.on_error == "raise":
                raise RunError(refusal(where, error)) from None
            return None

    @property
    def skipped(self) -> dict[str, int]:
        """Corrupt images left out, each once, by split; of a stream those that this rank has met so far."""
        return {name: len(found) for name, found in self.skipped_names().items()}

    def skipped_names(self) -> dict[str, list[str]]:
        """Which they are."""
        met = {name: [row_name(self.config.name, row) for row in sorted(r)] for name, r in self._skipped_rows.items()}
        return {name: found + met.get(name, []) for name, found in self._left_out.items()}

    def count_skipped(self) -> dict[str, int]:
        """``skipped`` over all ranks, which must all call it: those of a stream are known where it was read."""
        if self.source.stream:
            for rows in self._skipped_rows.values():
                rows.update(*gather(rows))
        return self.skipped

    # setting up

    def _check_labels(self) -> None:
        for split in (self.source.train, self.source.val, self.source.test):
            if split is None:
                continue
            wrong = np.flatnonzero((split.labels < 0) | (split.labels >= self.num_classes))
            if len(wrong):
                row = int(wrong[0])
                raise UserError(
                    f"{split.where(row)}: label {split.labels[row]} is outside the {self.num_classes} classes "
                    f"({len(wrong)} such rows; an unlabelled split cannot be trained or tested on)"
                )

    def _split(self) -> dict[str, SplitRows]:
        """Train, val and test: what the source does not have is held out of train; test chooses nothing."""
        config, source = self.config, self.source
        rows = np.arange(len(source.train))
        parts: dict[str, SplitRows] = {}
        if source.test is not None:
            parts["test"] = SplitRows(source.test, np.arange(len(source.test)))
        else:
            if config.test is None:
                raise UserError(
                    "data.test must be given, since the data has no test split: a number of images or a fraction"
                )
            rows, parts["test"] = self._hold_out(rows, config.test, "data.test")
        if source.val is not None:
            parts["val"] = SplitRows(source.val, np.arange(len(source.val)))
        elif source.stream is None:
            rows, parts["val"] = self._hold_out(rows, config.validation, "data.validation")
        else:
            self._held_out_of_stream = int(config.validation)
            if not 1 <= config.validation < source.stream.length:
                raise UserError(f"data.validation={config.validation:g}: with data.streaming=true, a number of images")
            parts["val"] = SplitRows(source.train, np.arange(0))
        if config.limit_train:
            rows = (
                rows[splits.subset(source.train.labels[rows], config.limit_train, config.split_seed)]
                if len(rows)
                else rows
            )
        return {"train": SplitRows(source.train, rows), "val": parts["val"], "test": parts["test"]}

    def _hold_out(self, rows: np.ndarray, amount: float, what: str) -> tuple[np.ndarray, SplitRows]:
        labels = self.source.train.labels[rows]
        kept, held = splits.hold_out(labels, amount, self.config.split_seed, self.class_names, what)
        return rows[kept], SplitRows(self.source.train, rows[held])

    def _look_at_first(self) -> None:
        """Size of the first image that can be read; channels of a sample: 3 if any is coloured."""
        looked = [(part, int(row)) for part in self.parts.values() for row in spread(part.rows, SAMPLE)]
        first = next((image for image in self._readable(looked)), None)
        if first is None:
            every = ((part, int(row)) for part in self.parts.values() for row in part.rows)
            first = next((image for image in self._readable(every)), None)
        if first is None:
            raise UserError(f"data={self.config.name}: none of its images can be read")
        self.first_size, self.first_where, chans = first
        if self.config.in_chans is None and chans == 1:
            chans = max(channels_of_header(part.split.read(row)) for part, row in looked)
        self.in_chans = self.config.in_chans or chans

    def _readable(self, rows: Iterable[tuple[SplitRows, int]]) -> Iterator[tuple[tuple[int, int], str, int]]:
        """Size, name and channels of the images that can be read."""
        for part, row in rows:
            where = part.split.where(row)
            try:
                image = open_image(part.split.read(row))
            except CorruptImage as error:
                self._refuse_unless_skipped(where, error)
                continue
            yield image.size, where, channels(image)

    def _refuse_unless_skipped(self, where: str, error: CorruptImage) -> None:
        if self.config.on_error == "raise":
            raise UserError(refusal(where, error)) from None

    def _fits(self) -> bool:
        """Whether to decode all of it into memory: as configured, else if it takes a small part of what is free."""
        if self.source.stream:
            return False
        if self.config.in_memory is not None:
            return self.config.in_memory
        width, height = (self.config.image_size,) * 2 if self.config.image_size else self.first_size
        size = sum(len(part) for part in self.parts.values()) * self.in_chans * int(width or 0) * int(height or 0)
        whole = self.config.augment.resized_crop  # crops are of the original, whatever its size
        return not whole and size * SHARE_OF_MEMORY < psutil.virtual_memory().available

    def _common_size(self) -> int:
        width, height = self.first_size
        if width != height:
            raise UserError(f"{self.first_where}: is {width}x{height}, not square; set data.image_size")
        return width

    def _need_image_size(self) -> None:
        if self.config.image_size is None:
            raise UserError(
                f"data.image_size must be given, since {self.config.name} is not kept in memory (data.in_memory)"
            )
        self.image_size = self.config.image_size

    def _decode_all(self) -> None:
        """Decode every split; if one of images taken to be grey turns out coloured, all over again in colour."""
        before = {name: part.rows for name, part in self.parts.items()}
        with suppress(Coloured):
            for name, part in self.parts.items():
                self._decode(name, part)
            return
        self.in_chans = 3  # the error is gone by now, and with its traceback the grey pixels
        for name, part in self.parts.items():
            part.rows, part.images = before[name], None
        for name, part in self.parts.items():
            self._decode(name, part)

    def _decode(self, name: str, part: SplitRows) -> None:
        """Decode a split once, with as many threads as there are cores."""
        planes = self.in_chans + part.split.planes
        images = np.empty((len(part), planes, self.image_size, self.image_size), dtype=np.uint8)
        good = np.ones(len(part), dtype=bool)

        def decode(first: int) -> None:
            for place in range(first, min(first + CHUNK, len(part))):
                pixels = self._planes_or_none(part, place)
                good[place] = pixels is not None
                if pixels is not None:
                    images[place] = pixels

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, range(0, len(part), CHUNK)):
                pass
        self._left_out[name] = [part.split.where(int(row)) for row in part.rows[~good]]
        part.rows, part.images = (part.rows, images) if good.all() else (part.rows[good], images[good])

    def _planes_or_none(self, part: SplitRows, place: int) -> np.ndarray | None:
        """Pixels and map, or None for an image that is to be skipped."""
        raw, where = self._raw(part, place)
        pixels = self._pixels_or_none(raw, where)
        try:
            return None if pixels is None else part.split.labelled(int(part.rows[place]), pixels)
        except CorruptImage as error:
            self._refuse_unless_skipped(where, error)
            return None

    def _raw(self, part: SplitRows, place: int) -> tuple[Any, str]:
        row = int(part.rows[place])
        return part.split.read(row), part.split.where(row)

    def _pixels_or_none(self, raw: Any, where: str) -> np.ndarray | None:
        """Pixels (C, H, W), or None for a corrupt image that is to be skipped."""
        try:
            image = open_image(raw)
            if self.in_chans == 1 and self.config.in_chans is None and channels(image) == 3:
                raise Coloured(where)
            pixels = to_pixels(image, self.in_chans, self.config.image_size)
        except CorruptImage as error:
            self._refuse_unless_skipped(where, error)
            return None
        if pixels.shape[1:] != (self.image_size, self.image_size):
            width, height = image.size
            raise UserError(
                f"{where}: is {width}x{height}, {self.first_where} is {self.first_size[0]}x{self.first_size[1]}; "
                "set data.image_size to the size to make them"
            )
        return pixels

    def _skip_corrupt(self) -> None:
        """Without memory to decode into, look at every image once, so that the run's rows are known."""
        for name, part in self.parts.items():
            keep = readable(part)
            self._left_out[name] = [part.split.where(int(row)) for row in part.rows[~keep]]
            part.rows = part.rows[keep]

    def _check_sizes(self) -> None:
        for name, size in self.sizes.items():
            if size == 0:
                raise UserError(f"data={self.config.name}: no images are left for {name}")
            if size < self.world_size:
                raise UserError(
                    f"data={self.config.name}: {name} has {size} image(s) for {self.world_size} ranks; give it more"
                )
        needed = self.config.batch_size * self.world_size
        if self.config.drop_last and self.sizes["train"] < needed:
            raise UserError(
                f"data.batch_size={self.config.batch_size} on {self.world_size} rank(s): there are "
                f"{self.sizes['train']} training images, less than one batch, and "
                "data.drop_last=true would drop it; lower data.batch_size"
            )

    def _moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation per channel: as configured, or measured on the training pixels."""
        if self.config.mean is not None and self.config.std is not None:
            return self._per_channel("mean", self.config.mean), self._per_channel("std", self.config.std)
        images = self.parts["train"].images
        arrays: Iterable[np.ndarray] = [images] if images is not None else self._sample()
        return moments(arrays, self.in_chans)

    def _per_channel(self, name: str, values: list[float]) -> list[float]:
        if len(values) not in (1, self.in_chans):
            raise UserError(f"data.{name}={values}: must have one number, or {self.in_chans}, one per channel")
        return values * self.in_chans if len(values) == 1 else values

    def _sample(self) -> Iterable[np.ndarray]:
        if self.source.stream:
            take = min(SAMPLE, self.sizes["train"])
            streamed = self.source.stream.rows(self._held_out_of_stream, take, None)
            raws: Iterable[tuple[Any, str]] = (
                (raw, f"{self.config.name}, row {row} of the stream") for row, raw, _ in streamed
            )
        else:
            part = self.parts["train"]
            rows = part.rows[splits.subset(part.labels, SAMPLE, self.config.split_seed)]
            raws = ((part.split.read(int(row)), part.split.where(int(row))) for row in rows)
        for raw, where in raws:
            try:
                pixels = self._pixels_or_none(raw, where)
            except Coloured:
                raise UserError(
                    f"{where}: is coloured, those looked at before were grey; set data.in_chans=3"
                ) from None
            if pixels is not None:
                yield pixels[None]
