"""Time to train K members of an ensemble together, against one after the other, on the CPU.

    python benchmarks/ensembles.py [rounds=5] [threads=2] [members=8] [samples=512] [sizes=3] [torchensemble=<folder>]
    python benchmarks/ensembles.py ranks=2 [rounds=5] [members=8] [samples=512] [sizes=3]

Ways in turn, several rounds, the order turned about in every other: each trains the same members on the same batches
for an epoch of MNIST-5k, with SGD. Prints seconds (median over the rounds), those of the processor, and how many times
faster than one after the other, with the spread over the rounds.

- one after the other: K modules with one member each; each goes through the data by itself
- loop: ``model=bagging``, one pass over the data, the members one by one in each step
- bagging: ``model=bagging`` as it is: members in Python threads of one torch thread each, where there are several
- vmap: stacked weights, ``torch.func.functional_call`` under ``torch.vmap``: all convolutions are grouped
- vmap, channels last: likewise
- vmap, products: convolutions as one matrix product for each member, batched (im2col)
- torchensemble: its BaggingClassifier with the same network, images, optimiser, batch size and one epoch, where a
  folder has it (``pip install --target <folder> --no-deps torchensemble``; never into this environment)

With ``ranks=2``, on as many gloo processes of one thread each, ways to share the members' work, by torch's DDP:

- parts: each rank computes all members on its part of a batch
- parts, SyncBN: likewise, batch statistics over the ranks, so that the members are those of one process
- spread: ``model=bagging`` as it is: each rank computes members of its own on the joint batch, which gives these, too

Goals: bagging is never slower than one after the other, 1.5 times as fast for members too small to fill the machine,
and 1.2 times as fast as torchensemble. Times as fast as one after the other, 8 members, two threads on the two cores
of an AMD EPYC, nothing else running (9 and 3 rounds); width 16 is not measured:

====================  ====================  ====================
way                   width 2, 12 x 12      width 4, 28 x 28
====================  ====================  ====================
loop                  1.11 (0.92 to 1.15)   0.97 (0.97 to 1.02)
bagging               1.66 (1.37 to 1.94)   1.23 (1.20 to 1.39)
vmap                  2.06 (1.68 to 2.93)   0.61 (0.59 to 0.65)
vmap, channels last   2.27 (1.89 to 2.93)   0.54 (0.53 to 0.57)
vmap, products        2.17 (1.76 to 2.74)   0.56 (0.49 to 0.63)
torchensemble         0.94 (0.68 to 1.04)   0.85 (0.84 to 1.07)
====================  ====================  ====================

Torch's own two threads wait for each other at every layer; members in threads do not. vmap is faster at width 2 alone,
and its weights must be kept stacked for it, which an optimiser of each member's own weights does not allow.

Times as fast as parts with SyncBN, two ranks, likewise (5 rounds): parts without it, which gives other members, 5.65
and 3.60; spread, which gives the same, 6.12 (5.91 to 6.39) and 3.16 (3.09 to 3.36).
"""

import contextlib
import copy
import functools
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from paperzoo.config import compose
from paperzoo.data.interface import RunData, make_data
from paperzoo.machine import set_threads
from paperzoo.tasks import optimizers
from paperzoo.tasks.ensembles import EnsembleClassification
from paperzoo.tasks.making import make_module

MEMBERS = {  # name: overrides
    "resnet_small, width 2, 12 x 12": ["model.width=2", "data.image_size=12"],
    "resnet_small, width 4, 28 x 28": ["model.width=4"],
    "resnet_small, width 16, 28 x 28": [],
}

ON_RANKS = {"rounds": 5, "members": 8, "samples": 512, "sizes": 3}


def configured(members: int, samples: int, *words: str) -> Any:
    """The run's configuration."""
    fixed = ["model=bagging", f"model.members={members}", f"data.limit_train={samples}", "data.batch_size=64"]
    fixed += ["data.augment.crop_padding=0"]  # torchensemble changes no image
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


# stacked weights


class Stacked(nn.Module):
    """The members' weights in one tensor for each name."""

    def __init__(self, module: Any, *, channels_last: bool = False, products: bool = False) -> None:
        super().__init__()
        self.module = [module]  # not a part of this one
        self.products = products
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        members = list(module.network.to(memory_format=self.format).members)
        weights, self.statistics = stack_module_state(members)
        self.names = list(weights)
        self.weights = nn.ParameterList(nn.Parameter(value.detach()) for value in weights.values())
        self.base = [members[0]]

    def loss(self, batch: Any) -> Tensor:
        """The sum of the members' losses."""
        weights = dict(zip(self.names, self.weights, strict=True))
        images = batch.inputs.contiguous(memory_format=self.format)

        def logits(own: Any, statistics: Any) -> Tensor:
            return functional_call(self.base[0], (own, statistics), (images,))

        with convolutions_as_products() if self.products else contextlib.nullcontext():
            found = torch.vmap(logits, randomness="different")(weights, self.statistics)  # (M, B, K)
        return loss_of(self.module[0], found, batch)


def loss_of(module: Any, logits: Sequence[Tensor], batch: Any) -> Tensor:
    """The sum of the members' losses from their logits."""
    each = [module.mean_loss(own, batch.targets, module.weights_of(n, batch)) for n, own in enumerate(logits)]
    return torch.stack(each).sum()


@contextlib.contextmanager
def convolutions_as_products() -> Iterator[None]:
    """Convolutions without groups and dilation are matrix products meanwhile."""
    before = nn.Conv2d._conv_forward
    nn.Conv2d._conv_forward = _product  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Conv2d._conv_forward = before  # type: ignore[method-assign]


def _product(layer: Any, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Weights (O, k k C) by patches (k k C, B H' W'): (B, O, H', W')."""
    (height, width), (down, right), (top, left) = layer.kernel_size, layer.stride, layer.padding
    planes = F.pad(images.transpose(0, 1), (left, left, top, top))
    rows, columns = (planes.shape[2] - height) // down + 1, (planes.shape[3] - width) // right + 1
    shifted = [
        planes[:, :, i : i + down * (rows - 1) + 1 : down, j : j + right * (columns - 1) + 1 : right]
        for i in range(height)
        for j in range(width)
    ]
    patches = torch.cat(shifted)  # (k k C, B, H', W')
    found = (weight.permute(0, 2, 3, 1).flatten(1) @ patches.flatten(1)).unflatten(1, patches.shape[1:]).transpose(0, 1)
    return found if bias is None else found + bias[:, None, None]


# another library


def theirs(folder: str, network: nn.Module, members: int, data: Any, config: Any) -> Callable[[], None]:
    """An epoch of torchensemble's BaggingClassifier, which makes its members, optimisers and loaders anew."""
    sys.path.insert(0, folder)
    from torchensemble import BaggingClassifier

    images, labels = data.tensors("train")
    samples = torch.utils.data.TensorDataset(data._normalise(images), labels)
    loader = torch.utils.data.DataLoader(samples, batch_size=config.data.batch_size)
    options = {name: getattr(config.optimizer, name) for name in ("lr", "momentum", "weight_decay")}
    network = copy.deepcopy(network)

    def run() -> None:
        model = BaggingClassifier(estimator=network, n_estimators=members, cuda=False)
        model.set_optimizer("SGD", **options)
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(loader, epochs=1, log_interval=10**9, save_model=False)

    return run


def ways(members: int, samples: int, words: list[str], torchensemble: str) -> dict[str, Callable[[], None]]:
    """By name; the first is what the others are compared with."""
    config = configured(members, samples, *words)
    data = make_data(config)

    def made(*more: str) -> Any:
        return make_module(configured(members, samples, *words, *more), data)

    def losses(module: Any) -> Callable[[Any], Tensor]:
        return lambda batch: sum(module.losses(batch).values())

    def way(module: Any, parameters: nn.Module, loss: Callable[[Any], Tensor]) -> Callable[[], None]:
        optimizer = optimizers.make(parameters, config.optimizer)
        return lambda: epoch(module, data, optimizer, loss)

    alone = [made("model.members=1", f"model.first={number}") for number in range(members)]
    each = [way(module, module.network, losses(module)) for module in alone]
    loop, bagging = made(), made()
    loop._threaded = members, False
    found = {
        "one after the other": lambda: [run() for run in each],
        "loop": way(loop, loop.network, losses(loop)),
        "bagging": way(bagging, bagging.network, losses(bagging)),
    }
    stacking = {"": {}, ", channels last": {"channels_last": True}, ", products": {"products": True}}
    for name, options in stacking.items() if words else ():  # of the largest, products would take 5 GB
        module = made()
        stacked = Stacked(module, **options)
        found[f"vmap{name}"] = way(module, stacked, stacked.loss)
    if torchensemble:
        found["torchensemble"] = theirs(torchensemble, alone[0].network.members[0], members, data, config)
    return found


# over ranks


class Losses(nn.Module):
    """What DDP wraps: a batch -> the sum of a module's losses."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.network, self.module = module.network, [module]  # the list hides what is no network from DDP
        self._ddp_params_and_buffers_to_ignore = module._ddp_params_and_buffers_to_ignore

    def forward(self, batch: Any) -> Tensor:
        """The sum."""
        return torch.stack(list(self.module[0].losses(batch).values())).sum()


def on_rank(rank: int, ranks: int, folder: str, rounds: int, members: int, samples: int, sizes: int) -> None:
    """The ways in turn on a rank; rank 0 prints."""
    set_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    for name, words in list(MEMBERS.items())[:sizes]:
        shared = [*words, f"data.batch_size={64 // ranks}"]
        data = make_data(configured(members, samples // ranks, *shared))
        runs = {}
        for way, more in {"parts": [], "parts, SyncBN": ["norm=sync_batch"], "spread": []}.items():
            config = configured(members, samples // ranks, *shared, *more)
            module = make_module(config, data)
            if way != "spread":
                module._each = functools.partial(EnsembleClassification._each, module)
            wrapped = nn.parallel.DistributedDataParallel(Losses(module), gradient_as_bucket_view=True)
            optimizer = optimizers.make(module.network, config.optimizer)
            runs[way] = functools.partial(epoch, module, data, optimizer, wrapped)
        times: dict[str, list[float]] = {way: [] for way in runs}
        for number in range(rounds + 1):  # the first is not counted
            for way, run in list(runs.items())[:: (-1) ** number]:
                dist.barrier()
                begun = time.perf_counter()
                run()
                dist.barrier()
                if number:
                    times[way].append(time.perf_counter() - begun)
        if rank == 0:
            print(f"{members} x {name}, {samples} samples, {ranks} ranks")
            for way, taken in times.items():
                ratios = [other / own for other, own in zip(times["parts, SyncBN"], taken, strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                print(f"  {way:20s} {statistics.median(taken):7.2f} s   {spread} times as fast as SyncBN", flush=True)
    dist.destroy_process_group()


def main(
    rounds: int = 5, threads: int = 2, members: int = 8, samples: int = 512, sizes: int = 3, torchensemble: str = ""
) -> None:
    set_threads(threads)
    for name, words in list(MEMBERS.items())[:sizes]:
        compared = ways(members, samples, words, torchensemble)
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in compared}
        for number in range(rounds + 1):  # the first is not counted
            for way, run in list(compared.items())[:: (-1) ** number]:
                begun = time.perf_counter(), time.process_time()
                run()
                if number:
                    times[way].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        print(f"{members} x {name}, {samples} samples, {threads} threads")
        base = times["one after the other"]
        for way, taken in times.items():
            ratios = [other[0] / own[0] for other, own in zip(base, taken, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            wall, processor = (statistics.median(column) for column in zip(*taken, strict=True))
            print(f"  {way:20s} {wall:7.2f} s, {processor:7.2f} s of processor   {spread} times as fast", flush=True)


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    options: Any = {name: value if name == "torchensemble" else int(value) for name, value in given.items()}
    if "ranks" in options:
        sizes = [options.get(name, default) for name, default in ON_RANKS.items()]
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(on_rank, (options["ranks"], folder, *sizes), nprocs=options["ranks"])
    else:
        main(**options)
