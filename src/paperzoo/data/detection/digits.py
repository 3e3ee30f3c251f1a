"""Digits pasted on textured grounds: instances with exact masks, a label for each pixel, overlap under control.

The digits are those of MNIST-5k; those of the training images are not on the others. The same seed gives the same
bytes: whole numbers throughout.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paperzoo.data.detection.samples import Array, Sample, Source, Split
from paperzoo.data.images.sources import mnist5k
from paperzoo.data.images.stored import Arrays
from paperzoo.errors import UserError

TEXTURES = ("plain", "stripes", "checks", "speckles")
INK = 128  # a digit's pixels from this grey on are its mask
LEAST = 30  # pixels of an instance that must be in sight
TRIES = 20  # places that are tried for an instance
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}  # of the digits


@dataclass
class Drawn(Split):
    """Images in memory.

    Attributes:
        images: (N, 3, H, W) uint8.
        instances: (N, H, W) uint8, the number of the instance at each pixel from 1, 0 for none.
        labels: of each image, (G,) int64.
        semantic: (N, H, W) uint8.
    """

    images: Array
    instances: Array
    labels: list[Array]
    semantic: Array
    name: str

    def __len__(self) -> int:
        return len(self.images)

    def size(self, row: int) -> tuple[int, int]:
        """All are of one size."""
        return self.images.shape[2], self.images.shape[3]

    def read(self, row: int) -> Sample:
        """See ``Split``."""
        labels = self.labels[row]
        masks = self.instances[row] == np.arange(1, len(labels) + 1)[:, None, None]
        boxes = np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4)
        areas = masks.sum(axis=(1, 2)).astype(np.float64)
        crowd = np.zeros(len(labels), bool)
        return Sample(self.images[row], boxes, labels, masks, crowd, areas, self.semantic[row])

    def where(self, row: int) -> str:
        """See ``Split``."""
        return f"{self.name}, image {row}"

    def content(self, rows: Iterable[int]) -> Iterable[Any]:
        """See ``Split``."""
        for row in rows:
            yield from (self.images[row], self.instances[row], self.labels[row], self.semantic[row])


def box_of(mask: Array) -> tuple[int, int, int, int]:
    """The smallest box around a mask (H, W), to the far edges of its last pixels."""
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def pasted_digits(config: Any, data_dir: Path) -> Source:
    """The embedded data set: ``config.images`` training images and a sixth as many of each other split.

    Raises:
        UserError: digits larger than the image.
    """
    if config.digit_size[1] > config.image_size:
        raise UserError(
            f"data.digit_size={list(config.digit_size)}: the largest is wider than data.image_size={config.image_size}"
        )
    pixels, labels, classes = _mnist()
    order = np.random.default_rng([config.draw_seed, 0]).permutation(len(labels))
    splits, start = {}, 0
    for number, (name, share) in enumerate(SHARES.items(), 1):
        own = order[start : start + round(share * len(order))]
        start += len(own)
        count = config.images if name == "train" else max(1, config.images // 6)
        splits[name] = draw(config, count, pixels[own], labels[own], [config.draw_seed, number], f"digits, {name}")
    return Source(list(classes), [*classes, *TEXTURES], splits["train"], splits["val"], splits["test"])


@lru_cache(maxsize=1)
def _mnist() -> tuple[Array, Array, list[str]]:
    """Digits (N, 28, 28), their labels, the classes: read once, since that takes longer than drawing."""
    source = mnist5k(None, Path())  # type: ignore[arg-type]
    split = source.train
    assert isinstance(split, Arrays)
    return split.pixels, split.labels, source.classes


def draw(config: Any, count: int, digits: Array, labels: Array, seed: list[int], name: str) -> Drawn:
    """``count`` images of ``config.image_size``; image i is a function of the seed and i alone."""
    size = config.image_size
    images = np.empty((count, 3, size, size), np.uint8)
    instances = np.zeros((count, size, size), np.uint8)
    semantic = np.empty((count, size, size), np.uint8)
    found = []
    for row in range(count):
        random = np.random.default_rng([*seed, row])
        images[row], semantic[row] = ground(random, size)
        kept: list[int] = []
        wanted = int(random.integers(config.objects[0], config.objects[1] + 1))
        for _ in range(wanted):
            digit = int(random.integers(len(labels)))
            side = int(random.integers(config.digit_size[0], config.digit_size[1] + 1))
            ink = np.asarray(Image.fromarray(digits[digit]).resize((side, side), Image.Resampling.BILINEAR))
            place = _place(random, ink >= INK, instances[row], len(kept), config.overlap)
            if place is not None:
                _paint(random, images[row], instances[row], semantic[row], ink, place, len(kept) + 1)
                kept.append(int(labels[digit]))
                _name(semantic[row], instances[row], len(kept), kept[-1])
        found.append(np.array(kept, np.int64))
    return Drawn(images, instances, found, semantic, name)


def ground(random: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Two textures on both sides of a line: image (3, size, size), map (size, size) of ten plus the texture."""
    y, x = np.mgrid[:size, :size]
    a, b = random.integers(-8, 9, 2)
    side = a * (2 * x - size) + b * (2 * y - size) > int(random.integers(-4, 5)) * size
    image = np.empty((3, size, size), np.uint8)
    semantic = np.empty((size, size), np.uint8)
    for part in (side, ~side):
        kind, period = int(random.integers(len(TEXTURES))), int(random.integers(3, 9))
        dark, light = random.integers(20, 80, 3), random.integers(80, 140, 3)
        on = (
            np.zeros((size, size), bool),
            (x + y) // period % 2 == 1,
            (x // period + y // period) % 2 == 1,
            random.integers(0, 4, (size, size)) == 0,
        )[kind]
        colours = np.where(on[None], light[:, None, None], dark[:, None, None])
        image[:, part] = colours[:, part]
        semantic[part] = 10 + kind
    return image, semantic


def _place(
    random: np.random.Generator, mask: Array, instances: Array, count: int, overlap: float
) -> tuple[int, int] | None:
    """Where an instance hides no more than ``overlap`` of any before it, and leaves enough of each; None: nowhere."""
    side, size = len(mask), len(instances)
    for _ in range(TRIES):
        top, left = (int(v) for v in random.integers(0, size - side + 1, 2))
        under = instances[top : top + side, left : left + side][mask]
        before = np.bincount(instances.ravel(), minlength=count + 1)[1 : count + 1]
        hidden = np.bincount(under, minlength=count + 1)[1 : count + 1]
        free = (hidden <= overlap * before) & ((before - hidden >= LEAST) | (hidden == 0))
        if free.all() and mask.sum() >= LEAST:
            return top, left
    return None


def _paint(
    random: np.random.Generator,
    image: Array,
    instances: Array,
    semantic: Array,
    ink: Array,
    place: tuple[int, int],
    number: int,
) -> None:
    top, left = place
    rows, columns = slice(top, top + len(ink)), slice(left, left + len(ink))
    colour = random.integers(90, 256, 3)
    colour[int(random.integers(3))] = 255
    under, strength = image[:, rows, columns].astype(np.int64), ink.astype(np.int64)
    image[:, rows, columns] = (under * (255 - strength) + colour[:, None, None] * strength) // 255
    instances[rows, columns][ink >= INK] = number


def _name(semantic: Array, instances: Array, number: int, label: int) -> None:
    semantic[instances == number] = label
