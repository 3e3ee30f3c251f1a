"""Batches of images of one orientation, so that little of a batch is padding."""

import torch
from torch import Tensor

from paperzoo.data.detection.samples import Split
from paperzoo.data.order import Sequence


def wider(split: Split, rows: list[int]) -> Tensor:
    """Which of a split's images are wider than high: (N,) bool."""
    sizes = torch.tensor([split.size(row) for row in rows], dtype=torch.int64).reshape(-1, 2)
    return sizes[:, 1] > sizes[:, 0]


def grouped(order: Tensor, groups: Tensor, size: int) -> tuple[Tensor, int]:
    """The samples of an order, so that as many batches as possible hold one group alone.

    Args:
        order: (M,) indices of samples.
        groups: (N,) of every sample.
        size: of a batch.

    Returns:
        The samples batch after batch, each where the order completes it and in its order, those that fill no batch of
        their group last: (M,). And how many batches hold one group.
    """
    whole, rest = [], []
    own = groups[order]
    for group in own.unique():
        places = (own == group).nonzero().flatten()
        full = len(places) // size * size
        whole += list(places[:full].split(size)) if full else []
        rest.append(places[full:])
    whole.sort(key=lambda places: int(places[-1]))
    return order[torch.cat([*whole, *rest])], len(whole)


def grouped_sequence(sequence: Sequence, length: int, groups: Tensor, size: int) -> tuple[Sequence, int]:
    """A sequence of epochs, and its length, whose batches of ``size`` over all ranks hold one group.

    What fills no batch of its group is left out of an epoch. All epochs are of one length, that of the first, and have
    a batch at least; so the last batch of one holds what is left of all groups where no group fills a batch, or where
    a sampler that draws with replacement gives an epoch a batch less than the first.
    """
    _, batches = grouped(sequence(0), groups, size)
    batches = max(batches, min(1, length // size))

    def by_group(epoch: int) -> Tensor:
        return grouped(sequence(epoch), groups, size)[0][: batches * size]

    return by_group, batches * size
