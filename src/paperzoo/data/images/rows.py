"""The rows of a split as a run sees it: which can be read, and how often each value of a pixel occurs in them."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from paperzoo.data.images.decoding import CorruptImage, open_image
from paperzoo.data.images.stored import Split


@dataclass
class SplitRows:
    """A split as the run sees it: rows of a source's split, decoded where they fit into memory."""

    split: Split
    rows: np.ndarray
    images: np.ndarray | None = None  # (N, C, H, W) uint8

    @property
    def labels(self) -> np.ndarray:
        """(N,) class indices."""
        return self.split.labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)


def histogram(images: np.ndarray) -> np.ndarray:
    """How often each value occurs in each channel of (N, C, H, W): (C, 256). In parts, since counting widens bytes."""
    step = max(1, 2**20 // max(1, images[0, 0].size))
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        counts += np.stack([np.bincount(part[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    return counts


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` rows, evenly spaced, the first among them."""
    return rows[:: max(1, -(-len(rows) // count))]


def moments(arrays: Iterable[np.ndarray], chans: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each of the first channels of uint8 images (N, C, H, W), of pixels in [0, 1]."""
    counts = np.zeros((chans, 256), dtype=np.int64)  # exact, and no pass in floats
    for array in arrays:
        counts += histogram(array[:, :chans])
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = (counts @ values) / total
    variance = (counts @ values**2) / total - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 1e-8)).tolist()


def readable(part: SplitRows) -> np.ndarray:
    """Which of a split's images can be read: (N,) bool."""

    def good(row: int) -> bool:
        try:
            open_image(part.split.read(row))
        except CorruptImage:
            return False
        return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.fromiter(pool.map(good, part.rows.tolist()), dtype=bool, count=len(part))
