"""Forward and backward time of SCNet, Res2Net, ShuffleNet V1 and V2 against the fastest public implementation.

Public are timm's and torchvision's network, and the official repository's order of layers, written out below; each in
both memory formats, with the same weights. Ours runs in the format that ``trainer.channels_last: null`` chooses on a
CPU. Each round takes every arm once, in another order; the fastest public arm is that of the least median. Prints the
median in ms and the ratio of ours to it, by rounds: the median and its 95 % interval (bootstrap of the rounds).

    python benchmarks/backbones.py [rounds=15] [threads=2] [batch=16] [size=96] [clock=wall|cpu] [only=<network>]

``clock=cpu`` with ``threads=1`` is for a machine that others use too: it counts this process's time alone.

Goal: the interval of every ratio ends at or below 1.05.

What ours does: SCNet's gate is made in place, and convolutions that read the same map are one. Res2Net is timm's,
whose splits are joined once. ShuffleNet V1 shuffles in one movement of the data along its memory format, and adds and
rectifies in place. V2's concatenation, shuffle and split are one movement: one half stays a view until the end of the
unit, the other is gathered once for its convolution (torchvision's form: one interleaving).
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.models.res2net import Bottle2neck
from torch import Tensor, nn

import paperzoo.papers.res2net  # noqa: F401 (registers its networks)
from paperzoo.accounting import speed
from paperzoo.papers.scnet import SCBottleneck, SCConv
from paperzoo.papers.shufflenet_v1 import ShuffleUnit
from paperzoo.papers.shufflenet_v2 import SplitUnit

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
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


def official_shuffle_unit(unit: ShuffleUnit, x: Tensor) -> Tensor:
    """megvii-model/ShuffleNet-Series, V1: the shuffle as reshape, permute, reshape; sum and ReLU in new memory."""
    y = unit.branch_main_1(x)
    batch, chans, high, wide = y.shape
    if unit.groups > 1:
        y = y.reshape(batch, chans // unit.groups, unit.groups, high, wide)
        y = y.permute(0, 2, 1, 3, 4).reshape(batch, chans, high, wide)
    y = unit.branch_main_2(y)
    return torch.cat([unit.branch_proj(x), F.relu(y)], 1) if unit.joins else F.relu(x + y)


def official_split_unit(unit: SplitUnit, x: Tensor) -> Tensor:
    """megvii-model/ShuffleNet-Series, V2: shuffle and split as one permutation of (pairs, 2, pixels)."""
    if not unit.splits:
        return torch.cat([unit.branch_proj(x), unit.branch_main(x)], 1)
    batch, chans, high, wide = x.shape
    pairs = x.reshape(batch * chans // 2, 2, high * wide).permute(1, 0, 2)
    passing, convolved = pairs.reshape(2, -1, chans // 2, high, wide)
    return torch.cat([passing, unit.branch_main(convolved)], 1)


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


def shufflenet_v1(name: str) -> Callable[[], nn.Module]:
    """megvii-model/ShuffleNet-Series' V1."""
    return lambda: in_official_order(timm.create_model(name), ShuffleUnit, official_shuffle_unit)


def shufflenet_v2(name: str) -> Callable[[], nn.Module]:
    """megvii-model/ShuffleNet-Series' V2."""
    return lambda: in_official_order(timm.create_model(name), SplitUnit, official_split_unit)


OFFICIAL = "official order"
# Ours by its name in timm's registry: the public ones, whose parameters come in the same order.
NETWORKS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "scnet50": {OFFICIAL: scnet("scnet50")},
    "scnet50_v1d": {OFFICIAL: scnet("scnet50_v1d")},
    "res2net50_26w_4s": {"timm": timm.models.res2net50_26w_4s, OFFICIAL: res2net(timm.models.res2net50_26w_4s)},
    "res2net50_v1b_26w_4s": {"timm": timm.models.res2net50d, OFFICIAL: res2net(timm.models.res2net50d)},
    "res2next50": {"timm": timm.models.res2next50, OFFICIAL: res2net(timm.models.res2next50)},
    "shufflenet_v1_g3_1_0x": {OFFICIAL: shufflenet_v1("shufflenet_v1_g3_1_0x")},
    "shufflenet_v1_g8_1_0x": {OFFICIAL: shufflenet_v1("shufflenet_v1_g8_1_0x")},
    "shufflenet_v2_1_0x": {OFFICIAL: shufflenet_v2("shufflenet_v2_1_0x")},
    "shufflenet_v2_x1_0": {"torchvision": torchvision.models.shufflenet_v2_x1_0},
}


class Arm(NamedTuple):
    """A network and an image batch, in one memory format."""

    network: nn.Module
    images: Tensor

    def step(self) -> None:
        """One forward and backward pass."""
        self.network.zero_grad()
        self.network(self.images).sum().backward()


def arms(name: str, images: Tensor) -> dict[str, Arm]:
    """Ours and the public ones, with equal weights and, in training, outputs."""
    ours = timm.create_model(name, **({} if name.startswith("shufflenet") else {"zero_init_last": False}))
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


def measure(name: str, images: Tensor, rounds: int, clock: Callable[[], float]) -> tuple[dict[str, float], list[float]]:
    """Seconds of each arm (median), and the ratios of ours to the fastest other by rounds."""
    made = arms(name, images)
    times = speed.interleaved({label: arm.step for label, arm in made.items()}, rounds, clock=clock)
    medians = {label: statistics.median(values) for label, values in times.items()}
    fastest = min((label for label in made if label != "ours"), key=medians.__getitem__)
    return medians, speed.ratios(times["ours"], times[fastest])


def main(rounds: str, threads: str, batch: str, size: str, clock: str, only: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(int(threads))
    images = torch.randn(int(batch), 3, int(size), int(size))
    print(f"{batch} x 3 x {size} x {size}, {threads} threads, {rounds} rounds, {clock} clock; ms of one step")
    for name in [only] if only else NETWORKS:
        medians, ratios = measure(name, images, int(rounds), CLOCKS[clock])
        low, high = speed.interval(ratios)
        print(f"{name}: ratio {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}]")
        for label, seconds in sorted(medians.items(), key=lambda item: item[1]):
            print(f"  {label:30} {1000 * seconds:8.1f}", flush=True)


if __name__ == "__main__":
    given = {"rounds": "15", "threads": "2", "batch": "16", "size": "96", "clock": "wall", "only": ""}
    main(**given | dict(word.split("=") for word in sys.argv[1:]))
