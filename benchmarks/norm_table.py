"""Accuracy against the per-rank batch size, by normalisation: the shape of the norm papers' headline tables.

The small ResNet (depth 11) on 2,000 images of Fashion-MNIST, two ranks, per-rank batches of 2 and of 32, learning rate
in proportion to the global batch, seeds in pairs. Each run is one of ``train.py``; what is finished is not run again,
so that it can be interrupted. Writes ``table.csv`` (mean of test top-1, 95 % t-interval, paired difference to BN) and
``runs.jsonl`` (the records) to the folder.

    DATA_DIR=... python benchmarks/norm_table.py [out=reports/norm_batch_size] [seeds=3]
"""

import csv
import os
import statistics
import subprocess
import sys
from pathlib import Path

from scipy import stats

from paperzoo.errors import UserError
from paperzoo.runs import record

NORMS = ("batch", "sync_batch", "group", "switchable", "mabn")
BATCHES = (2, 32)
RATE = 0.1 / 64  # per image of the global batch
COMMON = ["model=resnet", "model.depth=11", "data=fashion_mnist", "data.limit_train=2000", "data.validation=1000",
          "trainer=ddp_cpu", "trainer.threads=1", "trainer.max_epochs=4", "logger=none"]  # fmt: skip
TRAIN = Path(__file__).resolve().parents[1] / "src" / "train.py"


def finished(folder: Path) -> record.Record | None:
    """The record of a finished run below a folder."""
    for path in folder.glob("*/*/*/run.json"):
        try:
            entry = record.read(path.parent)
        except UserError:
            continue
        if entry.status == "finished":
            return entry
    return None


def run(runs: Path, norm: str, batch: int, seed: int) -> record.Record:
    """The record of one arm's run, trained if it is not there."""
    folder = runs / f"{norm}-{batch}-{seed}"
    if (entry := finished(folder)) is None:
        words = [f"norm={norm}", f"data.batch_size={batch}", f"optimizer.lr={RATE * batch * 2}", f"seed={seed}"]
        subprocess.run(
            [sys.executable, TRAIN, *COMMON, *words, f"paths.runs_dir={folder}", "resume=auto"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        entry = finished(folder)
        assert entry is not None
        print(f"norm={norm}, batch {batch}, seed {seed}: {top1(entry):.2f} %", flush=True)
    return entry


def top1(entry: record.Record) -> float:
    """Test accuracy of the last epoch, in percent."""
    return 100 * entry.results["last"].metrics["test/top1"]


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of the 95 % t-interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(half)


def main(out: str, seeds: str) -> None:
    runs = Path(os.environ.get("RUNS_DIR", "runs")) / "norm_table"
    entries = {(n, b, s): run(runs, n, b, s) for s in range(int(seeds)) for b in BATCHES for n in NORMS}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runs.jsonl").write_text("".join(f"{entry.model_dump_json()}\n" for entry in entries.values()))
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["norm", "batch", "n", "top1", "top1_half_95", "minus_bn", "minus_bn_half_95", "seconds"])
        for batch in BATCHES:
            base = [top1(entries["batch", batch, s]) for s in range(int(seeds))]
            for norm in NORMS:
                values = [top1(entries[norm, batch, s]) for s in range(int(seeds))]
                mean, half = interval(values)
                paired, width = interval([a - b for a, b in zip(values, base, strict=True)])
                seconds = statistics.mean(entries[norm, batch, s].wall_seconds for s in range(int(seeds)))
                row = [norm, batch, len(values), *(f"{v:.2f}" for v in (mean, half, paired, width)), f"{seconds:.0f}"]
                table.writerow(row)
                print(*row, sep="\t")


if __name__ == "__main__":
    given = dict(word.split("=") for word in sys.argv[1:])
    main(given.get("out", "reports/norm_batch_size"), given.get("seeds", "3"))
