"""What ``deterministic=true`` costs: an epoch of the default run with and without, in turn.

    python benchmarks/determinism.py [rounds=5]

Prints images/s of both and the ratio with its spread. On a CPU torch has deterministic forms of what is used here, so
that the ratio is about 1; on GPUs cuDNN's choice of kernels is fixed as well, which costs more.
"""

import statistics
import sys
import tempfile

from paperzoo.config import compose
from paperzoo.training import train


def images_per_second(deterministic: bool, runs: str) -> float:
    """Of one epoch."""
    words = ["model=scnet", "trainer.max_epochs=1", "data.limit_train=2048", "logger=none"]
    entry = train(compose("train", [*words, f"deterministic={str(deterministic).lower()}", f"paths.runs_dir={runs}"]))
    assert entry is not None
    return float(entry.epochs[0]["images_per_second"])


def main(rounds: int) -> None:
    rates: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as runs:
        images_per_second(True, runs)  # warms up
        for _ in range(rounds):
            for deterministic, values in rates.items():
                values.append(images_per_second(deterministic, runs))
    ratios = [with_ / without for with_, without in zip(rates[True], rates[False], strict=True)]
    print(f"\ndeterministic {statistics.median(rates[True]):.0f}, not {statistics.median(rates[False]):.0f} images/s, "
          f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip


if __name__ == "__main__":
    main(int(dict(word.split("=") for word in sys.argv[1:]).get("rounds", 5)))
