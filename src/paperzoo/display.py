"""What a run shows in the terminal: a live bar, a row per epoch, a summary. Plain lines where there is no terminal."""

import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from paperzoo.metric import Metric, find
from paperzoo.places import as_called

REFRESH = 0.1  # seconds between two updates of the bar: a step must not pay for it
WIDTHS = {  # of the columns of the table of epochs, at least
    "epoch": 7,
    "train loss": 10,
    "train {headline}": 10,
    "val loss": 9,
    "val {headline}": 9,
    "lr": 9,
    "{unit}s/s": 9,
    "time": 8,
}
QUIET = 60.0  # seconds without a line, where there is no bar, until one says how far an epoch is


class Display:
    """The terminal of a run; a silent one for every rank but the first."""

    def __init__(self, *, silent: bool = False) -> None:
        width = None if os.environ.get("COLUMNS") or Console().is_terminal else 110  # a pipe has no width of its own
        self.console = Console(quiet=silent, highlight=False, width=width)
        self.progress: Progress | None = None
        self.drawn = 0.0

    def line(self, text: str) -> None:
        """One line of text."""
        self.console.print(as_called(text), soft_wrap=True)

    def start(self, epochs: int, headline: Metric, unit: str = "image") -> None:
        """Show the header of the table of epochs, with the metric that counts, and the bar."""
        self.epochs, self.headline, self.unit = epochs, headline, unit
        names = [name.format(headline=headline.name, unit=unit) for name in WIDTHS]
        self.widths = [max(width, len(name)) + 1 for name, width in zip(names, WIDTHS.values(), strict=True)]
        self.line("".join(f"{name:>{width}}" for name, width in zip(names, self.widths, strict=True)))
        self.spoken = time.monotonic()
        self.stop()
        if self.console.is_terminal and not self.console.quiet:
            columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), f"{{task.fields[rate]:.0f}} {unit}s/s")
            last = (TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
            self.progress = Progress(*columns, *last, console=self.console, auto_refresh=False, transient=True)
            self.progress.start()
            self.task = self.progress.add_task("", total=None, rate=0.0, loss="")

    def step(self, epoch: int, done: int, of: int, rate: float, loss: float) -> None:
        """Move the bar, at most ten times a second; without a terminal, a line a minute within an epoch."""
        now = time.monotonic()
        shown = f"loss {loss:.4f}" if math.isfinite(loss) else ""  # the first is not read yet
        if self.progress is None:
            if now - self.spoken > QUIET:
                self.spoken = now
                place = f"epoch {epoch + 1}/{self.epochs}: {done:,} of {of:,} batches"
                self.line("  " + ", ".join(part for part in (place, shown, f"{rate:.0f} {self.unit}s/s") if part))
            return
        if now - self.drawn < REFRESH:
            return
        self.drawn = now
        self.progress.update(
            self.task, description=f"epoch {epoch + 1}/{self.epochs}", completed=done, total=of, rate=rate, loss=shown
        )
        self.progress.refresh()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """A row of the table of epochs."""
        self.spoken = time.monotonic()
        cells = (
            f"{row['epoch']:.4g}/{self.epochs}",
            f"{row['train/loss']:.4f}" if "train/loss" in row else "",
            self._metric(f"train/{self.headline.name}", row),
            f"{row['val/loss']:.4f}" if "val/loss" in row else "",
            self._metric(f"val/{self.headline.name}", row),
            f"{row['lr']:.3g}",
            f"{row[f'{self.unit}s_per_second']:.0f}" if "seconds" in row else "",
            f"{row['seconds']:.1f} s" if "seconds" in row else "",
        )
        self.line("".join(f"{cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True)))

    def _metric(self, key: str, row: Mapping[str, Any]) -> str:
        return self.headline.text(row[key]) if key in row else ""

    def stop(self) -> None:
        """Take the bar away."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def results(
        self, results: Mapping[str, tuple[int | float, Mapping[str, float]]], measured: Iterable[Metric] = ()
    ) -> None:
        """A table of the test metrics of each set of weights: ``{"last": (epoch, {"test/top1": ...})}``."""
        measured = tuple(measured)
        names = list(dict.fromkeys(name for _, metrics in results.values() for name in metrics))
        table = Table("weights", "epoch", *names, box=None, pad_edge=False, header_style="bold")
        for weights, (epoch, metrics) in results.items():
            table.add_row(weights, f"{epoch:.6g}", *(_shown(measured, name, metrics.get(name)) for name in names))
        self.console.print()
        self.console.print(table)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Named facts, a line each; long ones (commands, folders) are not broken, so that they can be copied."""
        self.console.print()
        width = max(map(len, facts))
        for name, value in facts.items():
            self.line(f"[bold]{name:<{width}}[/bold]  {value}")


def _shown(metrics: Iterable[Metric], name: str, value: float | None) -> str:
    return "" if value is None else find(metrics, name).text(value)
