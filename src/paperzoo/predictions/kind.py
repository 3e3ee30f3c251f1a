"""What a task's predictions are: the columns of the file, and what can be said of them without the network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from paperzoo.display import Display

SHOWN = 40  # classes in the terminal, the worst; the file has all
Rows = dict[str, Tensor]


class Given(NamedTuple):
    """What the evaluation of a batch gives the metrics of its task, on the CPU."""

    index: Tensor  # type: ignore[assignment]  # (B,) places in the split; not the method of tuples
    scored: Tensor  # what is compared with the labels
    labels: Tensor
    losses: Tensor  # float64


class Kind(ABC):
    """One task's."""

    columns: ClassVar[tuple[str, ...]]  # besides the index
    rounded: ClassVar[tuple[str, ...]] = ()  # metrics that come from the file in another order of summation

    @abstractmethod
    def rows(self, given: Given, classes: int) -> Rows:
        """The columns of a batch."""

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
