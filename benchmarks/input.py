"""The in-memory batch path against PIL, torchvision and DataLoader: crop, flip and normalise at 32 pixels.

Interleaved over the same 10,000 images (drawn, or CIFAR-10's with DATA_DIR set): (a) Paperzoo's ``MemoryLoader`` and
batch augmentation; (b) torchvision's v2 transforms on PIL images that are decoded already, in a DataLoader; (c) the
same, decoding a PNG for every image. (b) and (c) take the best of 0, 1 and 2 workers. Prints images/s and ratios.

    python benchmarks/input.py [repeats] [images]

Goal: at least 8 times the images/s of (b).
"""

import io
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from paperzoo.config import compose
from paperzoo.data.images.augment import Normalise, crop_and_flip
from paperzoo.data.images.loaders import MemoryLoader
from paperzoo.data.images.schema import Augment
from paperzoo.data.order import Order
from paperzoo.data.samplers import shuffled
from paperzoo.training import load_data

BATCH = 128
MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


class Pictures(Dataset):
    """PIL images, decoded already or from PNG files in memory, with torchvision's transforms."""

    def __init__(self, images: np.ndarray, *, decode: bool) -> None:
        pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
        self.pictures = [_png(picture) for picture in pictures] if decode else pictures
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = self.pictures[index]
        return self.transform(Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture), 0


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def pixels(count: int) -> np.ndarray:
    """(count, 3, 32, 32) uint8."""
    if "DATA_DIR" in os.environ:
        data = load_data(compose("train", ["model=resnet", "data=cifar10"]))
        return data.tensors("train")[0][:count].numpy()
    return np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def memory(images: torch.Tensor) -> Callable[[], Iterable[torch.Tensor]]:
    """Paperzoo's path."""
    count = len(images)
    order = Order(count, BATCH, seed=0, sequence=lambda epoch: shuffled(count, None, 0, epoch, BATCH, 1))
    loader = MemoryLoader(images, torch.zeros(count, dtype=torch.int64), order)
    augment, normalise = Augment(crop_padding=4, flip=0.5), Normalise(MEAN, STD)

    def epoch() -> Iterable[torch.Tensor]:
        loader.order.set_epoch(loader.order.epoch + 1)
        for batch, _, uniform, _ in loader:
            assert uniform is not None
            yield normalise(crop_and_flip(batch, uniform, augment))

    return epoch


def pil(dataset: Pictures, workers: int) -> Callable[[], Iterable[torch.Tensor]]:
    """The path of torchvision and DataLoader."""
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    return lambda: (batch for batch, _ in loader)


def speed(epoch: Callable[[], Iterable[torch.Tensor]]) -> float:
    """Images/s of one epoch."""
    start = time.perf_counter()
    seen = sum(len(batch) for batch in epoch())
    return seen / (time.perf_counter() - start)


def main(repeats: int = 5, count: int = 10_000) -> None:
    images = pixels(count)
    decoded, files = Pictures(images, decode=False), Pictures(images, decode=True)
    paths = {"memory": memory(torch.from_numpy(images))}
    paths |= {f"PIL, {w} workers": pil(decoded, w) for w in (0, 1, 2)}
    paths |= {f"PIL decoding PNG, {w} workers": pil(files, w) for w in (0, 1, 2)}
    rounds = [{name: speed(epoch) for name, epoch in paths.items()} for _ in range(repeats + 1)][1:]
    print(
        f"{len(images):,} images of 3x32x32, batches of {BATCH}, {repeats} repeats, {torch.get_num_threads()} threads"
    )
    for name in paths:
        values = [each[name] for each in rounds]
        print(f"  {name:28} {statistics.median(values):10,.0f} images/s ({min(values):,.0f} to {max(values):,.0f})")
    for kind in ("PIL,", "PIL decoding"):
        ratios = [
            each["memory"] / max(value for name, value in each.items() if name.startswith(kind)) for each in rounds
        ]
        print(
            f"  memory / best {kind:14} {statistics.median(ratios):6.1f} times ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
