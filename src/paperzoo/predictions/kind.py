"""What a task's predictions are: the columns of the file, and what can be said of them without the network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rich.table import Table
from rich.text import Text
from torch import Tensor

from paperzoo.display import Display

SHOWN = 40  # classes in the terminal, the worst; the file has all
Rows = dict[str, Any]  # columns of B: tensors, or lists of texts


class Given(NamedTuple):
    """What the evaluation of a batch gives the metrics of its task, on the CPU."""

    index: Tensor  # type: ignore[assignment]  # (B,) places in the split; not the method of tuples
    scored: Tensor  # what is compared with the labels
    labels: Tensor
    losses: Tensor  # float64


def show_classes(
    display: Display,
    columns: Sequence[str],
    rows: Sequence[Any],
    judged_by: tuple[str, Callable[[Any], float]],
    cells: Callable[[Any], Sequence[str | Text]],
) -> None:
    """Print the table of classes, where there are more than ``SHOWN`` the worst.

    Args:
        display: prints it.
        columns: titles, the first that of the class's name.
        rows: of the classes, with ``index`` and ``name``.
        judged_by: what is low of the worst: its title, and its value of a row (NaN comes last).
        cells: of a row, but for the name.
    """
    title, worth = judged_by
    worst = sorted(rows, key=lambda row: (math.isnan(worth(row)), worth(row), row.index))[:SHOWN]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows if len(rows) <= SHOWN else worst:
        table.add_row(Text(row.name), *cells(row))
    display.console.print()
    display.console.print(table)
    if len(rows) > SHOWN:
        display.line(f"the {SHOWN} of {len(rows)} classes with the lowest {title}")


def percent(share: float) -> str:
    """A cell of the table; empty where there is no such share."""
    return "" if math.isnan(share) else f"{100 * share:.2f} %"


class Kind(ABC):
    """One task's."""

    columns: ClassVar[tuple[str, ...]]  # besides the index
    rounded: ClassVar[tuple[str, ...]] = ()  # metrics that come from the file in another order of summation

    @abstractmethod
    def rows(self, given: Any, classes: int) -> Rows:
        """The columns of a batch, of ``Given`` or what its task gives instead."""

    @abstractmethod
    def metrics_of(self, batches: Sequence[Rows], classes: int) -> dict[str, float]:
        """The metrics of the task, without the network."""

    @abstractmethod
    def show(self, display: Display, batches: Sequence[Rows], names: Sequence[str]) -> None:
        """Print the table of classes, where there are many the worst."""

    def draw(self, path: Path, batches: Sequence[Rows], title: str) -> bool:
        """A picture of them, where there is one to draw."""
        return False

    def maps_of(self, given: Given) -> Any:
        """(B, H, W) class indices, or None where a sample has one class."""
        return None
