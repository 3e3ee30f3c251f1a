"""The verbs as a user types them: runs, evaluate, reproduce, diff."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import forked
import pytest
from composed import compose
from drawn import folder

from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.reproduction import reproduce
from paperzoo.runs import record
from paperzoo.training import train

SRC = Path(__file__).resolve().parents[2] / "src"
REPORTS = SRC.parent / "reports"
WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=64", "data.batch_size=16",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2",
         "trainer.threads=1"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with two finished runs, seeds 0 and 1."""
    place = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(compose("train", [*WORDS, f"seed={seed}", f"paths.runs_dir={place}"]))
    return place


@pytest.fixture
def copy(runs, tmp_path) -> Path:
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def entries(folder: Path) -> list[record.Record]:
    found = [record.read(path.parent) for path in folder.glob("*/*/*/run.json")]
    return sorted(found, key=lambda entry: (entry.seed, entry.attempt))


def verb(name: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RUNS_DIR": str(folder), "COLUMNS": "160"}
    return forked.run(SRC / f"{name}.py", *words, env=environment)


@pytest.mark.promise
def test_reproduce_is_bit_for_bit_here(copy):
    first = entries(copy)[0]
    done = verb("reproduce", first.identity[:6], folder=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"reproduced bit for bit: all 38 metrics of {first.id} equal those of {first.identity}-2" in done.stdout
    assert [entry.id for entry in entries(copy)][:2] == [f"{first.identity}-1", f"{first.identity}-2"]
    assert entries(copy)[1].determinism.threads == 1  # as recorded, though nothing was said


def test_reproduce_prints_the_first_difference_and_fails(copy):
    first = entries(copy)[0]
    place = copy / "resnet" / first.identity / "1" / "run.json"
    content = json.loads(place.read_text())
    content["epochs"][1]["train/loss"] += 1e-9
    content["epochs"][1]["val/loss"] += 1
    place.write_text(json.dumps(content))
    done = verb("reproduce", first.id, folder=copy)
    assert done.returncode == 1
    assert "NOT reproduced bit for bit: epoch 2: train/loss is " in done.stdout
    allowed = verb("reproduce", first.id, "tolerance=0.001", folder=copy)
    assert allowed.returncode == 1
    assert "NOT reproduced, neither bit for bit nor within 0.001 (relative): epoch 2: val/loss is " in allowed.stdout


IN_A_ROW = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv, code = words, 0
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    print(f"ended with {code}", flush=True)
"""


def process(*commands: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """Verbs in a process of their own, since one that is forked must not begin to use several threads."""
    environment = os.environ | {"RUNS_DIR": str(folder)}
    words = json.dumps([[str(SRC / f"{name}.py"), *given] for name, *given in commands])
    command = [sys.executable, "-c", IN_A_ROW, words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_reproduce_says_what_differs_and_loosens_only_when_it_is_named(copy):
    first = entries(copy)[0]
    place = copy / "resnet" / first.identity / "1" / "run.json"
    content = json.loads(place.read_text())
    content["provenance"]["versions"]["torch"] = "2.0.0"
    content["provenance"]["hardware"]["processor"] = "abacus"
    content["epochs"][1]["train/loss"] *= 1.001
    files = content["provenance"]["code_files"]
    files["paperzoo/tasks/classification.py"] = "0" * 16
    content["provenance"]["code_version"] = "0" * 64
    place.write_text(json.dumps(content))
    done = verb("reproduce", first.id, folder=copy)
    assert done.returncode == 1, done.stdout
    assert "NOT reproduced bit for bit: epoch 2: train/loss is " in done.stdout
    assert "; tolerance=0.02 compares within 2 % (relative)" in done.stdout
    assert "note: numeric code has changed since: paperzoo/tasks/classification.py\n" in done.stdout
    done = verb("reproduce", first.id, "tolerance=0.02", folder=copy)
    assert done.returncode == 0, done.stdout
    assert "note: torch was 2.0.0, now it is 2.14" in done.stdout
    assert "note: processor was abacus, now it is " in done.stdout
    assert "reproduced within 0.02 (relative), not bit for bit: all 38 metrics" in done.stdout


def test_a_record_of_more_threads_than_this_machine_takes(copy):
    first = entries(copy)[0]
    place = copy / "resnet" / first.identity / "1" / "run.json"
    content = json.loads(place.read_text())
    content["determinism"]["threads"] = 1000
    place.write_text(json.dumps(content))
    # How far they are apart depends on the machine.
    done = process(("evaluate", f"run={first.id}"), ("reproduce", first.id, "tolerance=1"), folder=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ended with 0") == 2, done.stdout + done.stderr
    assert f"note: threads were 1000, now there are {4 * os.cpu_count()}" in done.stdout


def test_diff_says_what_differs(runs):
    first, second = entries(runs)
    done = verb("reproduce", first.id, f"diff={second.id}", folder=runs)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"{first.id} | {second.id}"
    assert "config.seed: 0 | 1" in lines
    assert any(line.startswith("results.last weights: test/loss: ") for line in lines)
    assert not [line for line in lines[1:] if line.startswith(("code", "data", "versions", "hardware"))]
    same = verb("reproduce", first.id, f"diff={first.id}", folder=runs)
    assert same.returncode == 0
    assert "no difference" in same.stdout


def test_runs_lists_newest_first_and_filters(copy):
    first, second = entries(copy)
    done = verb("runs", folder=copy)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [second.id, first.id]
    for word in ("finished", "resnet", "mnist5k", "2/2"):
        assert word in lines[1]
    assert f"{100 * second.results['last'].metrics['test/top1']:.2f} %" in lines[1]
    assert "no runs" in verb("runs", "status=failed", folder=copy).stdout
    (copy / "resnet" / first.identity / "1" / "run.json").write_text("{")
    damaged = verb("runs", folder=copy)
    assert damaged.returncode == 0
    assert second.id in damaged.stdout
    assert f"{copy / 'resnet' / first.identity / '1' / 'run.json'}" in damaged.stdout


@pytest.mark.parametrize("name", ["1234567890", "12e4567890-1", "0012"])
def test_ids_that_look_like_numbers_are_taken_as_written(name, runs):
    done = verb("evaluate", f"run={name}", folder=runs)
    assert done.returncode == 2
    assert f"{name}: " in done.stderr
    assert "must be a word" not in done.stderr


@pytest.mark.parametrize("how", ["id", "identity", "prefix", "folder"])
def test_evaluate_takes_an_id_a_prefix_or_a_folder(how, runs):
    first = entries(runs)[0]
    folder = runs / "resnet" / first.identity / "1"
    name = {"id": first.id, "identity": first.identity, "prefix": first.identity[:7], "folder": str(folder)}[how]
    done = verb("evaluate", f"run={name}", folder=runs)
    assert done.returncode == 0, done.stderr
    assert "every metric equals the record, bit for bit" in done.stdout


@pytest.mark.parametrize(("name", "words", "line"), [
    ("reproduce", [], "which run or report?"),
    ("reproduce", ["zzz"], "zzz"),
    ("reproduce", ["run=zzz"], "run=zzz: neither a run folder nor a run id"),
    ("reproduce", [str(REPORTS / "nope")], "; reports in " + str(REPORTS) + ": backbones_at_equal_macs, "),
    ("reproduce", ["run=zzz", "yyy"], "yyy: one word too many"),
    ("export", ["0000000000", "format=onnx"], "run=0000000000: there is no such run"),
    ("evaluate", ["split=val", "0000000000"], "run=0000000000: there is no such run"),
    ("reproduce", ["0", "tolerance=many"], "tolerance=many"),
    ("reproduce", ["0", "tolerence=1"], "tolerence"),
    ("runs", ["status=done"], "status=done: must be one of running, finished, failed, interrupted"),
    ("runs", ["limit=0"], "limit=0"),
    ("evaluate", [], "run"),
    ("evaluate", ["run=nothing"], "run=nothing"),
])  # fmt: skip
def test_mistakes_are_one_line(name, words, line, runs):
    done = verb(name, *words, folder=runs)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["runs", "evaluate"])
def test_every_command_says_its_version(name, runs):
    done = verb(name, "--version", folder=runs)
    assert (done.returncode, done.stdout) == (0, f"Paperzoo {version('paperzoo')}\n")


def test_a_run_on_a_folder_that_has_moved_is_evaluated_and_reproduced_there(tmp_path, capsys):
    photos = folder(tmp_path / "photos", each=40)
    (photos / "cat" / "bad.png").write_bytes(b"no image")
    runs = tmp_path / "runs"
    words = ["model=resnet", "model.depth=11", "model.width=4", "trainer=cpu", "trainer.max_epochs=1", "logger=none",
             "data=image_folder", f"data.root={photos}", "data.image_size=12", "data.batch_size=8",
             "data.validation=10", "data.test=10", "data.on_error=skip", f"paths.runs_dir={runs}"]  # fmt: skip
    entry = train(compose("train", words))
    named = (runs / "resnet" / entry.identity / "1" / "skipped.txt").read_text()
    assert named.startswith("train: ")
    assert named.endswith("cat/bad.png\n")
    moved = photos.rename(tmp_path / "moved")
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"data.root={moved}", f"paths.runs_dir={runs}"]))
    assert got["test/top1"] == entry.results["last"].metrics["test/top1"]
    capsys.readouterr()
    assert reproduce(entry.id, str(runs), "data", None, root=str(moved)) == 0
    assert "reproduced bit for bit" in capsys.readouterr().out
    with pytest.raises(UserError, match=str(photos)):
        reproduce(entry.id, str(runs), "data", None)
