"""What a run shows in the terminal: a live bar, a row per epoch, a summary. Plain lines where there is no terminal."""

import os
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

REFRESH = 0.1  # seconds between two updates of the bar: a step must not pay for it
WIDTHS = {
    "epoch": 7,
    "train loss": 10,
    "train {headline}": 10,
    "val loss": 9,
    "val {headline}": 9,
    "lr": 9,
    "images/s": 9,
    "time": 8,
}
SHARES = ("top", "miou", "pixel_accuracy", "class_accuracy")  # metrics that are shown in %


class Display:
    """The terminal of a run; a silent one for every rank but the first."""

    def __init__(self, *, silent: bool = False) -> None:
        width = None if os.environ.get("COLUMNS") or Console().is_terminal else 110  # a pipe has no width of its own
        self.console = Console(quiet=silent, highlight=False, width=width)
        self.progress: Progress | None = None
        self.drawn = 0.0

    def line(self, text: str) -> None:
        """One line of text."""
        self.console.print(text, soft_wrap=True)

    def start(self, epochs: int, headline: str) -> None:
        """Show the header of the table of epochs, with the metric that counts, and the bar."""
        self.epochs, self.headline = epochs, headline
        self.line("".join(f"{name.format(headline=headline):>{width + 1}}" for name, width in WIDTHS.items()))
        if self.console.is_terminal and not self.console.quiet:
            columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[rate]:.0f} images/s")
            last = (TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn())
            self.progress = Progress(*columns, *last, console=self.console, auto_refresh=False, transient=True)
            self.progress.start()
            self.task = self.progress.add_task("", total=None, rate=0.0, loss=float("nan"))

    def step(self, epoch: int, done: int, of: int, rate: float, loss: float) -> None:
        """Move the bar, at most ten times a second."""
        if self.progress is None or time.monotonic() - self.drawn < REFRESH:
            return
        self.drawn = time.monotonic()
        self.progress.update(
            self.task, description=f"epoch {epoch + 1}/{self.epochs}", completed=done, total=of, rate=rate, loss=loss
        )
        self.progress.refresh()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """A row of the table of epochs."""
        cells = (
            f"{row['epoch']}/{self.epochs}",
            f"{row['train/loss']:.4f}",
            _percent(row[f"train/{self.headline}"]),
            f"{row['val/loss']:.4f}" if "val/loss" in row else "",
            _percent(row[f"val/{self.headline}"]) if f"val/{self.headline}" in row else "",
            f"{row['lr']:.3g}",
            f"{row['images_per_second']:.0f}",
            f"{row['seconds']:.1f} s",
        )
        self.line("".join(f"{cell:>{width + 1}}" for cell, width in zip(cells, WIDTHS.values(), strict=True)))

    def stop(self) -> None:
        """Take the bar away."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def results(self, results: Mapping[str, tuple[int, Mapping[str, float]]]) -> None:
        """A table of the test metrics of each set of weights: ``{"last": (epoch, {"test/top1": ...})}``."""
        names = list(dict.fromkeys(name for _, metrics in results.values() for name in metrics))
        table = Table("weights", "epoch", *names, box=None, pad_edge=False, header_style="bold")
        for weights, (epoch, metrics) in results.items():
            table.add_row(weights, str(epoch), *(_metric(name, metrics.get(name)) for name in names))
        self.console.print()
        self.console.print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Named facts, a line each; long ones (commands, folders) are not broken, so that they can be copied."""
        self.console.print()
        width = max(map(len, facts))
        for name, value in facts.items():
            self.line(f"[bold]{name:<{width}}[/bold]  {value}")


def _metric(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return _percent(value) if name.rsplit("/", 1)[-1].startswith(SHARES) else f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"
