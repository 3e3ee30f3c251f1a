"""What saving the exact state and writing the record cost.

Trains the default model for one epoch with a state saved every 5 steps, and times each saving and each record write.
Prints both, and the share that savings at the default interval (60 s) take of a run's time.

    python benchmarks/checkpoint.py [key=value ...]     other words are overrides of the run

Goals: under 2 % of the default run's time; a record write under 5 ms.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as L

from paperzoo.config import compose
from paperzoo.runs import record
from paperzoo.training import train

INTERVAL = 60  # seconds, conf/train.yaml


def timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    """The function, with the time of each call noted."""

    def wrapper(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    return wrapper


def main(more: list[str]) -> None:
    saves: list[float] = []
    writes: list[float] = []
    L.Trainer.save_checkpoint = timed(L.Trainer.save_checkpoint, saves)
    record.write = timed(record.write, writes)
    with tempfile.TemporaryDirectory() as runs:
        words = ["model=scnet", "trainer.max_epochs=1", "checkpoint.every_steps=5", "logger=none", *more]
        train(compose("train", [*words, f"paths.runs_dir={runs}"]))
    saving, writing = statistics.median(saves), statistics.median(writes)
    print(f"\n{len(saves)} savings:       median {saving * 1000:6.1f} ms, most {max(saves) * 1000:.1f} ms")
    print(f"{len(writes)} record writes: median {writing * 1000:6.2f} ms, most {max(writes) * 1000:.2f} ms")
    print(f"share of the time at one saving every {INTERVAL} s: {100 * saving / INTERVAL:.3f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
