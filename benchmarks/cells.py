"""Time per step, forward and backward, of the recurrent cells against torch.nn.LSTM and torch.nn.GRU on the CPU.

    python benchmarks/cells.py [rounds=7] [threads=2]

All cells in turn, several rounds, the order turned about in every other. Prints the median of a step in microseconds
and the ratio to torch's layer of the same size with its spread over the rounds.

Goal: the variants that torch lacks take at most 1.5 times torch.nn.LSTM's time. Reached at the four ordinary sizes on
an AMD EPYC with AVX2 (.73 to 1.40). With AVX-512 and two threads, where torch.nn.LSTM is one fused kernel and twice as
fast, it is not reached where steps are small: 1.6 to 1.9 with peepholes at H of 128 and 200. The fewest operations that
they need take 1.3 to 1.4 times there by themselves, on memory and views that are there already.
"""

import statistics
import sys
import time
from typing import Any

import torch
from torch import nn

from paperzoo.papers.lstm import GRU, LSTM, CoupledLSTM, PeepholeLSTM

SIZES = [  # T, B, I, H
    (64, 32, 64, 128),  # model=lstm
    (35, 20, 200, 200),
    (100, 32, 128, 256),
    (50, 64, 512, 512),
    (100, 1, 32, 64),  # a single small sequence: what a step costs before it computes anything
]


def cells(inputs: int, hidden: int) -> dict[str, nn.Module]:
    """By name; the first is what the others are compared with."""
    return {
        "torch.nn.LSTM": nn.LSTM(inputs, hidden),
        "LSTM": LSTM(inputs, hidden),
        "PeepholeLSTM": PeepholeLSTM(inputs, hidden),
        "CoupledLSTM": CoupledLSTM(inputs, hidden),
        "CoupledLSTM, peephole": CoupledLSTM(inputs, hidden, peephole=True),
        "torch.nn.GRU": nn.GRU(inputs, hidden),
        "GRU": GRU(inputs, hidden),
    }


def microseconds(cell: Any, x: torch.Tensor, steps: int) -> float:
    """Of one time step, forward and backward."""
    start = time.perf_counter()
    for _ in range(steps):
        cell.zero_grad(set_to_none=True)
        cell(x)[0].square().mean().backward()
    return 1e6 * (time.perf_counter() - start) / steps / len(x)


def main(rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    for length, batch, inputs, hidden in SIZES:
        x = torch.randn(length, batch, inputs, requires_grad=True)
        layers = cells(inputs, hidden)
        times: dict[str, list[float]] = {name: [] for name in layers}
        for number in range(rounds + 1):
            for name, cell in list(layers.items())[:: (-1) ** number]:
                taken = microseconds(cell, x, steps=3)
                if number:  # the first warms up
                    times[name].append(taken)
        print(f"\nT={length} B={batch} I={inputs} H={hidden}, {threads} threads, {rounds} rounds")
        for name, values in times.items():
            ratios = [value / base for value, base in zip(values, times["torch.nn.LSTM"], strict=True)]
            print(f"{name:22} {statistics.median(values):8.1f} us a step   ratio {statistics.median(ratios):5.2f} "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    given = dict(word.split("=") for word in sys.argv[1:])
    main(int(given.get("rounds", 7)), int(given.get("threads", 2)))
