"""Time to train K members of an ensemble together, against one after the other, on the CPU.

    python benchmarks/ensembles.py [rounds=5] [threads=2] [members=8] [samples=512]

Ways in turn, several rounds, the order turned about in every other: each trains the same members on the same batches
for an epoch of MNIST-5k, with SGD. Prints seconds (median over the rounds) and how many times faster than one after the
other, with the spread over the rounds.

- one after the other: K modules with one member each; each goes through the data by itself
- loop: ``model=bagging``, one pass over the data, the members one by one in each step
- vmap: the same with stacked weights, ``torch.func.functional_call`` under ``torch.vmap``: convolutions of all members
  are grouped convolutions

Goal: the way that ``model=bagging`` takes (loop) is never slower than one after the other, and 1.5 times as fast for
members too small to fill the machine. The second is not reached: with one thread, on a shared machine of two cores, the
loop took as long as one after the other at all sizes; vmap was 1.2 times as fast at width 2, and 0.4 and 0.2 times at
widths 4 and 16, since grouped convolutions are slow on a CPU. Hence the loop.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from paperzoo.config import compose
from paperzoo.data.interface import RunData, make_data
from paperzoo.machine import set_threads
from paperzoo.tasks import optimizers
from paperzoo.tasks.making import make_module

MEMBERS = {  # name: overrides
    "resnet_small, width 2, 12 x 12": ["model.width=2", "data.image_size=12"],
    "resnet_small, width 4, 28 x 28": ["model.width=4"],
    "resnet_small, width 16, 28 x 28": [],
}


def configured(members: int, samples: int, *words: str) -> Any:
    """The run's configuration."""
    fixed = ["model=bagging", f"model.members={members}", f"data.limit_train={samples}", "data.batch_size=64"]
    return compose("train", [*fixed, "loss=cross_entropy", "trainer=cpu", "logger=none", *words])


def epoch(module: Any, data: RunData, optimizer: torch.optim.Optimizer, loss_of: Callable[[Any], Tensor]) -> None:
    """One pass over the training data."""
    module.running = module.make_running()
    for loaded in data.train_dataloader():
        batch = data.on_after_batch_transfer(loaded, 0)
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Stacked(nn.Module):
    """The members' weights in one tensor for each name."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = [module]  # not a part of this one
        members = list(module.network.members)
        weights, self.statistics = stack_module_state(members)
        self.names = list(weights)
        self.weights = nn.ParameterList(nn.Parameter(value.detach()) for value in weights.values())
        self.base = [members[0]]

    def loss(self, batch: Any) -> Tensor:
        """The sum of the members' losses."""
        weights = dict(zip(self.names, self.weights, strict=True))

        def logits(own: Any, statistics: Any) -> Tensor:
            return functional_call(self.base[0], (own, statistics), (batch.inputs,))

        found = torch.vmap(logits, randomness="different")(weights, self.statistics)  # (M, B, K)
        module = self.module[0]
        losses = [
            module.mean_loss(own, batch.targets, module.weights_of(number, batch)) for number, own in enumerate(found)
        ]
        return torch.stack(losses).sum()


def ways(members: int, samples: int, words: list[str]) -> dict[str, Callable[[], None]]:
    """By name; the first is what the others are compared with."""
    config = configured(members, samples, *words)
    data = make_data(config)

    def made(*more: str) -> Any:
        return make_module(configured(members, samples, *words, *more), data)

    def losses(module: Any) -> Callable[[Any], Tensor]:
        return lambda batch: sum(module.losses(batch).values())

    alone = [made("model.members=1", f"model.first={number}") for number in range(members)]
    steps = [optimizers.make(module.network, config.optimizer) for module in alone]
    together = made()
    step = optimizers.make(together.network, config.optimizer)
    other = made()
    stacked = Stacked(other)
    stacked_step = optimizers.make(stacked, config.optimizer)

    def one_after_the_other() -> None:
        for module, own in zip(alone, steps, strict=True):
            epoch(module, data, own, losses(module))

    return {
        "one after the other": one_after_the_other,
        "loop": lambda: epoch(together, data, step, losses(together)),
        "vmap": lambda: epoch(other, data, stacked_step, stacked.loss),
    }


def main(rounds: int = 5, threads: int = 2, members: int = 8, samples: int = 512) -> None:
    set_threads(threads)
    for name, words in MEMBERS.items():
        compared = ways(members, samples, words)
        times: dict[str, list[float]] = {way: [] for way in compared}
        for number in range(rounds + 1):  # the first is not counted
            for way, run in list(compared.items())[:: (-1) ** number]:
                begun = time.perf_counter()
                run()
                if number:
                    times[way].append(time.perf_counter() - begun)
        print(f"{members} x {name}, {samples} samples, {threads} threads")
        base = times["one after the other"]
        for way, seconds in times.items():
            ratios = [other / own for other, own in zip(base, seconds, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"  {way:20s} {statistics.median(seconds):7.2f} s   {spread} times as fast")


if __name__ == "__main__":
    main(**{name: int(value) for name, _, value in (word.partition("=") for word in sys.argv[1:])})
