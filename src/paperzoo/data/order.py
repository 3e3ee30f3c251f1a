"""Which samples make up which batch: a function of the seed and the epoch alone."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Sequence = Callable[[int], Tensor]  # the epoch -> the order of its samples over all ranks


class Order:
    """Batches of indices for one rank.

    In training, epoch e visits ``sequence(e)``; its global batch b is the slice ``[bG, (b + 1)G)`` with
    G = batch_size * ranks, and each rank takes its own part of that, so that two ranks with 32 see what one with 64
    sees. In evaluation every sample comes exactly once over the ranks, without padding.

    Serves as a batch sampler of torch's DataLoader; Lightning calls ``set_epoch`` through ``sampler``.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int | None,
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
        sequence: Sequence = lambda _: torch.empty(0),
        length: int | None = None,
    ) -> None:
        self.size, self.batch_size = size, batch_size
        self.seed = seed  # None: in order, for evaluation
        self.rank, self.ranks = rank, ranks
        self.drop_last = drop_last
        self.sequence = sequence
        self.length = size if length is None else length  # of a sequence
        self.epoch = 0
        self.done = 0  # batches of this epoch that were given out
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, unless a resumed run is in the middle of it."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def __len__(self) -> int:
        if self.seed is None:
            low, high = self._evaluation_part()
            return math.ceil((high - low) / self.batch_size)
        whole, rest = divmod(self.length, self.batch_size * self.ranks)
        return whole + (1 if rest >= self.ranks and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Tensor]:
        """The batches from ``done`` on, each an index tensor (B,)."""
        for index, _ in self.visits():
            yield index

    def visits(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Likewise, each with how often the epoch has visited its samples before (B,): a sampler may draw one twice."""
        if self.seed is None:
            low, high = self._evaluation_part()
            for index in torch.arange(low, high).split(self.batch_size) if high > low else ():
                yield index, torch.zeros_like(index)
            return
        order = self.sequence(self.epoch)
        before = visits_before(order)
        step = self.batch_size * self.ranks
        for batch in range(self.done, len(self)):
            part = slice(batch * step, (batch + 1) * step)
            yield order[part].tensor_split(self.ranks)[self.rank], before[part].tensor_split(self.ranks)[self.rank]

    def _evaluation_part(self) -> tuple[int, int]:
        return self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks

    def position(self) -> dict[str, int]:
        """Where in which epoch it is: part of a run's exact state."""
        return {"epoch": self.epoch, "done": self.done}

    def go_to(self, position: dict[str, int]) -> None:
        """Go on from a position."""
        self.epoch, self.done = position["epoch"], position["done"]


def visits_before(order: Tensor) -> Tensor:
    """How often the sample at each place of an order (M,) stands at places before it: 0 where none comes twice."""
    ranked = order.argsort(stable=True)  # equal samples together, in the order of their places
    values = order[ranked]
    before = torch.empty(len(order), dtype=torch.int64)
    before[ranked] = torch.arange(len(order)) - torch.searchsorted(values, values)
    return before
