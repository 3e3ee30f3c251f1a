"""Which memory format trains faster here: why ``trainer.channels_last: null`` means what it does.

Forward and backward of each paper's default network at batch 64 on 1x28x28, both formats interleaved.

    python benchmarks/channels_last.py [repeats]
"""

import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any

import torch

from paperzoo import cards
from paperzoo.config import compose
from paperzoo.training import make_module

BATCH, STEPS = 64, 5


def speed(paper: str, data: Any, *, channels_last: bool) -> float:
    """Images/s of a few training steps without an optimiser."""
    config = compose("train", [f"model={paper}", f"trainer.channels_last={str(channels_last).lower()}", "trainer=auto"])
    module = make_module(config, data)
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    module.loss(module(images), labels).backward()  # warms up
    start = time.perf_counter()
    for _ in range(STEPS):
        module.loss(module(images), labels).backward()
    return BATCH * STEPS / (time.perf_counter() - start)


def main(repeats: int) -> None:
    data = SimpleNamespace(info={"num_classes": 10, "in_chans": 1, "image_size": 28, "class_names": []})
    print(f"batch {BATCH}, {repeats} repeats, {torch.get_num_threads()} threads, images/s")
    print("  paper      contiguous, channels last, ratio")
    for paper in (slug for slug in cards.slugs() if cards.load(slug).tasks[0] == "classification"):
        pairs = [[speed(paper, data, channels_last=last) for last in (False, True)] for _ in range(repeats)]
        ratios = [last / first for first, last in pairs]
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        print(
            f"  {paper:10} {medians[0]:6.0f} {medians[1]:6.0f}   {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
