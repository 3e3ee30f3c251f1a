"""Plant mistakes, one at a time, and see which tests find them.

    python tests/planted.py [number ...] [tier=fast]       (or full)

Each is planted in a copy of the tracked files, and the tests of its area run there until one fails: with tier=fast
those of `make test`. What failed must pass without the mistake. Prints who found it; exit code 1 if nobody found one.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "src/paperzoo/"


class Mistake(NamedTuple):
    """What is wrong, where, and whose tests should say so."""

    what: str
    file: str
    right: str
    wrong: str
    tests: str


PLANTED = [
    Mistake("focal loss: wrong exponent", "papers/focal_loss/focal_loss.py", "_power(wrong, gamma)",
            "_power(wrong, gamma + 1)", "tests/papers tests/contract -k focal"),
    Mistake("order: a resumed epoch skips a batch", "data/order.py", "range(self.done, len(self))",
            "range(self.done + bool(self.done), len(self))", "tests/data tests/runs"),
    Mistake("state: the buffers of ranks are lost", "tasks/task.py",
            'self._buffer_state = buffers[self.global_rank] if buffers else {}', "self._buffer_state = {}",
            "tests/tasks tests/norms tests/runs tests/contract"),
    Mistake("ranks: a mean over ranks, not over images", "distributed.py",
            "return images * ranks() / total.clamp_min(1)", "return images / images * total / total",
            "tests/runs tests/tasks"),
    Mistake("checkpoints: a damaged one counts as whole", "runs/checkpoints.py",
            "return beside.is_file() and beside.read_text(errors=\"replace\").strip() == file_digest(path)",
            "return beside.is_file()", "tests/runs"),
    Mistake("checkpoints: the older state is taken", "runs/checkpoints.py", "for name in (STATE, PREVIOUS)]",
            "for name in (PREVIOUS, STATE)]", "tests/runs"),
    Mistake("SyncBN: the variance of one rank's count", "norms/sync.py",
            "slope = -scale * invstd.square() * all_dyx", "slope = -scale * invstd * all_dyx", "tests/norms"),
    Mistake("schedule: the cosine ends too late", "tasks/schedules.py",
            "span = max(total_steps - warmup, 1)\n\n    def", "span = max(total_steps, 1)\n\n    def", "tests/tasks"),
    Mistake("segmentation: union counts hits twice", "tasks/segmentation.py", "union = truth + predicted - hits",
            "union = truth + predicted", "tests/tasks tests/metrics"),
    Mistake("sampler: PK draws with the same order each epoch", "data/samplers.py",
            'chance = generator(seed, "order", epoch)\n    identities',
            'chance = generator(seed, "order", 0)\n    identities', "tests/data"),
    Mistake("identity: the number of ranks is left out", "runs/identity.py", '"ranks": ranks, ', "",
            "tests/runs tests/config"),
    Mistake("augmentation: flips those that it should not", "data/images/augment.py",
            "(uniform[:, 2] < augment.flip)", "(uniform[:, 2] > augment.flip)", "tests/data"),
    Mistake("statistics: Holm's factor is one too small", "reports/statistics.py", "(tests - step) * p",
            "max(tests - step - 1, 1) * p", "tests/reports"),
    Mistake("statistics: the spread divides by n", "reports/statistics.py",
            "return detectable_effect(len(differences), 1) * float(differences.std(ddof=1))",
            "return detectable_effect(len(differences), 1) * float(differences.std())", "tests/reports"),
    Mistake("LSTM: a peephole sees the new cell state", "papers/lstm/cells.py",
            "f = (f + self.weight_cf * c if self.peephole else f).sigmoid()",
            "f = (f - self.weight_cf * c if self.peephole else f).sigmoid()", "tests/papers -k lstm"),
    Mistake("boxes: decoding moves by half a side", "detection/boxes.py",
            "centre = centre + moves[..., :2] * sides", "centre = centre + moves[..., :2] * sides / 2",
            "tests/detection"),
    Mistake("best weights: a metric to minimise is maximised", "runs/exact_state.py",
            'return value > self.value if self.metric.goal == "max" else value < self.value',
            "return value > self.value", "tests/runs tests/tasks tests/contract"),
    Mistake("random state: numpy's is not restored", "random_state.py",
            "np.random.set_state((kind, keys.numpy()", "str((kind, keys.numpy()", "tests/runs"),
    Mistake("code version: a changed loss gives no new identity", "runs/code_version.py", '"papers", "tasks",',
            '"papers",', "tests/runs tests/test_local_additions.py"),
    Mistake("weights: a sample's weight is another's", "data/interface.py",
            "return self.weights.to(index.device)[index]", "return self.weights.to(index.device)[: len(index)]",
            "tests/data tests/tasks"),
    Mistake("stages: the outcome of a stage is lost on resuming", "stages.py",
            "done.append(outcomes[number])\n                self", "done.append(None)\n                self",
            "tests/runs"),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Plant those that are named, or all."""
    tier = next((word.partition("=")[2] for word in words if word.startswith("tier=")), "fast")
    numbers = [int(word) for word in words if word.isdecimal()] or range(1, len(PLANTED) + 1)
    missed = 0
    for library in ("matplotlib.pyplot", "pytorch_lightning", "scipy.stats", "sklearn", "timm", "torchmetrics"):
        importlib.import_module(library)  # once for all trees; of Paperzoo, nothing
    for number in numbers:
        mistake = PLANTED[number - 1]
        found = find(mistake, tier)
        missed += found is None
        print(f"| {number} | {mistake.what} | {found or 'NOT FOUND'} |", flush=True)
    return 1 if missed else 0


def find(mistake: Mistake, tier: str) -> str | None:
    """The first test that fails with a mistake planted, or None."""
    with tempfile.TemporaryDirectory() as folder:
        tree, sound = Path(folder) / "tree", Path(folder) / "sound"
        copy(tree)
        copy(sound)
        plant(mistake, tree)
        paths, _, chosen = mistake.tests.partition(" -k ")
        words = ["-x", *(["-m", "not full"] if tier == "fast" else []), *paths.split()]
        failed = first_failure(tree, words + (["-k", chosen] if chosen else []))
        if failed and first_failure(sound, [failed]):
            raise SystemExit(f"{failed}: fails without the mistake, too; mend that first")
        return failed


def copy(tree: Path) -> None:
    """Copy the tracked files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)


def first_failure(tree: Path, words: list[str]) -> str | None:
    """The name of a test that fails in a tree. The tests run in a fork of this process, which has imported torch."""
    with tempfile.TemporaryFile("w+") as printed:
        child = os.fork()
        if child == 0:
            _run_tests(tree, words, printed)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        text = printed.read()
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
    if code and not failed:
        raise SystemExit(f"{' '.join(words)}: {text[-2000:]}")
    return failed[1] if failed else None


def _run_tests(tree: Path, words: list[str], printed: TextIO) -> NoReturn:
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")
    sys.path.insert(0, str(tree / "src"))
    code = int(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *words]))
    sys.stdout.flush()
    os._exit(code)  # the fork is no second planter


def plant(mistake: Mistake, tree: Path) -> None:
    """Change the file, which must have the right text once."""
    path = tree / SOURCE / mistake.file
    text = path.read_text()
    if text.count(mistake.right) != 1:
        raise SystemExit(f"{path}: {mistake.right!r} is there {text.count(mistake.right)} times; it must be once")
    path.write_text(text.replace(mistake.right, mistake.wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
