"""Training metrics at next to no cost: kept on the device, read at intervals, counted once over the ranks."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from paperzoo.distributed import ranks, sum_over_ranks
from paperzoo.errors import NonFiniteLoss


class Running:
    """Mean losses over an epoch and over the window since the last reading, and whatever a task counts beside them.

    A step costs two small kernels and no synchronisation; ``read`` synchronises once. A task that counts derives a
    class: ``places`` whole numbers a batch (``count`` adds them), ``sums`` of them that are added up over windows and
    ranks, and ``scores``, the metrics of such sums.

    Args:
        window: the most steps between two readings.
        places: how many numbers a batch is counted in.
    """

    def __init__(self, window: int, device: torch.device, places: int = 0) -> None:
        self.window = window
        self.losses = torch.zeros(window, dtype=torch.float64, device=device)
        self.parts: dict[str, Tensor] = {}  # of each loss, where there are several
        self.hits = torch.zeros(places, dtype=torch.int64, device=device)
        self.counts: list[int] = []  # units of each step in the window
        self.last_finite: float | None = None
        # On one CPU a look at the loss is free, and stops before the weights are spoilt.
        self.looks_at_once = device.type == "cpu" and ranks() == 1
        self.start_epoch()

    def start_epoch(self) -> None:
        """Reset the averages."""
        self.totals = [0.0] * (2 + len(self.sums(self.hits.tolist())))  # units, loss * units, sums...
        self.part_totals: dict[str, float] = {}

    # what a task counts beside the losses

    def sums(self, counted: list[int]) -> list[int]:
        """What is summed over windows and ranks."""
        return counted

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """The metrics of such sums."""
        return {}

    def count(self, counted: Tensor) -> None:
        """Add a batch's numbers (places,)."""
        self.hits += counted

    @torch.no_grad()
    def update(self, loss: Tensor, parts: Mapping[str, Tensor], units: int) -> None:
        """Add a batch: ``loss`` is its mean over ``units``, ``parts`` are what it is the sum of.

        Raises:
            NonFiniteLoss: on one CPU; elsewhere ``read`` raises it, which saves a synchronisation a step.
        """
        if self.looks_at_once:
            self._check([loss.item()], after_step=False)
        place = len(self.counts)
        self.losses[place] = loss.detach()
        if len(parts) > 1:
            for name, part in parts.items():
                if name not in self.parts:
                    self.parts[name] = torch.zeros_like(self.losses)
                self.parts[name][place] = part.detach()
        self.counts.append(units)

    def latest(self, before: float) -> float:
        """The newest loss where a look at it is free; else ``before``."""
        return float(self.losses[len(self.counts) - 1]) if self.looks_at_once and self.counts else before

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
        parts = [self._weighted(values[: len(self.counts)].tolist()) for values in self.parts.values()]
        sums = sum_over_ranks(
            [float(sum(self.counts)), self._weighted(losses), *map(float, hits), *parts], self.losses.device
        )
        self._check(losses, after_step=True)  # now that no other rank waits for this one's sums
        if not math.isfinite(sums[1]):  # on another rank
            raise NonFiniteLoss(1, sums[1], self.last_finite)
        window, summed = sums[: 2 + len(hits)], dict(zip(self.parts, sums[2 + len(hits) :], strict=True))
        self.totals = [total + value for total, value in zip(self.totals, window, strict=True)]
        self.part_totals = {name: self.part_totals.get(name, 0.0) + value for name, value in summed.items()}
        self.counts = []
        self.hits.zero_()
        return self._means(window, summed)

    def _weighted(self, losses: list[float]) -> float:
        products = [n * x for n, x in zip(self.counts, losses, strict=True)]
        return math.fsum(products) if all(map(math.isfinite, products)) else math.nan

    def epoch(self) -> dict[str, float]:
        """The means over what was read since the epoch began."""
        return self._means(self.totals, self.part_totals)

    def _means(self, sums: list[float], parts: Mapping[str, float]) -> dict[str, float]:
        units = max(sums[0], 1.0)
        means = {"loss": sums[1] / units} | self.scores(sums[2:], units)
        return means | {name: value / units for name, value in parts.items()}

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
        done = len(self.counts)
        return {
            "losses": self.losses[:done].tolist(),
            "parts": {name: values[:done].tolist() for name, values in self.parts.items()},
            "part_totals": dict(self.part_totals),
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
        for name, values in state.get("parts", {}).items():
            self.parts[name] = torch.zeros_like(self.losses)
            self.parts[name][: len(values)] = torch.tensor(values, dtype=torch.float64)
        self.part_totals = dict(state.get("part_totals", {}))
        self.hits.copy_(torch.tensor(state["hits"], dtype=torch.int64))
        self.counts, self.totals = list(state["counts"]), list(state["totals"])
        self.last_finite = state["last_finite"]
