"""Where sequences come from; ``data.source`` names a function ``(config, data_dir) -> Sequences``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paperzoo.data import splits
from paperzoo.data.images.sources import mnist5k
from paperzoo.randomness import generator

SPLITS = ("train", "val", "test")


class Sequences(NamedTuple):
    """Sequences with an answer each, by split."""

    inputs: Mapping[str, Tensor]  # (N, T, I) float32
    targets: Mapping[str, Tensor]  # (N,) int64 classes, or (N, K) float32 numbers
    class_names: list[str] | None  # of classes
    note: str  # what an answer without looking is worth


def adding_problem(config: Any, data_dir: Path) -> Sequences:
    """The adding problem (Hochreiter and Schmidhuber, 1997) in the form of Le et al., 2015: two of T numbers are added.

    Each step has a number, uniform in [0, 1), and a mark, which is 1 at one step of the first half and at one of the
    second half, else 0. The target is the sum of the two marked numbers. Its variance is 2/12: always to answer 1, the
    mean, has a mean squared error of 1/6.
    """
    inputs, targets = {}, {}
    for name, count in zip(SPLITS, (config.train, config.validation, config.test), strict=True):
        inputs[name], targets[name] = _added(count, config.length, generator("adding", config.draw_seed, name))
    return Sequences(inputs, targets, None, "always to answer 1 has a mean squared error of 1/6 = 0.1667")


def _added(count: int, length: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (N, T, 2) and sums (N, 1)."""
    values = torch.rand(count, length, generator=chance)
    half = length // 2
    first = torch.randint(half, (count, 1), generator=chance)
    second = torch.randint(half, length, (count, 1), generator=chance)
    places = torch.cat([first, second], dim=1)  # (N, 2)
    marks = torch.zeros(count, length).scatter_(1, places, 1.0)
    return torch.stack([values, marks], dim=2), values.gather(1, places).sum(1, keepdim=True)


def digits_by_pixel(config: Any, data_dir: Path) -> Sequences:
    """Sequential MNIST (Le et al., 2015): a handwritten digit pixel by pixel, row after row, or in one random order.

    The digits of MNIST-5k in the splits that ``data=mnist5k`` has, standardised by the training split.
    """
    source = mnist5k(config, data_dir)
    stored: Any = source.train
    rows, labels = _rows(config, stored.labels, source.classes), torch.from_numpy(stored.labels)
    pixels = _averaged(torch.from_numpy(stored.pixels), config.size).flatten(1)  # (N, T)
    if config.permuted:
        order = torch.randperm(pixels.shape[1], generator=generator("permutation", config.permutation_seed))
        pixels = pixels[:, order]
    known = pixels[rows["train"]].double()
    pixels = ((pixels - known.mean()) / known.std()).float()[:, :, None]
    targets = {name: labels[own] for name, own in rows.items()}
    most = max(float((targets["test"] == k).double().mean()) for k in range(len(source.classes)))
    inputs = {name: pixels[own] for name, own in rows.items()}
    return Sequences(
        inputs, targets, source.classes, f"always to answer one class is right {100 * most:.1f} % of the time"
    )


def _averaged(pixels: Tensor, size: int) -> Tensor:
    """Images (N, H, H) uint8 as (N, size, size) in [0, 1], each pixel the mean of a square."""
    side = pixels.shape[1] // size
    return (pixels.float() / 255).unflatten(2, (size, side)).unflatten(1, (size, side)).mean((2, 4))


def _rows(config: Any, labels: np.ndarray, classes: list[str]) -> dict[str, np.ndarray]:
    """The rows of each split: test is held out first, then validation, as of images."""
    rows, found = np.arange(len(labels)), {}
    for name, amount, what in (("test", config.test, "data.test"), ("val", config.validation, "data.validation")):
        kept, held = splits.hold_out(labels[rows], amount, config.split_seed, classes, what)
        rows, found[name] = rows[kept], rows[held]
    if config.limit_train:
        rows = rows[splits.subset(labels[rows], config.limit_train, config.split_seed)]
    return {"train": rows, "val": found["val"], "test": found["test"]}
