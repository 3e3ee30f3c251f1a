"""Measuring a module's weights on a split: the one way, for training and for ``evaluate.py``."""

from typing import Any

import pytorch_lightning as L

from paperzoo.data.interface import RunData
from paperzoo.tasks.task import Task


def measure(trainer: L.Trainer, module: Task, data: RunData, split: str) -> dict[str, float]:
    """The metrics of the weights that a module has, as they are recorded: ``{"test/top1": ...}``.

    Args:
        split: test, or val.
    """
    run: Any = {"test": trainer.test, "val": trainer.validate}[split]
    run(module, datamodule=data, verbose=False)
    return {f"{split}/{name}": value for name, value in module.results[split].items()}
