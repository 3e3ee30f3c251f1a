"""Train, search for how much to prune, prune, fine-tune: a procedure of several stages, for tests."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from paperzoo.procedures import Loop, Procedure, Stage, Training


def convolutions(module: Any) -> list[nn.Module]:
    return [m for m in module.network.modules() if isinstance(m, nn.Conv2d)]


def apply(share: float, module: Any, data: Any) -> None:
    """Mask the smallest weights of each convolution: adds a buffer ``weight_mask`` and renames ``weight``."""
    for layer in convolutions(module):
        size = layer.weight.abs()
        smallest = size.flatten().sort().values[int(share * size.numel())]
        prune.custom_from_mask(layer, "weight", (size >= smallest).float())


def remaining(module: Any, data: Any) -> dict[str, float]:
    masks = [layer.weight_mask for layer in convolutions(module)]
    return {"kept": float(sum(m.sum() for m in masks) / sum(m.numel() for m in masks))}


@dataclass
class Shares(Loop):
    """Draws shares to prune, and keeps the one whose loss per kept weight is the lowest."""

    tries: int = 6
    told: list[list[float]] = field(default_factory=list)

    @property
    def result(self) -> float:
        return min(self.told, key=lambda pair: (pair[1], pair[0]))[0]

    def ask(self) -> float | None:
        return float(torch.rand(())) * 0.8 if len(self.told) < self.tries else None

    @torch.no_grad()
    def evaluate(self, module: Any, data: Any, candidate: float) -> Mapping[str, float]:
        noise = float(torch.randn(()))  # random numbers between ask and tell are part of the exact state
        weights = torch.cat([layer.weight.abs().flatten() for layer in convolutions(module)]).double()
        lost = float(weights.sort().values[: int(candidate * len(weights))].sum() / weights.sum())
        return {"share": candidate, "cost": lost - 0.3 * candidate + 0.01 * noise}

    def tell(self, candidate: float, values: Mapping[str, float]) -> None:
        self.told.append([candidate, values["cost"]])

    def state_dict(self) -> dict[str, Any]:
        return {"told": self.told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.told = [list(pair) for pair in state["told"]]


class TrainSearch(Procedure):
    """A search last: the best weights are those of the training before it."""

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        yield Training("train", epochs=2, changes={"optimizer": {"lr": 1e-9}})  # the first epoch's may be the best
        yield Shares("search")


class SearchTrain(Procedure):
    """A search first."""

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        yield Shares("search")
        yield Training("train", epochs=2)


class TrainPruneTune(Procedure):
    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        yield Training("train", epochs=2)
        share = yield Shares("search")
        yield Training(
            "fine-tune",
            epochs=1,
            prepare=partial(apply, share),
            outcome=remaining,
            changes={"optimizer": {"lr": 0.005}, "scheduler": {"warmup_epochs": 0.0}},
        )
