"""Forward and backward time of ResNeXt's block in the three forms of Fig. 3, which compute the same.

The block of 256 channels of ResNeXt-50 (32x4d), and its like at equal cost with fewer, wider paths. All forms in turn,
channels last (the default on a CPU), several rounds. Prints the median in ms and the ratio to form (c) with its 95 %
interval (bootstrap of the rounds).

    python benchmarks/resnext_forms.py [rounds=9] [threads=2] [batch=16] [size=28]
"""

import statistics
import sys
import time

import torch
from timm.models.resnet import Bottleneck
from torch import nn

from paperzoo.accounting.speed import interval
from paperzoo.papers.resnext import FORMS, in_form

WIDTHS = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}  # cardinality: base width, of equal cost (Table 2)
NAMES = {"a": "sum of paths", "b": "concatenated paths", "c": "grouped convolution"}


def seconds(block: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> float:
    """One step."""
    x = x.detach().requires_grad_()
    block.zero_grad()
    start = time.perf_counter()
    block(x).backward(dy)
    return time.perf_counter() - start


def main(rounds: int, threads: int, batch: int, size: int) -> None:
    torch.set_num_threads(threads)
    x, dy = (torch.randn(batch, 256, size, size).contiguous(memory_format=torch.channels_last) for _ in range(2))
    print(f"{batch} x 256 x {size} x {size}, {threads} threads, {rounds} rounds")
    for cardinality, width in WIDTHS.items():
        grouped = Bottleneck(256, 64, cardinality=cardinality, base_width=width)
        blocks = {form: in_form(grouped, form).to(memory_format=torch.channels_last) for form in FORMS}
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for number in range(rounds + 1):
            for form, block in blocks.items():
                taken = seconds(block, x, dy)
                if number:  # the first warms up
                    times[form].append(taken)
        for form in FORMS:
            ratios = [one / other for one, other in zip(times[form], times["c"], strict=True)]
            low, high = interval(ratios)
            taken = 1000 * statistics.median(times[form])
            print(f"{cardinality:3d} x {width:2d}d  ({form}) {NAMES[form]:20} {taken:8.1f}"
                  f" ms   ratio {statistics.median(ratios):5.2f} [{low:.2f}, {high:.2f}]", flush=True)  # fmt: skip


if __name__ == "__main__":
    given = {"rounds": 9, "threads": 2, "batch": 16, "size": 28}
    main(**given | {name: int(value) for name, value in (word.split("=") for word in sys.argv[1:])})
