"""What synchronising batch normalisation costs: two gloo ranks of one thread each, maps of (32, 64, 32, 32).

In turn: torch's BatchNorm2d on each rank by itself; SyncBatchNorm; and native's protocol (an all-gather of mean,
inverse deviation and count) over the same kernels. Prints times, the rounds' ratios (median and middle half), and the
collectives and bytes of one layer.

    python benchmarks/sync_bn.py [rounds=7]

Goals: one collective forward and one backward; at most 1.8 times the local layer's time, and not slower than native's
protocol.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from norms import keep_memory
from torch import Tensor, nn

from paperzoo.norms import SyncBatchNorm, sync

SHAPE, STEPS, RANKS = (32, 64, 32, 32), 20, 2
LOCAL, NATIVE = "local BatchNorm2d", "native's protocol"


def gathered_moments(count: int, shift: Tensor, first: Tensor, second: Tensor, group: Any) -> tuple[Tensor, ...]:
    """Native's protocol: every rank's mean, inverse deviation and count, gathered; in float32 as torch has it."""
    mean, rest = shift + first / count, first / count
    invstd = (second / count - rest.square() + 1e-5).rsqrt()
    mine = torch.cat([mean, invstd, torch.full((1,), float(count))]).float()
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    table = torch.stack(everyone).double()
    channels = len(shift)
    counts = table[:, -1:]
    variances = table[:, channels:-1].pow(-2) - 1e-5
    n = counts.sum(0)
    m = (counts * table[:, :channels]).sum(0) / n
    v = (counts * (variances + table[:, :channels].square())).sum(0) / n - m.square()
    return n, m, v.clamp_min(0)


class Counted:
    """Counts the collectives of ``torch.distributed`` and the bytes that a rank hands to them."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0
        for name, place in (("all_reduce", 0), ("all_gather", 1)):
            setattr(dist, name, self._counting(getattr(dist, name), place))

    def _counting(self, function: Any, place: int) -> Any:
        def wrapper(*args: Any, **options: Any) -> Any:
            self.calls += 1
            self.bytes += args[place].numel() * args[place].element_size()
            return function(*args, **options)

        return wrapper


def milliseconds(layer: nn.Module, x: Tensor, dy: Tensor) -> float:
    """One step, all ranks starting together."""
    x.grad = None
    dist.barrier()
    start = time.perf_counter()
    layer(x).backward(dy)
    return 1000 * (time.perf_counter() - start)


def ratio(values: list[float], bases: list[float]) -> str:
    """The median of the rounds' ratios, and the middle half of them."""
    quarters = statistics.quantiles([v / b for v, b in zip(values, bases, strict=True)], n=4)
    return f"{quarters[1]:5.2f} ({quarters[0]:.2f} to {quarters[2]:.2f})"


def measure(rank: int, store: str, rounds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    ours, native = sync.moments_of_all, gathered_moments
    arms = {LOCAL: (nn.BatchNorm2d(64), ours), "SyncBatchNorm": (SyncBatchNorm(64), ours),
            NATIVE: (SyncBatchNorm(64), native)}  # fmt: skip
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(SHAPE).to(memory_format=memory_format).requires_grad_()
        dy = torch.randn(SHAPE).to(memory_format=memory_format)
        times: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(rounds + 1):
            steps: dict[str, list[float]] = {name: [] for name in arms}
            for step in range(STEPS):  # the arms in turn at each step, so that all see the same disturbances
                for name, (layer, moments) in list(arms.items())[:: (-1) ** step]:
                    sync.moments_of_all = moments
                    steps[name].append(milliseconds(layer, x, dy))
            for name, taken in steps.items():
                times[name] += [statistics.median(taken)] * bool(number)  # the first round warms up
        if rank == 0:
            print(f"\n{str(memory_format).removeprefix('torch.')}, {RANKS} ranks of one thread, {rounds} rounds")
            for name, values in times.items():
                ratios = f"of local {ratio(values, times[LOCAL])}   of native's {ratio(values, times[NATIVE])}"
                print(f"{name:18} {statistics.median(values):7.2f} ms   {ratios}")
    counted = Counted()
    for name, (layer, moments) in arms.items():
        sync.moments_of_all = moments
        counted.calls = counted.bytes = 0
        y = layer(x)
        forward = counted.calls, counted.bytes
        y.backward(dy)
        if rank == 0:
            print(f"{name:18} forward {forward[0]} collective(s), {forward[1]} bytes; backward "
                  f"{counted.calls - forward[0]}, {counted.bytes - forward[1]} bytes")  # fmt: skip
    dist.destroy_process_group()


if __name__ == "__main__":
    keep_memory()
    given = dict(word.split("=") for word in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(measure, (str(Path(folder) / "store"), int(given.get("rounds", 7))), RANKS)
