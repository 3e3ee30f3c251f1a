"""Multiply-adds against speed: what the small backbones cost on paper, and how fast they are on this machine.

Every paper's small network, 28 x 28 pixels of one channel, channels last: inference, and forward with backward, all
networks in turn, several rounds. Writes ``mac_speed.csv`` and the picture ``mac_speed.svg`` and ``.png``: images/s
against multiply-adds and, where accuracies are given, accuracy against images/s and against multiply-adds.

    python benchmarks/mac_speed.py [rounds=15] [threads=2] [batch=64] [clock=wall|cpu] [out=runs/mac_speed]
                                   [accuracies=<file.csv> | runs=<folder>]

``accuracies`` has columns ``network`` and ``top1`` (from 0 to 1), a row a run. ``runs`` is a folder of runs on one data
set and for as many epochs each: the last epoch's test accuracy of those that finished. ``clock=cpu`` with ``threads=1``
counts this process's time alone, on a machine that others use too.
"""

import csv
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from paperzoo import cards
from paperzoo.accounting import count
from paperzoo.accounting.speed import interleaved, interval
from paperzoo.errors import UserError
from paperzoo.runs import record

SIZE = (1, 28, 28)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
DEFAULTS = {
    "rounds": "15",
    "threads": "2",
    "batch": "64",
    "clock": "wall",
    "out": "runs/mac_speed",
    "accuracies": "",
    "runs": "",
}


def networks() -> dict[str, nn.Module]:
    """The small network of every backbone paper."""
    slugs = [slug for slug in cards.slugs() if "backbone" in cards.load(slug).kinds]
    for slug in slugs:
        import_module(f"paperzoo.papers.{slug}")
    small = [f"{slug}_small" for slug in slugs if cards.load(slug).network(f"{slug}_small")]
    return {name: timm.create_model(name, in_chans=1) for name in small}


def measure(batch: int, rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """A row a network: counts, and images/s (median, 95 % interval) of inference and of a training step."""
    images = torch.rand(batch, *SIZE).contiguous(memory_format=torch.channels_last)
    made = networks()
    calls: dict[str, Callable[[], Any]] = {}
    for name, network in made.items():
        network.to(memory_format=torch.channels_last).train()
        calls[f"{name} training"] = lambda network=network: step(network, images)
        calls[f"{name} inference"] = lambda network=network: infer(network, images)
    times = interleaved(calls, rounds, clock=clock)
    rows = []
    for name, network in made.items():
        row: dict[str, Any] = {"network": name, **count(network, SIZE)._asdict()}
        for kind in ("training", "inference"):
            speeds = [batch / seconds for seconds in times[f"{name} {kind}"]]
            low, high = interval(speeds)
            row |= {kind: statistics.median(speeds), f"{kind}_low": low, f"{kind}_high": high}
        rows.append(row)
    return rows


def step(network: nn.Module, images: torch.Tensor) -> None:
    """One forward and backward pass."""
    network.train().zero_grad()
    network(images).sum().backward()


def infer(network: nn.Module, images: torch.Tensor) -> None:
    """One forward pass in evaluation."""
    with torch.inference_mode():
        network.eval()(images)


def accuracies_of_file(path: Path) -> dict[str, list[float]]:
    """Test accuracies by network, of a CSV file."""
    found = defaultdict(list)
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                found[row["network"]].append(float(row["top1"]))
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"accuracies={path}: must be a CSV file with columns network and top1 ({error!r})") from None
    return found


def accuracies_of_runs(folder: Path) -> dict[str, list[float]]:
    """Test accuracies by network, of finished runs.

    Raises:
        UserError: there is none, or they are not comparable.
    """
    found, conditions = defaultdict(list), set()
    for path in sorted(folder.glob(f"*/*/*/{record.FILE}")):
        entry = record.read(path.parent)
        if entry.status == "finished":
            conditions.add((entry.data.fingerprint, entry.config["trainer"]["max_epochs"]))
            found[entry.config["model"]["network"]].append(entry.results["last"].metrics["test/top1"])
    if len(conditions) != 1:
        raise UserError(f"runs={folder}: finished runs of one data set and number of epochs are needed, there are"
                        f" {len(conditions)} kinds")  # fmt: skip
    return found


def picture(rows: list[dict[str, Any]], title: str, out: Path) -> None:
    """The panels, one marker a network."""
    scored = any(row["runs"] for row in rows)
    figure = Figure(figsize=(15 if scored else 7.5, 4.6), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 3 if scored else 1, squeeze=False)[0]
    scatter(panels[0], rows, "macs", "training", "MACs (millions)", "images/s, forward and backward")
    if scored:
        scatter(panels[1], rows, "training", "top1", "images/s, forward and backward", "test top-1 (%)")
        scatter(panels[2], rows, "macs", "top1", "MACs (millions)", "test top-1 (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.savefig(out.with_suffix(".png"), dpi=110)
    figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})


def scatter(axes: Axes, rows: list[dict[str, Any]], x: str, y: str, x_label: str, y_label: str) -> None:
    """A marker a network, with the interval of its speed."""
    for index, row in enumerate(rows):
        if row[y] is None or row[x] is None:
            continue
        scale = {"macs": 1e-6, "top1": 100, "training": 1}
        errors = {axis: spread(row, key) for axis, key in (("xerr", x), ("yerr", y)) if key == "training"}
        look = {"marker": MARKERS[index // len(COLORS)], "color": COLORS[index % len(COLORS)], "markersize": 7}
        label = row["network"].removesuffix("_small")
        axes.errorbar(row[x] * scale[x], row[y] * scale[y], **errors, **look, linestyle="none", capsize=2, label=label)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def spread(row: dict[str, Any], kind: str) -> list[list[float]]:
    """The interval of a speed, as matplotlib takes it."""
    return [[row[kind] - row[f"{kind}_low"]], [row[f"{kind}_high"] - row[kind]]]


def main(rounds: str, threads: str, batch: str, clock: str, out: str, accuracies: str, runs: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(int(threads))
    scores: dict[str, list[float]] = {}
    if accuracies:
        scores = accuracies_of_file(Path(accuracies))
    elif runs:
        scores = accuracies_of_runs(Path(runs))
    rows = measure(int(batch), int(rounds), CLOCKS[clock])
    for row in rows:
        own = scores.get(row["network"], [])
        row |= {"top1": statistics.mean(own) if own else None, "runs": len(own)}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "mac_speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    title = f"28 x 28 pixels, batches of {batch}, {threads} threads, {rounds} rounds, torch {torch.__version__}"
    picture(rows, title, folder / "mac_speed")
    print(title)
    print(f"{'network':22}{'MACs':>8}{'accessed':>10}{'others':>8}{'training':>24}{'inference':>26}  top-1")
    for row in sorted(rows, key=lambda row: -row["training"]):
        speeds = "".join(
            f"{row[kind]:10.0f} [{row[f'{kind}_low']:.0f}, {row[f'{kind}_high']:.0f}]".rjust(25)
            for kind in ("training", "inference")
        )
        accuracy = f"{100 * row['top1']:.1f} % (n={row['runs']})" if row["runs"] else ""
        millions = f"{row['macs'] / 1e6:6.1f} M{row['accesses'] / 1e6:8.2f} M{row['other_accesses'] / 1e6:6.2f} M"
        print(f"{row['network']:22}{millions}{speeds}  {accuracy}")
    print(f"images/s with 95 % intervals; {folder / 'mac_speed.csv'}, .svg, .png")


if __name__ == "__main__":
    try:
        main(**DEFAULTS | dict(word.split("=", 1) for word in sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
