"""Forward and backward time of each normalisation layer against torch's BatchNorm2d.

On maps of (32, 64, 32, 32) in both memory formats, all layers in turn, several rounds. Prints the median of a round's
medians in ms and the ratio to BatchNorm2d with its spread over the rounds.

    python benchmarks/norms.py [rounds=7] [threads=2]

The order of the layers is turned about in every other round. The allocator keeps what it has got (for all layers):
else the page faults of buffers that go and come back decide the ratio.

Goal: Switchable Norm takes at most 1.5 times BatchNorm2d's time in contiguous maps and 1.8 times in channels_last. The
second is not reached where BatchNorm2d is one fused kernel at the speed of the memory: 2.9 to 3.3 on an AMD EPYC with
AVX-512 (torch's own GroupNorm takes 2.8 there, InstanceNorm2d 4.6), 1.7 on an Intel.
"""

import os
import statistics
import sys
import time

import torch
from torch import nn

from paperzoo.norms import SyncBatchNorm
from paperzoo.papers.group_norm import GroupNorm, LayerNorm
from paperzoo.papers.mabn import MABN2d
from paperzoo.papers.switchable_norm import SwitchNorm2d

SHAPE, STEPS = (32, 64, 32, 32), 15
LAYERS = {
    "BatchNorm2d": nn.BatchNorm2d(64),
    "SyncBatchNorm": SyncBatchNorm(64),
    "SwitchNorm2d": SwitchNorm2d(64),
    "MABN2d": MABN2d(64, 32, 64),
    "GroupNorm": GroupNorm(64),
    "LayerNorm": LayerNorm(64),
    "InstanceNorm2d": nn.InstanceNorm2d(64, affine=True),
}


def milliseconds(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> float:
    """The median of a few steps."""
    times = []
    for _ in range(STEPS):
        x.grad = None
        start = time.perf_counter()
        layer(x).backward(dy)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main(rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(SHAPE).to(memory_format=memory_format).requires_grad_()
        dy = torch.randn(SHAPE).to(memory_format=memory_format)
        times: dict[str, list[float]] = {name: [] for name in LAYERS}
        for number in range(rounds + 1):
            for name, layer in list(LAYERS.items())[:: (-1) ** number]:
                time_taken = milliseconds(layer, x, dy)
                if number:  # the first warms up
                    times[name].append(time_taken)
        print(f"\n{str(memory_format).removeprefix('torch.')}, {threads} threads, {rounds} rounds")
        for name, values in times.items():
            ratios = [value / base for value, base in zip(values, times["BatchNorm2d"], strict=True)]
            print(f"{name:15} {statistics.median(values):7.2f} ms   ratio {statistics.median(ratios):5.2f} "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def keep_memory() -> None:
    """Start this program again with an allocator that gives nothing back."""
    wanted = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    if wanted.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    keep_memory()
    given = dict(word.split("=") for word in sys.argv[1:])
    main(int(given.get("rounds", 7)), int(given.get("threads", 2)))
