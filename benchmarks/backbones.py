"""Forward and backward time of the backbones against the fastest public implementation.

Public are timm's and torchvision's network, and the official repository's order of layers, written out below; each in
both memory formats, with the same weights. Ours runs in the format that ``trainer.channels_last: null`` chooses on a
CPU. Each round takes every arm once, in another order; the fastest public arm is that of the least median. Prints the
median in ms and the ratio of ours to it, by rounds: the median and its 95 % interval (bootstrap of the rounds).

    python benchmarks/backbones.py [rounds=15] [threads=2] [batch=16] [size=96] [clock=wall|cpu] [only=<network>]

``clock=cpu`` with ``threads=1`` is for a machine that others use too: it counts this process's time alone.

Goal: the interval of every ratio ends at or below 1.05.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models.res2net import Bottle2neck
from torch import Tensor, nn

import paperzoo.papers.res2net  # noqa: F401 (registers its networks)
from paperzoo.papers.scnet import SCBottleneck, SCConv

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DRAWS = 2000
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


# The official order of layers, as a forward pass over our modules.


def official_scconv(layer: SCConv, x: Tensor) -> Tensor:
    """MCG-NKU/SCNet: the gate in new memory at every step."""
    gate = torch.sigmoid(torch.add(x, F.interpolate(layer.k2(x), x.shape[2:])))
    return layer.k4(torch.mul(layer.k3(x), gate))


def official_scbottleneck(block: SCBottleneck, x: Tensor) -> Tensor:
    """MCG-NKU/SCNet: two convolutions of x, and the halves pooled (v1d) before they are joined."""
    a = block.act(block.bn1_a(block.conv1_a(x)))
    b = block.act(block.bn1_b(block.conv1_b(x)))
    a = block.pool(block.act(block.k1(a)))
    b = block.pool(block.act(official_scconv(block.scconv, b)))
    y = block.bn3(block.conv3(torch.cat([a, b], dim=1)))
    y += block.downsample(x)
    return block.act(y)


def official_bottle2neck(block: Bottle2neck, x: Tensor) -> Tensor:
    """Res2Net-PretrainedModels: what the splits put out is joined one by one."""
    splits = torch.split(block.relu(block.bn1(block.conv1(x))), block.width, 1)
    out = y = splits[0]
    for i in range(block.num_scales):
        y = splits[i] if not i or block.is_first else y + splits[i]
        y = block.relu(block.bns[i](block.convs[i](y)))
        out = torch.cat((out, y), 1) if i else y
    last = splits[block.num_scales]
    out = torch.cat((out, last if block.pool is None else block.pool(last)), 1)
    out = block.bn3(block.conv3(out))
    out += x if block.downsample is None else block.downsample(x)
    return block.relu(out)


def in_official_order(network: nn.Module, block: type[nn.Module], forward: Callable[..., Tensor]) -> nn.Module:
    """Every such block computes in the order given."""
    for module in network.modules():
        if isinstance(module, block):
            module.forward = lambda x, module=module: forward(module, x)
    return network


def scnet(name: str) -> Callable[[], nn.Module]:
    """MCG-NKU/SCNet's network."""
    return lambda: in_official_order(timm.create_model(name), SCBottleneck, official_scbottleneck)


def res2net(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Res2Net-PretrainedModels' network."""
    return lambda: in_official_order(make(), Bottle2neck, official_bottle2neck)


OFFICIAL = "official order"
# Ours by its name in timm's registry: the public ones, whose parameters come in the same order.
NETWORKS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "scnet50": {OFFICIAL: scnet("scnet50")},
    "scnet50_v1d": {OFFICIAL: scnet("scnet50_v1d")},
    "res2net50_26w_4s": {"timm": timm.models.res2net50_26w_4s, OFFICIAL: res2net(timm.models.res2net50_26w_4s)},
    "res2net50_v1b_26w_4s": {"timm": timm.models.res2net50d, OFFICIAL: res2net(timm.models.res2net50d)},
    "res2next50": {"timm": timm.models.res2next50, OFFICIAL: res2net(timm.models.res2next50)},
}


class Arm(NamedTuple):
    """A network and an image batch, in one memory format."""

    network: nn.Module
    images: Tensor

    def seconds(self, clock: Callable[[], float]) -> float:
        """One forward and backward pass."""
        self.network.zero_grad()
        start = clock()
        self.network(self.images).sum().backward()
        return clock() - start


def arms(name: str, images: Tensor) -> dict[str, Arm]:
    """Ours and the public ones, with equal weights and, in training, outputs."""
    ours = timm.create_model(name, zero_init_last=False)
    made = {"ours": Arm(ours, images)}
    for public, make in NETWORKS[name].items():
        for layout in FORMATS:
            network = make()
            network.load_state_dict(
                dict(zip(network.state_dict(), ours.state_dict().values(), strict=True)), strict=True
            )
            made[f"{public}, {layout}"] = Arm(network, images)
    expected = ours(images).detach()
    for label, arm in made.items():
        torch.testing.assert_close(arm.network(images).detach(), expected, rtol=1e-2, atol=1e-3)
        layout = FORMATS["contiguous" if label.endswith("contiguous") else "channels last"]
        made[label] = Arm(arm.network.to(memory_format=layout), images.contiguous(memory_format=layout))
    return made


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % of the median: percentiles of bootstrap draws."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
    return medians[int(0.025 * DRAWS)], medians[int(0.975 * DRAWS) - 1]


def measure(name: str, images: Tensor, rounds: int, clock: Callable[[], float]) -> tuple[dict[str, float], list[float]]:
    """Seconds of each arm (median), and the ratios of ours to the fastest other by rounds."""
    made = arms(name, images)
    times: dict[str, list[float]] = {label: [] for label in made}
    order = list(made)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for label in order:
            taken = made[label].seconds(clock)
            if number:  # the first warms up
                times[label].append(taken)
    medians = {label: statistics.median(values) for label, values in times.items()}
    fastest = min((label for label in made if label != "ours"), key=medians.__getitem__)
    return medians, [one / other for one, other in zip(times["ours"], times[fastest], strict=True)]


def main(rounds: str, threads: str, batch: str, size: str, clock: str, only: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(int(threads))
    images = torch.randn(int(batch), 3, int(size), int(size))
    print(f"{batch} x 3 x {size} x {size}, {threads} threads, {rounds} rounds, {clock} clock; ms of one step")
    for name in [only] if only else NETWORKS:
        medians, ratios = measure(name, images, int(rounds), CLOCKS[clock])
        low, high = interval(ratios)
        print(f"{name}: ratio {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]")
        for label, seconds in sorted(medians.items(), key=lambda item: item[1]):
            print(f"  {label:30} {1000 * seconds:8.1f}", flush=True)


if __name__ == "__main__":
    given = {"rounds": "15", "threads": "2", "batch": "16", "size": "96", "clock": "wall", "only": ""}
    main(**given | dict(word.split("=") for word in sys.argv[1:]))
