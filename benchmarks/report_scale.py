"""How long a report takes, and how much memory, with many runs: 1,000 under 20 s, 10,000 under 120 s, under 1 GiB.

    python benchmarks/report_scale.py [runs ...]

The records are copies of a drawn one that differ in variant, seed and results: ten variants with equally many seeds,
12 epochs each. Each size is measured in a process of its own, from the records on disk to the written folder.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

SRC = Path(__file__).resolve().parents[1] / "src"
sys.path[:0] = [str(SRC), str(SRC.parent / "tests" / "helpers")]

VARIANTS, EPOCHS = 10, 12
LIMITS = {1_000: 20.0, 10_000: 120.0}  # seconds
MEMORY = 1024  # MiB


def lines(runs: int) -> Iterator[str]:
    from synthetic import record

    plain = json.loads(record(epochs=EPOCHS).model_dump_json())
    rng = random.Random(0)
    for number in range(runs):
        variant, seed = number % VARIANTS, number // VARIANTS
        top1 = 0.8 + 0.004 * variant + rng.gauss(0, 0.01)
        plain |= {"id": f"{number:010x}-1", "identity": f"{number:010x}", "seed": seed}
        plain["config"] |= {"seed": seed, "optimizer": {"name": "sgd", "lr": 0.01 * (variant + 1)}}
        plain["segments"][0]["wall_seconds"] = rng.uniform(10, 12)
        for row in plain["epochs"]:
            row["val/top1"] = top1 - 0.3 / row["epoch"]
        for weights in plain["results"].values():
            weights["metrics"] |= {"test/top1": top1, "test/loss": rng.uniform(0.4, 0.5)}
        yield json.dumps(plain) + "\n"


def inputs(folder: Path, runs: int) -> None:
    from synthetic import sweep

    rates = {"values": [0.01 * (variant + 1) for variant in range(VARIANTS)]}
    plain = sweep(parameters={"optimizer.lr": rates, "seed": {"values": list(range(runs // VARIANTS))}})
    folder.mkdir(parents=True)
    (folder / f"{folder.name}.yaml").write_text(yaml.safe_dump(plain.model_dump(mode="json", exclude_unset=True)))
    with (folder / "runs.jsonl").open("w") as file:
        file.writelines(lines(runs))


def measure(folder: Path) -> None:
    """Derive a report; print the seconds and the most memory in MiB."""
    start = time.perf_counter()
    from paperzoo.reports.write import derive

    written = derive(folder, folder)
    seconds = time.perf_counter() - start
    shown = sum(len(variant.runs) for variant in written.report.variants)
    assert shown == sum(1 for _ in (folder / "runs.jsonl").open())
    print(seconds, most_memory())


def most_memory() -> float:
    """MiB; Linux's ``ru_maxrss`` would count the process that this one was forked from before it became a program."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def main(sizes: list[int]) -> int:
    missed = 0
    for runs in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "reports" / "scale"
            inputs(folder, runs)
            command = [sys.executable, __file__, "--measure", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, memory = map(float, done.stdout.split())
            limit = LIMITS.get(runs, float("inf"))
            missed += seconds > limit or memory > MEMORY
            print(
                f"{runs:>6,} runs: {seconds:6.1f} s (limit {limit:g}), {memory:5.0f} MiB (limit {MEMORY})", flush=True
            )
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        sys.exit(main([int(word) for word in sys.argv[1:]] or list(LIMITS)))
