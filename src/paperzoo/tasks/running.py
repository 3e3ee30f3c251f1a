"""Training metrics at next to no cost: kept on the device, read at intervals, counted once over the ranks."""

import math
from typing import Any

import torch
from torch import Tensor

from paperzoo.tasks.distributed import ranks, sum_over_ranks

TOP = (1, 5)


class NonFiniteLoss(Exception):
    """The loss became NaN or infinite; ``batches_ago`` is 0 for a batch whose step is still to come."""

    def __init__(self, batches_ago: int, value: float, last_finite: float | None) -> None:
        super().__init__(f"the loss became {value}")
        self.batches_ago = batches_ago
        self.value = value
        self.last_finite = last_finite


class Running:
    """Mean loss and top-1, top-5 accuracy over an epoch and over the window since the last reading.

    A step costs two small kernels and no synchronisation; ``read`` synchronises once.

    Args:
        window: the most steps between two readings.
        num_classes: top-5 accuracy is kept where there are more than five.
    """

    def __init__(self, window: int, num_classes: int, device: torch.device) -> None:
        self.top = [k for k in TOP if k == 1 or num_classes > k]
        self.window = window
        self.losses = torch.zeros(window, dtype=torch.float64, device=device)
        self.hits = torch.zeros(self.places(num_classes), dtype=torch.int64, device=device)
        self.counts: list[int] = []  # images of each step in the window
        self.last_finite: float | None = None
        # On one CPU a look at the loss is free, and stops before the weights are spoilt.
        self.looks_at_once = device.type == "cpu" and ranks() == 1
        self.start_epoch()

    def start_epoch(self) -> None:
        """Begin to average anew."""
        self.totals = [0.0] * (2 + len(self.sums(self.hits.tolist())))  # images, loss * images, hits...

    # what another task than classification counts instead

    def places(self, num_classes: int) -> int:
        """How many numbers a batch is counted in: here the hits at each place of the ranking."""
        return self.top[-1]

    def count(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Those numbers of a batch."""
        best = logits.topk(self.top[-1], dim=1).indices  # (B, k)
        return (best == labels[:, None]).sum(0)

    def sums(self, counted: list[int]) -> list[int]:
        """What is summed over windows and ranks."""
        return [sum(counted[:k]) for k in self.top]

    def scores(self, sums: list[float], images: float) -> dict[str, float]:
        """The metrics of such sums."""
        return {f"top{k}": s / images for k, s in zip(self.top, sums, strict=True)}

    @torch.no_grad()
    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: ``loss`` is its mean, ``logits`` (B, K), ``labels`` (B,).

        Raises:
            NonFiniteLoss: on one CPU; elsewhere ``read`` raises it, which saves a synchronisation a step.
        """
        if self.looks_at_once:
            self._check([loss.item()], after_step=False)
        self.losses[len(self.counts)] = loss.detach()
        self.hits += self.count(logits.detach(), labels)
        self.counts.append(len(labels))

    @property
    def full(self) -> bool:
        """Whether the window must be read before the next update."""
        return len(self.counts) >= self.window

    def read(self) -> dict[str, float]:
        """The means over the window, over all ranks; the window's sums go into the epoch's.

        Raises:
            NonFiniteLoss: a loss in the window was NaN or infinite, on any rank.
        """
        losses, hits = self.losses[: len(self.counts)].tolist(), self.sums(self.hits.tolist())
        products = [n * x for n, x in zip(self.counts, losses, strict=True)]
        total = math.fsum(products) if all(map(math.isfinite, products)) else math.nan
        window = sum_over_ranks([float(sum(self.counts)), total, *hits], self.losses.device)
        self._check(losses, after_step=True)  # now that no other rank waits for this one's sums
        if not math.isfinite(window[1]):  # on another rank
            raise NonFiniteLoss(1, window[1], self.last_finite)
        self.totals = [total + value for total, value in zip(self.totals, window, strict=True)]
        self.counts = []
        self.hits.zero_()
        return self._means(window)

    def epoch(self) -> dict[str, float]:
        """The means over what was read since the epoch began."""
        return self._means(self.totals)

    def _means(self, sums: list[float]) -> dict[str, float]:
        images = max(sums[0], 1.0)
        return {"loss": sums[1] / images} | self.scores(sums[2:], images)

    def check(self, sound: bool) -> None:
        """Look at the window's losses before their step is taken for good.

        Args:
            sound: whether the weights are finite, on every rank.

        Raises:
            NonFiniteLoss: they are not, or a loss in the window was NaN or infinite, on any rank.
        """
        losses = self.losses[: len(self.counts)].tolist()
        wrong = 0.0 if sound and all(map(math.isfinite, losses)) else 1.0
        if sum_over_ranks([wrong], self.losses.device)[0]:
            self._check(losses, after_step=True)
            raise NonFiniteLoss(0, math.nan, self.last_finite)

    def _check(self, losses: list[float], *, after_step: bool) -> None:
        for place, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise NonFiniteLoss(len(losses) - 1 - place + after_step, loss, self.last_finite)
            self.last_finite = loss

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for an exact resume in the middle of an epoch."""
        return {
            "losses": self.losses[: len(self.counts)].tolist(),
            "hits": self.hits.tolist(),
            "counts": list(self.counts),
            "totals": list(self.totals),
            "last_finite": self.last_finite,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        saved = torch.tensor(state["losses"], dtype=torch.float64)
        if len(saved) >= self.window:  # of a longer window: trainer.log_every_n_steps is not part of the identity
            self.losses = self.losses.new_zeros(len(saved) + 1)
        self.losses[: len(saved)] = saved
        self.hits.copy_(torch.tensor(state["hits"]))
        self.counts, self.totals = list(state["counts"]), list(state["totals"])
        self.last_finite = state["last_finite"]
