"""The kill test of sweeps: SIGKILL the sweep at random moments, start it again, and count.

    python tests/sweeps/soak_sweep.py [kills=10] [agents=2] [seed=0] [storage=]

Each kill comes within a second after a run of the sweep has begun. In the end exactly the planned runs must have
finished, none twice, none lost. Prints what is wrong.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))  # as a program

import forked  # noqa: E402

from paperzoo.runs import folders, record  # noqa: E402
from paperzoo.sweeps.specification import read  # noqa: E402
from paperzoo.sweeps.storage import Plan, runs_of  # noqa: E402

SWEEP = """
program: src/train.py
method: grid
metric: {name: test/top1, goal: maximize}
parameters:
  model: {value: resnet}
  model.width: {values: [2, 4]}
  seed: {values: [0, 1, 2, 3]}
  logger: {value: none}
  data.limit_train: {value: 640}
  data.image_size: {value: 8}
  trainer.max_epochs: {value: 4}
  checkpoint.every_steps: {value: 5}
command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
"""


def kill_and_restart(
    folder: Path, kills: int, agents: int, seed: int, cells: int = 8, url: str | None = None
) -> list[str]:
    """Run the sweep with so many kills. Returns what is wrong in the end: nothing, one hopes."""
    path, runs, chance = folder / "killed.yaml", folder / "runs", random.Random(seed)
    path.write_text(SWEEP + f"run_cap: {cells}\n")
    url = url or f"sqlite:///{runs / 'sweeps' / 'killed.db'}"
    program, words = ROOT / "src" / "sweep.py", [str(path), f"agents={agents}", f"runs_dir={runs}", f"storage={url}"]
    struck = 0
    while struck < kills:
        begun = time.time()
        process = forked.start(program, *words, log=folder / "log", cwd=ROOT)
        while process.poll() is None and not _has_run(runs, begun):
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        if process.poll() is not None:
            break  # done before the next kill
        process.kill()
        process.wait()
        struck += 1
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 2))
    done = forked.run(program, *words, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [*([] if struck == kills else [f"only {struck} of {kills} kills struck"]), *_wrong(path, runs, url)]


def _has_run(runs: Path, since: float) -> bool:
    """Whether a run has said since then where it is."""
    told = (runs / "sweeps" / "killed").glob("*.run")
    with suppress(FileNotFoundError):  # an agent has just removed it, and begins the run
        return any(path.stat().st_mtime > since for path in told)
    return False


def _wrong(path: Path, runs: Path, url: str) -> list[str]:
    sweep = read(path)
    plan = Plan(sweep, path.stem, url)
    states = Counter(trial.state.name for trial in plan.counted().values())
    finished = Counter(
        entry.identity
        for folder in folders.all_folders(runs)
        if (folder / record.FILE).is_file() and (entry := record.read(folder)).status == "finished"
    )
    planned, told = len(sweep.cells()), runs_of(plan)
    problems = []
    if states != {"COMPLETE": planned}:
        problems.append(f"planned {planned}, the plan has {dict(states)}")
    if len(finished) != planned or set(finished.values()) != {1}:
        problems.append(f"planned {planned}, finished runs by identity: {dict(finished)}")
    if [cell for cell, _ in told] != sweep.cells() or len({run for _, run in told}) != planned:
        problems.append(f"cells and runs do not belong together: {told}")
    return problems


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        found = kill_and_restart(
            Path(name),
            int(given.get("kills", 10)),
            int(given.get("agents", 2)),
            int(given.get("seed", 0)),
            url=given.get("storage"),
        )
    print("\n".join(found) or "exactly the planned runs, none twice, none lost")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(bool(found))
