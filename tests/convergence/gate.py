"""The convergence gate: three recipes on the embedded data must still learn what they learned.

Each ``tests/convergence/<recipe>.json`` holds a recipe's command and the raw results of its seeds. A fresh run with
another seed must fall into the interval in which, by those results, 99 % of new seeds fall (Student's prediction
interval); a run outside fails.

    python tests/convergence/gate.py                     check all recipes (about 90 s)
    python tests/convergence/gate.py record=scnet_sgd    measure a recipe's seeds anew (about 4 minutes)
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scipy import stats

from paperzoo.runs import folders, record

HERE = Path(__file__).parent
TRAIN = HERE.parents[1] / "src" / "train.py"
RECIPES = {
    "scnet_sgd": ["model=scnet", "trainer.max_epochs=3"],
    "resnet_mixup": ["model=resnet", "mix=mixup", "trainer.max_epochs=5"],
    "shufflenet_v2_adamw": ["model=shufflenet_v2", "optimizer=adamw", "trainer.max_epochs=3"],
}
METRIC = "test/top1"
SEEDS, FRESH = range(6), 100
COVERAGE = 0.99


def run(words: list[str], seed: int) -> record.Record:
    """The record of one run of a recipe."""
    with tempfile.TemporaryDirectory() as runs:
        given = [*words, f"seed={seed}", "logger=none", f"paths.runs_dir={runs}"]
        subprocess.run([sys.executable, TRAIN, *given], check=True, stdout=subprocess.DEVNULL)
        return record.read(next(folders.all_folders(Path(runs))))


def interval(values: list[float]) -> tuple[float, float]:
    """Where a new seed's metric falls with the probability ``COVERAGE``, given those of other seeds."""
    n, mean, deviation = len(values), statistics.mean(values), statistics.stdev(values)
    half = float(stats.t.ppf((1 + COVERAGE) / 2, n - 1)) * deviation * (1 + 1 / n) ** 0.5
    return mean - half, mean + half


def measure(name: str) -> None:
    """Write a recipe's raw results."""
    runs = {seed: run(RECIPES[name], seed) for seed in SEEDS}
    one = runs[SEEDS[0]]
    content: dict[str, Any] = {
        "command": ["python", "src/train.py", *RECIPES[name]],
        "metric": METRIC,
        "seeds": {str(seed): entry.results["last"].metrics[METRIC] for seed, entry in runs.items()},
        "threads": one.determinism.threads,
        "hyperparameters": {group: one.config[group] for group in ("model", "data", "mix", "loss", "optimizer",
                                                                    "scheduler", "norm")},
        "max_epochs": one.config["trainer"]["max_epochs"],
        "code_version": one.provenance.code_version,
        "versions": one.provenance.versions,
    }  # fmt: skip
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"{name}: {', '.join(f'{value:.4f}' for value in content['seeds'].values())}")


def check(name: str) -> bool:
    """Whether a fresh run of a recipe falls into its interval."""
    known = json.loads((HERE / f"{name}.json").read_text())
    if known["command"][2:] != RECIPES[name]:
        print(f"{name}: the recipe is {RECIPES[name]}, its results are of {known['command'][2:]}; record={name}")
        return False
    low, high = interval(list(known["seeds"].values()))
    value = run(RECIPES[name], FRESH).results["last"].metrics[METRIC]
    holds = low <= value <= high
    print(f"{name}: {METRIC} {value:.4f} {'within' if holds else 'OUTSIDE'} [{low:.4f}, {high:.4f}]", flush=True)
    return holds


def main(words: list[str]) -> int:
    """Check all, or measure one."""
    given = dict(word.split("=", 1) for word in words)
    if "record" in given:
        measure(given["record"])
        return 0
    return 0 if all([check(name) for name in RECIPES]) else 1  # noqa: C419 - say it of each


if __name__ == "__main__":
    os.environ.pop("DATA_DIR", None)
    sys.exit(main(sys.argv[1:]))
