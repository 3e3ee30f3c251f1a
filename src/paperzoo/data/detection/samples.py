"""What a detection data set gives: images with their objects."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

UNLABELLED = 255  # in a map of labels
Array = np.ndarray


@dataclass
class Sample:
    """An image and the objects on it.

    Attributes:
        image: (3, H, W) uint8.
        boxes: (G, 4) float32, x1, y1, x2, y2 in pixels.
        labels: (G,) int64, from 0.
        masks: (G, H, W) bool.
        crowd: (G,) bool: a group that was not annotated one by one; it is not trained on, and hits of it do not count.
        areas: (G,) float64, in pixels, by which evaluation tells small objects from large ones.
        semantic: (H, W) uint8, ``UNLABELLED`` where a pixel has no label; None where the data has no maps.
    """

    image: Array
    boxes: Array
    labels: Array
    masks: Array
    crowd: Array
    areas: Array
    semantic: Array | None = None


class Split(ABC):
    """Samples that are read one by one."""

    @abstractmethod
    def __len__(self) -> int:
        """How many."""

    @abstractmethod
    def read(self, row: int) -> Sample:
        """A sample.

        Raises:
            CorruptImage: the image, or its map, cannot be read.
        """

    def size(self, row: int) -> tuple[int, int]:
        """(height, width) of an image; a split that knows it without reading the image says so faster."""
        height, width = self.read(row).image.shape[1:]
        return height, width

    @abstractmethod
    def where(self, row: int) -> str:
        """What to call a sample in a message."""

    @abstractmethod
    def content(self, rows: Iterable[int]) -> Iterable[Any]:
        """What a fingerprint is made of."""


@dataclass
class Source:
    """The splits that a source has of its own; what is missing is held out of train.

    Attributes:
        classes: of objects.
        stuff: names of the labels of pixels; none where there are no maps.
        problems: names of malformed annotations that were left out, by kind.
    """

    classes: list[str]
    stuff: list[str]
    train: Split
    val: Split | None = None
    test: Split | None = None
    problems: dict[str, list[str]] | None = None
