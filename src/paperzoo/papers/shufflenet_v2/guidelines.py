"""The paper's four guidelines (Sec. 2), each as networks of equal multiply-adds that differ in what it is about.

Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018. Memory accesses (the paper's MAC) are counted, speed is measured.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from paperzoo.accounting import Count, count
from paperzoo.accounting.speed import interleaved, interval, ratios

SIZE, BATCH = 28, 4  # pixels of a map's side, images
DEPTH = 20  # pointwise convolutions of 96 channels that cost what every arm of G1 to G3 does
ROUNDS, SECONDS = 60, 17.0


class Arm(NamedTuple):
    """A network, and the channels that it takes."""

    chans: int
    build: Callable[[], nn.Module]


class Guideline(NamedTuple):
    """What the paper says, and arms of equal multiply-adds, of which the first should be the fastest."""

    says: str
    formula: str
    arms: dict[str, Arm]


class Branches(nn.Module):
    """The sum of parallel pointwise convolutions."""

    def __init__(self, chans: int, fragments: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_pointwise(chans, chans) for _ in range(fragments))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y += branch(x)
        return y


class Bottleneck(nn.Module):
    """ResNet's unit without normalisation, with and without its element-wise operations."""

    def __init__(self, chans: int, relu: bool, shortcut: bool) -> None:
        super().__init__()
        mid = chans // 4
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.shortcut = shortcut
        self.convs = nn.Sequential(
            _pointwise(chans, mid),
            self.relu,
            nn.Conv2d(mid, mid, 3, padding=1, bias=False),
            self.relu,
            _pointwise(mid, chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        y = self.convs(x)
        if self.shortcut:
            y += x
        return self.relu(y)


def _pointwise(chans: int, out: int, groups: int = 1) -> nn.Module:
    """With weights that keep the spread: torch's would shrink 180 layers' numbers to subnormals, slow by themselves."""
    conv = nn.Conv2d(chans, out, 1, groups=groups, bias=False)
    nn.init.normal_(conv.weight, std=(groups / chans) ** 0.5)
    return conv


def _stack(layers: int, layer: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(*(layer() for _ in range(layers)))


def _widths(one: int, other: int) -> Arm:
    pair = lambda: nn.Sequential(_pointwise(one, other), _pointwise(other, one))  # noqa: E731
    return Arm(one, lambda: _stack(DEPTH // 2, pair))


def _grouped(chans: int, groups: int) -> Arm:
    return Arm(chans, lambda: _stack(DEPTH, lambda: _pointwise(chans, chans, groups)))


def _series(chans: int, fragments: int) -> Arm:
    return Arm(chans, lambda: _stack(DEPTH * fragments, lambda: _pointwise(chans, chans)))


def _parallel(chans: int, fragments: int) -> Arm:
    return Arm(chans, lambda: _stack(DEPTH, lambda: Branches(chans, fragments)))


def _elementwise(relu: bool, shortcut: bool) -> Arm:
    return Arm(128, lambda: _stack(DEPTH // 2, lambda: Bottleneck(128, relu, shortcut)))


GUIDELINES = {
    "G1": Guideline(
        "equal channel width minimises memory accesses",
        "accesses = hw(c1 + c2) + c1 c2 >= 2 sqrt(hw B) + B / hw, equal where c1 = c2; B = hw c1 c2",
        {
            "c1:c2 = 1:1 (96, 96)": _widths(96, 96),
            "1:4 (48, 192)": _widths(48, 192),
            "1:9 (32, 288)": _widths(32, 288),
            "1:16 (24, 384)": _widths(24, 384),
        },
    ),
    "G2": Guideline(
        "excessive group convolution increases memory accesses",
        "accesses = hw(c1 + c2) + c1 c2 / g = hw c1 + B g / c1 + B / hw; B = hw c1 c2 / g",
        {
            "g = 1 (96 channels)": _grouped(96, 1),
            "g = 4 (192 channels)": _grouped(192, 4),
            "g = 9 (288 channels)": _grouped(288, 9),
            "g = 16 (384 channels)": _grouped(384, 16),
        },
    ),
    "G3": Guideline(
        "network fragmentation reduces the degree of parallelism",
        "n convolutions of c / sqrt(n) channels in place of one of c: n (c / sqrt(n))^2 = c^2",
        {
            "1 fragment (96 channels)": _series(96, 1),
            "4 in series (48 channels)": _series(48, 4),
            "4 in parallel, summed (48)": _parallel(48, 4),
            "9 in series (32 channels)": _series(32, 9),
            "9 in parallel, summed (32)": _parallel(32, 9),
        },
    ),
    "G4": Guideline(
        "element-wise operations are not negligible",
        "no multiply-adds; a ReLU of hw c numbers accesses 2 hw c, a sum 3 hw c",
        {
            "bottleneck, neither": _elementwise(False, False),
            "with ReLU": _elementwise(True, False),
            "with shortcut": _elementwise(False, True),
            "with both": _elementwise(True, True),
        },
    ),
}


class Row(NamedTuple):
    """An arm, counted and measured."""

    counted: Count
    per_second: float  # images: of the first arm the median of the rounds, of the others that times their speed
    speed: list[float]  # to that of the first arm, round by round


def show() -> None:
    """Measure all arms in turn, and print the page."""
    rows = measure()
    console = Console(highlight=False)
    threads = torch.get_num_threads()
    console.print(
        Text(
            "ShuffleNet V2's guidelines: networks of equal multiply-adds (MACs), at other speeds. Numbers accessed are"
            f" per image: of convolutions, and of all other operations. Inference, {BATCH} x {SIZE} x {SIZE} pixels,"
            f" float32, channels last, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__};"
            f" {len(next(iter(rows['G1'].values())).speed)} rounds of all variants in turn. Speed: that of"
            " the first variant is 1, median of the rounds' ratios with 95 % interval; images/s are its images/s times"
            " the speed."
        )
    )
    for name, guideline in GUIDELINES.items():
        console.print(Text.assemble(("\n" + name, "bold"), f": {guideline.says}\n{guideline.formula}\n"))
        console.print(_table(rows[name]))
        console.print(Text(verdict(rows[name])))


def measure(rounds: int = ROUNDS, budget: float | None = SECONDS) -> dict[str, dict[str, Row]]:
    """Count every arm, and time it beside all others.

    Args:
        rounds, budget: see ``accounting.speed.interleaved``.
    """
    counted: dict[str, dict[str, Count]] = {name: {} for name in GUIDELINES}
    calls = {}
    for name, guideline in GUIDELINES.items():
        for label, arm in guideline.arms.items():
            network = arm.build().eval().to(memory_format=torch.channels_last)
            images = torch.rand(BATCH, arm.chans, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
            counted[name][label] = count(network, (arm.chans, SIZE, SIZE))
            calls[f"{name} {label}"] = lambda network=network, images=images: network(images)
    with torch.inference_mode():
        times = interleaved(calls, rounds, budget=budget)
    return {
        name: {label: _row(counted[name][label], times, name, label) for label in guideline.arms}
        for name, guideline in GUIDELINES.items()
    }


def _row(counted: Count, times: dict[str, list[float]], name: str, label: str) -> Row:
    first = times[f"{name} {next(iter(GUIDELINES[name].arms))}"]
    speed = ratios(first, times[f"{name} {label}"])
    # A median of rounds beside a median of ratios could say that of two arms each is the faster.
    return Row(counted, BATCH / statistics.median(first) * statistics.median(speed), speed)


def verdict(rows: dict[str, Row]) -> str:
    """Whether the first arm is the fastest, as far as the rounds can tell."""
    first, *others = rows
    intervals = {label: interval(rows[label].speed) for label in others}
    if faster := [label for label, (low, _) in intervals.items() if low > 1]:
        return f"Does not hold here: faster than {first} is {', '.join(faster)}."
    if equal := [label for label, (_, high) in intervals.items() if high >= 1]:
        return f"Not certain here: no difference is seen between {first} and {', '.join(equal)}."
    return f"Holds here: {first} is the fastest."


def _table(rows: dict[str, Row]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("variant", no_wrap=True, min_width=26)
    for title in ("MACs", "accessed", "others", "images/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("speed", overflow="fold")
    for label, row in rows.items():
        low, high = interval(row.speed)
        millions = (f"{number / 1e6:.1f} M" for number in (row.counted.accesses, row.counted.other_accesses))
        speed = f"{statistics.median(row.speed):.2f}" + (f" [{low:.2f}, {high:.2f}]" if set(row.speed) != {1} else "")
        table.add_row(label, f"{row.counted.macs / 1e6:.0f} M", *millions, f"{row.per_second:.0f}", speed)
    return table
