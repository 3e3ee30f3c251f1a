"""What Paperzoo's training stack costs over a bare PyTorch loop.

Interleaved, in one process: (a) the obvious loop over the same in-memory tensors, (b) ``paperzoo.training.train``
with all logging on (W&B offline, CSV, record, checkpoints). The same network, data, batch, loss, epochs, and validation
after each epoch; no augmentation in either. Prints images/s of both, the ratio (b)/(a) with its spread, and on a
tiny network, where it shows, the cost of a step in milliseconds. (b) steps with torch's fused optimiser, which the
obvious loop does not; (a) is measured with it too, so that the stack alone can be seen.

    python benchmarks/train_overhead.py [repeats]

Goals: ratio at least 0.95; at most 1.0 ms a step.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch

from paperzoo import training
from paperzoo.config import compose
from paperzoo.config.schema import Config
from paperzoo.data.images.module import ImageData
from paperzoo.machine import set_flags, use_channels_last

TINY = ["model=resnet", "model.depth=11", "model.width=2", "data.batch_size=16", "data.image_size=8"]
COMMON = ["data.augment.crop_padding=0", "trainer=cpu", "trainer.max_epochs=2"]


class Clock(L.Callback):
    """Seconds from the start of training to its end."""

    def on_train_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def bare(config: Config, data: ImageData, *, fused: bool | None = None) -> float:
    """Seconds of a loop as one writes it by hand, by option with the fused optimiser."""
    module = training.make_module(config, data)
    network, choice = module.network, config.optimizer
    optimizer = torch.optim.SGD(
        network.parameters(),
        choice.lr,
        momentum=choice.momentum,
        weight_decay=choice.weight_decay,
        nesterov=choice.nesterov,
        fused=fused,
    )
    train, val = data.tensors("train"), data.tensors("val")
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    layout = torch.channels_last if use_channels_last(config.trainer) else torch.contiguous_format
    size = config.data.batch_size
    steps = config.trainer.max_epochs * (len(train[1]) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=config.loss.label_smoothing)

    def batch(images: torch.Tensor) -> torch.Tensor:
        return ((images.float() / 255 - mean) / std).contiguous(memory_format=layout)

    start = time.perf_counter()
    for _ in range(config.trainer.max_epochs):
        network.train()
        order = torch.randperm(len(train[1]))
        total = 0.0
        for first in range(0, len(order) - size + 1, size):
            index = order[first : first + size]
            loss = criterion(network(batch(train[0][index])), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        network.eval()
        with torch.no_grad():
            right = sum(
                (network(batch(images)).argmax(1) == labels).sum().item()
                for images, labels in zip(
                    val[0].split(config.data.eval_batch_size), val[1].split(config.data.eval_batch_size), strict=True
                )
            )
        print(f"  bare: loss {total:.2f}, val {right}", file=sys.stderr)
    return time.perf_counter() - start


def stack(config: Config) -> float:
    """Seconds of training through ``train``."""
    clock = Clock()
    original = training.make_trainer

    def with_clock(*arguments: Any) -> L.Trainer:
        trainer = original(*arguments)
        trainer.callbacks.append(clock)
        return trainer

    training.make_trainer = with_clock
    try:
        training.train(config)
    finally:
        training.make_trainer = original
    return clock.seconds


def measure(name: str, overrides: list[str], repeats: int) -> None:
    """Interleave the two and print."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose("train", [*COMMON, *overrides, f"paths.runs_dir={folder}"])
        set_flags(config)
        data = training.load_data(config)
        images = config.trainer.max_epochs * (data.sizes["train"] // config.data.batch_size) * config.data.batch_size
        steps = images // config.data.batch_size
        rounds = [(bare(config, data), bare(config, data, fused=True), stack(config)) for _ in range(repeats + 1)][1:]
    obvious, fused, ours = zip(*rounds, strict=True)  # without the first, which warms up
    print(
        f"\n{name}: {steps} steps of {config.data.batch_size} images, {repeats} repeats, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"  train.py          {_spread([images / s for s in ours], 0)} images/s")
    for label, theirs in (("bare loop", obvious), ("  fused optimiser", fused)):
        pairs = list(zip(theirs, ours, strict=True))
        print(
            f"  {label:17s} {_spread([images / s for s in theirs], 0)} images/s, "
            f"train.py's ratio {_spread([a / b for a, b in pairs], 3)}, "
            f"its cost {_spread([1000 * (b - a) / steps for a, b in pairs], 3)} ms a step"
        )


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measure("default (scnet_small)", ["model=scnet"], count)
    measure("tiny network", TINY, count)
    Path("wandb").rmdir() if Path("wandb").is_dir() and not any(Path("wandb").iterdir()) else None
