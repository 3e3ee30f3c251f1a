"""A text in chunks of T characters, and the orders in which chunks come.

A chunk is a sample: chunk k has the characters [kT, kT + T) as inputs and [kT + 1, kT + T + 1) as targets. Whoever
carries a state from batch to batch can tell from the indices alone whether it belongs to a row: chunk k + 1 goes on
where chunk k ended.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from paperzoo.data.order import Order
from paperzoo.randomness import generator

PADDING = -100  # target of a place that is beyond the end of a stream: torch's own index to be ignored


class Chunks(NamedTuple):
    """What a loader gives: characters (B, T) int64, those that follow (B, T), and which chunks these are (B,)."""

    inputs: Tensor
    targets: Tensor
    chunk: Tensor


def streams(size: int, labels: Tensor | None, seed: int, epoch: int, batch_size: int, ranks: int) -> Tensor:
    """As many contiguous streams as a global batch has rows: each batch goes on where the last one ended.

    The chunks left over, fewer than a batch, lie before the first stream and after the last; how many lie before is
    drawn again for each epoch. A sampler as in ``data/samplers.py``.
    """
    rows = batch_size * ranks
    steps = size // rows
    first = int(torch.randint(size - steps * rows + 1, (1,), generator=generator(seed, "order", epoch)))
    return (first + torch.arange(rows)[None] * steps + torch.arange(steps)[:, None]).flatten()


class TrainLoader:
    """The chunks of a text (N,) in an order; goes on within an epoch."""

    def __init__(self, text: Tensor, length: int, order: Order) -> None:
        self.text, self.length, self.order = text, length, order
        self.sampler = order  # where Lightning looks for set_epoch
        self.batch_sampler = None  # Lightning asks for it

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Chunks]:
        places = torch.arange(self.length + 1)
        for index in self.order:
            characters = self.text[index[:, None] * self.length + places]  # (B, T + 1)
            self.order.done += 1
            yield Chunks(characters[:, :-1], characters[:, 1:], index)


class EvaluationLoader:
    """Every character of a text (N,) after the first, once over the ranks, as a target.

    The text is cut into ``count`` streams, whatever the number of ranks and of streams that are read side by side, so
    that these do not decide the result. What is beyond the end of a stream is ``PADDING``.

    Args:
        text: (N,).
        length: T.
        count: of streams.
        together: streams of a batch.
        rank, ranks: which streams are this process's.
    """

    def __init__(self, text: Tensor, length: int, count: int, together: int, rank: int, ranks: int) -> None:
        self.text, self.length, self.together = text, length, together
        self.predicted = len(text) - 1
        self.stream = -(-self.predicted // count)  # characters of a stream; the last may have fewer
        self.steps = -(-self.stream // length)
        self.mine = torch.arange(rank * count // ranks, (rank + 1) * count // ranks)
        self.sampler = self.batch_sampler = None  # Lightning asks for them

    def __len__(self) -> int:
        return -(-len(self.mine) // self.together) * self.steps

    def __iter__(self) -> Iterator[Chunks]:
        for rows in self.mine.split(self.together) if len(self.mine) else ():
            ends = ((rows + 1) * self.stream).clamp(max=self.predicted)[:, None]  # (B, 1)
            for step in range(self.steps):
                places = rows[:, None] * self.stream + step * self.length + torch.arange(self.length)  # (B, T)
                within = places < ends
                inputs = self.text[places.clamp(max=self.predicted - 1)]
                targets = self.text[places.clamp(max=self.predicted - 1) + 1].masked_fill(~within, PADDING)
                yield Chunks(inputs, targets, rows * self.steps + step)
