"""What a metric is called, which way it is good, and how it is written: displays and reports need no task for it.

A task declares its metrics, a record carries them, and whoever shows a number asks here.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """A metric of a split: recorded as ``test/<name>``, ``val/<name>``, and ``train/<name>`` where training has it."""

    name: str
    goal: Literal["max", "min"] = "max"
    percent: bool = False  # a share of 1 that is shown in %, and whose differences are points
    label: str = ""  # how people call it; the name where it has none

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return self.label or self.name

    def text(self, value: float) -> str:
        """A value as it is shown: ``98.40 %`` or ``0.0612``."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4f}"


LOSS = Metric("loss", "min", label="loss")
# What records from before schema version 3 measure; later ones say it themselves.
BEFORE = (
    Metric("top1", percent=True, label="top-1 accuracy"),
    Metric("top5", percent=True, label="top-5 accuracy"),
    Metric("ece", "min", label="expected calibration error"),
    Metric("miou", percent=True, label="mean IoU"),
    Metric("pixel_accuracy", percent=True, label="pixel accuracy"),
    Metric("class_accuracy", percent=True, label="class accuracy"),
)


def find(metrics: Iterable[Metric], key: str) -> Metric:
    """The metric that a recorded key such as ``test/top1`` or ``best/val/loss`` is about.

    A key that no task declared is a plain number of which more is better.
    """
    name = key.rsplit("/", 1)[-1]
    known = {metric.name: metric for metric in (*BEFORE, LOSS, *metrics)}
    return known.get(name, Metric(name))
