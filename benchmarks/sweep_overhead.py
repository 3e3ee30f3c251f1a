"""What a sweep takes besides training: 8 runs of the default model at 3 epochs with 2 agents, beside ``train.py -m``.

Both run the same 8 seeds. Time outside training is what two workers had, less what their runs spent in the epochs'
training, validation and test: start-up, bookkeeping and waiting. Prints both shares.

    python benchmarks/sweep_overhead.py [runs=8] [agents=2] [epochs=3]

Goal: under 25 % of the sweep's time. It takes about seven minutes.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from paperzoo.runs import folders, record

SRC = Path(__file__).resolve().parents[1] / "src"


def timed(command: list[str], runs: Path, workers: int) -> tuple[float, float]:
    """Seconds that a command took, and the share of its workers' time in which their runs did not train or test."""
    environment = os.environ | {"RUNS_DIR": str(runs)}
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=SRC.parent)
    seconds = time.perf_counter() - start
    entries = [record.read(folder) for folder in folders.all_folders(runs)]
    busy = sum(entry.wall_seconds for entry in entries)
    return seconds, 1 - busy / (workers * seconds)


def main(runs: int, agents: int, epochs: int) -> None:
    """Measure the sweep, then the multirun."""
    seeds = list(range(runs))
    parameters = {"model": {"value": "scnet"}, "trainer.max_epochs": {"value": epochs}, "seed": {"values": seeds}}
    sweep = {
        "program": "src/train.py",
        "method": "grid",
        "metric": {"name": "test/top1", "goal": "maximize"},
        "parameters": parameters,
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
    }
    words = ["model=scnet", f"trainer.max_epochs={epochs}", f"seed={','.join(map(str, seeds))}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "overhead.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
        by_agents = [sys.executable, "src/sweep.py", str(folder / "overhead.yaml"), f"agents={agents}"]
        arms = {
            f"sweep.py, {agents} agents": (by_agents, folder / "sweep", agents),
            "train.py -m": ([sys.executable, "src/train.py", "-m", *words], folder / "multirun", 1),
        }
        for arm, (command, place, workers) in arms.items():
            seconds, share = timed(command, place, workers)
            print(f"{arm:18} {runs} runs in {seconds:6.1f} s, {100 * share:4.1f} % outside the runs", flush=True)


if __name__ == "__main__":
    given = {key: int(value) for key, value in (word.split("=") for word in sys.argv[1:])}
    main(given.get("runs", 8), given.get("agents", 2), given.get("epochs", 3))
