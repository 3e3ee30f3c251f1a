"""How long a command takes to answer, and a cold training to take its first step.

    python benchmarks/startup.py [repeats]      commands that need no torch: median of fresh processes
    python benchmarks/startup.py first_step     cold `python src/train.py model=scnet` to its first optimisation step

Goals: 0.8 s for each command, 9 s to the first step. "Cold" is a fresh process; the files are in the page cache
unless the machine was just started.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
GOAL, FIRST_STEP_GOAL = 0.8, 9.0
COMMANDS = {
    "train.py --help": ("train.py", "--help"),
    "train.py --cfg job": ("train.py", "model=scnet", "--cfg", "job", "--resolve"),
    "train.py, wrong model": ("train.py", "model=scnett"),
    "train.py, wrong key": ("train.py", "model=scnet", "trainer.max_epoch=3"),
    "train.py, wrong type": ("train.py", "model=scnet", "trainer.max_epochs=ten"),
    "train.py, completion": ("train.py", "-sc", "query=bash"),
    "zoo.py": ("zoo.py",),
    "zoo.py scnet": ("zoo.py", "scnet"),
}
# Runs train.py to the end of its first optimiser step. Imports are timed where they begin: what one package pulls in
# counts for the package that was asked for first.
TO_FIRST_STEP = """
import builtins, json, os, runpy, sys, time
watched = {"torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "wandb", "datasets", "mlxtend",
           "matplotlib", "sklearn", "hydra", "pydantic", "paperzoo"}
spent, stack, original = {}, [], builtins.__import__
def timed(name, *rest, **named):
    if name == "paperzoo.training" and "training imported" not in marks:
        marks["training imported"] = 0.0
        hook_in(counted(name, *rest, **named))
    return counted(name, *rest, **named)
def hook_in(training):
    # only now: importing torch before training does would change what is measured
    marks["training imported"] = time.time()
    from torch.optim.optimizer import register_optimizer_step_post_hook
    register_optimizer_step_post_hook(ended)
    for step in ("load_data", "make_module"):
        setattr(training, step, marking(step, getattr(training, step)))
    training._go_through = marking("fit", training._go_through, before=True)
def counted(name, *rest, **named):
    top = name.partition(".")[0]
    if top not in watched or (stack and stack[-1][0] == top):
        return original(name, *rest, **named)
    stack.append([top, 0.0])
    begun = time.perf_counter()
    try:
        return original(name, *rest, **named)
    finally:
        whole = time.perf_counter() - begun
        inner = stack.pop()[1]
        spent[top] = spent.get(top, 0.0) + whole - inner  # without the watched packages that it imports
        if stack:
            stack[-1][1] += whole
def ended(*_):
    if "fit" not in marks:
        return
    marks["first step"] = time.time()
    print("STARTUP " + json.dumps({"marks": marks, "imports": spent}), file=sys.stderr, flush=True)
    os._exit(0)
marks = {"python": time.time()}
import paperzoo.config
marks["configuration package"] = time.time()
from paperzoo.config import loading
validate = loading.validate
def validated(*a):
    result = validate(*a)
    marks["composed and validated"] = time.time()
    return result
loading.validate = validated
def marking(name, function, before=False):
    def marked(*a, **k):
        if before:
            marks[name] = time.time()
            return function(*a, **k)
        result = function(*a, **k)
        marks[name] = time.time()
        return result
    return marked
builtins.__import__ = timed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LABELS = {
    "python": "start of Python",
    "configuration package": "imports of the configuration",
    "composed and validated": "composing and validating it",
    "training imported": "imports of training",
    "load_data": "reading the data",
    "make_module": "building the network",
    "fit": "counting, record, W&B",
    "first step": "Lightning's start and the first step",
}


def main() -> None:
    """Measure what the command line asks for."""
    words = sys.argv[1:]
    if words == ["first_step"]:
        first_step()
    else:
        commands(int(words[0]) if words else 5)


def commands(repeats: int) -> None:
    """Seconds of each command in fresh processes."""
    print(f"{'command':<24}{'median':>8}{'min':>8}{'max':>8}   goal {GOAL} s, n={repeats}")
    line = "python src/train.py model=res"
    with tempfile.TemporaryDirectory() as folder:
        for name, command in COMMANDS.items():
            environment = os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
            seconds = [
                _seconds([sys.executable, str(SRC / command[0]), *command[1:]], folder, environment)
                for _ in range(repeats)
            ]
            median = statistics.median(seconds)
            verdict = "" if median <= GOAL else "   over"
            print(f"{name:<24}{median:>8.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}{verdict}")
        left = [path.name for path in Path(folder).iterdir()]
    print(f"written by them: {', '.join(left) or 'nothing'}")


def _seconds(command: list[str], folder: str, environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return time.perf_counter() - begun


def first_step() -> None:
    """Seconds from the start of the process to the end of the first optimiser step, and what they went to."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.time()
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                TO_FIRST_STEP,
                str(SRC / "train.py"),
                "model=scnet",
                f"paths.runs_dir={folder}/runs",
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    found = [line for line in done.stderr.splitlines() if line.startswith("STARTUP ")]
    if not found:
        sys.exit(f"train.py ended with {done.returncode} before its first step:\n{done.stderr}")
    measured = json.loads(found[-1].removeprefix("STARTUP "))
    before = begun
    for name, at in measured["marks"].items():
        print(f"{LABELS[name]:<40}{at - before:>7.2f} s")
        before = at
    print(f"{'to the end of the first step':<40}{before - begun:>7.2f} s   goal {FIRST_STEP_GOAL:g} s")
    print("imports, without the packages that stand here themselves:")
    for package, seconds in sorted(measured["imports"].items(), key=lambda item: -item[1]):
        print(f"  {package:<20}{seconds:>6.2f} s")


if __name__ == "__main__":
    main()
