"""A run that was interrupted at a particular place, or goes on under particular options, ends as one left alone.

Kills at random places are in ``soak.py``.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from composed import compose
from interruption import Died, dying_at

from paperzoo import training
from paperzoo.errors import Interrupted, UserError
from paperzoo.evaluation import evaluate
from paperzoo.runs import checkpoints, compare, record, session
from paperzoo.tasks.classification import ResidualClassifier
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=16", "logger=none",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2",
         "trainer.threads=1", "checkpoint.every_seconds=null"]  # fmt: skip


def only(runs: Path) -> Path:
    (path,) = runs.glob("*/*/*/run.json")
    return path.parent


def weights(runs: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(only(runs) / "checkpoints" / checkpoints.LAST)["state_dict"]


def died(runs: Path, step: int, words: list[str]) -> None:
    with dying_at(step), pytest.raises(Died):
        train(compose("train", [*WORDS, *words, f"paths.runs_dir={runs}"]))


@pytest.mark.promise
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (5, ["checkpoint.every_steps=2", "trainer.precision=64-true"]),
        (8, ["checkpoint.every_steps=1", "trainer.max_steps=9"]),
        (9, ["checkpoint.every_steps=1", "trainer.max_steps=9"]),
        # two steps an epoch: the state is that of the first epoch's end
        (3, ["checkpoint.every_steps=2", "trainer.max_steps=3", "trainer.accumulate_grad_batches=4"]),
    ],
    ids=["float64", "max_steps", "last of max_steps", "max_steps after an epoch's end"],
)
def test_equals_a_run_left_alone(step, words, tmp_path):
    expected = train(compose("train", [*WORDS, *words, f"paths.runs_dir={tmp_path / 'alone'}"]))
    died(tmp_path / "killed", step, words)
    got = train(compose("train", [*WORDS, *words, "resume=auto", f"paths.runs_dir={tmp_path / 'killed'}"]))
    assert len(got.segments) == 2
    assert got.segments[1].from_step > 0
    assert compare.first_difference(expected, got) is None
    left, right = weights(tmp_path / "alone"), weights(tmp_path / "killed")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_last_weights_of_max_steps_are_validated(tmp_path):
    """Lightning validates at an epoch's end alone: the metrics would be those of an earlier epoch."""
    entry = train(compose("train", [*WORDS, "trainer.max_steps=9", f"paths.runs_dir={tmp_path}"]))
    on_record = entry.results["last"].metrics
    got = evaluate(compose("evaluate", [f"run={entry.id}", "split=val", f"paths.runs_dir={tmp_path}"]))
    assert got == {name: value for name, value in on_record.items() if name.startswith("val/")}
    assert entry.epochs[1]["val/loss"] != entry.epochs[0]["val/loss"]


def test_weights_of_a_run_under_way_are_of_their_epoch(tmp_path, capsys):
    died(tmp_path, 9, [])  # in the second epoch
    entry = record.read(only(tmp_path))
    evaluate(compose("evaluate", [f"run={entry.id}", "weights=best", f"paths.runs_dir={tmp_path}"]))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("now")]
    assert row.split()[1] == "1"


@pytest.mark.parametrize("changed", ["trainer.threads=2", "trainer.log_every_n_steps=2", "data.in_memory=false"])
def test_options_outside_the_identity_may_change(changed, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = set()
    step = ResidualClassifier.training_step

    def watched(self, batch, batch_idx):
        threads.add(torch.get_num_threads())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "training_step", watched)
    expected = train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path / 'alone'}"]))
    died(tmp_path / "killed", 5, ["checkpoint.every_steps=4"])
    words = [word for word in WORDS if word.split("=")[0] != changed.split("=")[0]]
    got = train(compose("train", [*words, changed, "resume=auto", f"paths.runs_dir={tmp_path / 'killed'}"]))
    assert got.segments[1].from_step == 4
    assert compare.first_difference(expected, got) is None
    assert threads == {1}  # those that it began with


def test_what_a_killed_writer_left_is_removed(tmp_path):
    died(tmp_path, 3, ["checkpoint.every_steps=2"])
    folder = only(tmp_path)
    left = [folder / ".run.json.123.tmp", folder / "checkpoints" / ".state.ckpt.123.tmp"]
    for path in left:
        path.write_bytes(b"half")
    train(compose("train", [*WORDS, "checkpoint.every_steps=2", "resume=auto", f"paths.runs_dir={tmp_path}"]))
    assert not [path for path in left if path.exists()]


def test_a_signal_at_the_end_does_not_make_it_unfinished(tmp_path, monkeypatch, capsys):
    """It comes when the record says so, and before this process knows that it does."""
    write = record.write

    def interrupted(folder, entry):
        write(folder, entry)
        if entry.status == "finished":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(record, "write", interrupted)
    with pytest.raises(Interrupted):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    entry = record.read(only(tmp_path))
    assert entry.status == "finished"
    assert entry.results
    assert "stopped by SIGTERM: the run has finished, its results are on record" in capsys.readouterr().out


def test_a_signal_at_the_start_is_told(tmp_path, monkeypatch, capsys):
    def interrupted(config, data, weights):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "make_module", interrupted)
    with pytest.raises(Interrupted):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    assert "stopped by SIGINT while it started: nothing is lost" in capsys.readouterr().out


def test_of_two_that_go_on_with_one_run_one_is_refused(tmp_path, monkeypatch):
    """The other process has the lock; or it has had it, and finished the run, between our look and our lock."""
    died(tmp_path, 3, ["checkpoint.every_steps=2"])
    words = [*WORDS, "resume=auto", f"paths.runs_dir={tmp_path}"]
    lock = session._lock(only(tmp_path))
    monkeypatch.setattr(session, "ORPHANS_LIVE", 0.2)
    with pytest.raises(UserError, match="another process is working on this run"):
        train(compose("train", words))
    os.close(lock)
    take = session._lock

    def late(folder):
        entry = record.read(folder)
        entry.status = "finished"
        record.write(folder, entry)
        checkpoints.remove_states(folder / "checkpoints")
        return take(folder)

    monkeypatch.setattr(session, "_lock", late)
    with pytest.raises(UserError, match="has been finished meanwhile"):
        train(compose("train", words))
    assert record.read(only(tmp_path)).status == "finished"


def test_the_data_workers_of_a_killed_process_do_not_keep_its_run(tmp_path):
    """They inherit its lock, and live on for up to five seconds."""
    held = session._lock(tmp_path)
    pid = os.fork()
    if pid == 0:
        time.sleep(1)
        os._exit(0)
    os.close(held)  # the process is gone, its worker is not
    began = time.monotonic()
    os.close(session._lock(tmp_path))
    assert 0.5 < time.monotonic() - began < 5
    os.waitpid(pid, 0)


def test_a_killed_process_that_nobody_waited_for_is_seen_as_interrupted():
    """A zombie still has its id."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    segment = record.new_segment(0)
    segment.pid, segment.process = process.pid, record.process_mark(process.pid)
    assert record.is_alive(segment)
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not record.is_alive(segment)
    process.wait()


def test_trains_in_a_thread_where_no_signals_are_heard(tmp_path):
    words = [*WORDS, "trainer.max_epochs=1", f"paths.runs_dir={tmp_path}"]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, compose("train", words)).result().status == "finished"


@pytest.mark.parametrize("held", [False, True])
def test_a_folder_without_a_record_is_taken_over_unless_a_process_holds_it(held, tmp_path):
    """A process was killed between making its folder and writing its first record, or is about to write it."""
    words = [*WORDS, "trainer.max_epochs=1", f"paths.runs_dir={tmp_path}"]
    first = train(compose("train", words))
    folder = only(tmp_path)
    shutil.rmtree(folder)
    folder.mkdir()
    with (folder / session.LOCK).open("a") as file:
        if held:
            fcntl.flock(file, fcntl.LOCK_EX)
        got = train(compose("train", [*words, "resume=auto"]))
    assert got.id == f"{first.identity}-{2 if held else 1}"
    assert compare.first_difference(first, got) is None
