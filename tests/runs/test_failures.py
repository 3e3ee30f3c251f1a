"""Runs that fail: the cause in one line, the state kept, nothing secret written, the record true."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from interruption import stopped_by

from paperzoo.config import compose
from paperzoo.errors import Interrupted, RunError
from paperzoo.papers.resnet.module import ResNet
from paperzoo.runs import checkpoints, record
from paperzoo.runs.history import History
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=16", "logger=none",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2"]  # fmt: skip
TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"


def only(runs: Path) -> Path:
    (path,) = runs.glob("*/*/*/run.json")
    return path.parent


def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path, monkeypatch):
    step = ResNet.training_step

    def diverging(self, batch, batch_idx):
        if self.trainer.global_step == 7:
            batch = (batch[0] * torch.inf, batch[1])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResNet, "training_step", diverging)
    with pytest.raises(RunError) as caught:
        train(compose("train", [*WORDS, "checkpoint.every_steps=3", f"paths.runs_dir={tmp_path}"]))
    line = str(caught.value)
    assert "\n" not in line
    assert "became nan at step 7 (epoch 2)" in line
    assert "last finite loss 2." in line
    entry = record.read(only(tmp_path))
    assert (entry.status, entry.failure.kind) == ("failed", "NonFiniteLoss")
    state = checkpoints.newest_state(only(tmp_path))
    assert str(state) in line
    assert checkpoints.load(state)["global_step"] == 6


def test_out_of_memory_suggests_a_smaller_batch(tmp_path, monkeypatch):
    def too_large(self, batch, batch_idx):
        return torch.empty(2**46, dtype=torch.uint8).sum()

    monkeypatch.setattr(ResNet, "training_step", too_large)
    with pytest.raises(RunError, match=r"halve data.batch_size and double"):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    assert record.read(only(tmp_path)).failure.kind == "OutOfMemory"


def test_an_operation_without_a_deterministic_form_is_named(tmp_path, monkeypatch):
    """On a CPU torch has few of them; max_unpool2d is one."""
    step = ResNet.training_step

    def unpooling(self, batch, batch_idx):
        pooled, places = torch.nn.functional.max_pool2d(batch[0], 2, return_indices=True)
        torch.nn.functional.max_unpool2d(pooled, places, 2)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResNet, "training_step", unpooling)
    with pytest.raises(RunError, match=r"^max_unpooling2d\S* has no deterministic form .* deterministic=false"):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path / 'a'}"]))
    assert record.read(only(tmp_path / "a")).failure.kind == "NotDeterministic"
    entry = train(compose("train", [*WORDS, "deterministic=false", f"paths.runs_dir={tmp_path / 'b'}"]))
    assert not entry.determinism.algorithms


@pytest.mark.parametrize(("number", "part"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_a_disk_that_takes_no_more_is_said(number, part, tmp_path, monkeypatch):
    def write(self, folder):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(History, "write", write)
    with pytest.raises(RunError, match=part):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    assert record.read(only(tmp_path)).failure.kind == "Disk"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_state_of_its_step(number, code, tmp_path):
    with stopped_by(number, after_steps=4), pytest.raises(Interrupted) as caught:
        train(compose("train", [*WORDS, "checkpoint.every_seconds=null", f"paths.runs_dir={tmp_path}"]))
    assert caught.value.exit_code == code
    assert record.read(only(tmp_path)).status == "interrupted"
    assert checkpoints.load(checkpoints.newest_state(only(tmp_path)))["global_step"] == 4
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # given back


def test_sigterm_from_outside_ends_in_time_with_143_and_no_secret_is_written(tmp_path):
    key = os.urandom(20).hex()
    words = [word for word in WORDS if word != "logger=none"] + ["trainer.max_epochs=500", f"paths.runs_dir={tmp_path}"]
    environment = os.environ | {"WANDB_API_KEY": key, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, TRAIN, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*/*/metrics.csv")):  # an epoch is done
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert record.read(only(tmp_path)).observed_status() == "running"
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert time.monotonic() - told < 20
    assert "stopped by SIGTERM" in output
    assert "Traceback" not in output
    assert record.read(only(tmp_path)).status == "interrupted"
    assert checkpoints.newest_state(only(tmp_path)) is not None
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]


def test_a_killed_process_is_seen_as_interrupted(tmp_path):
    train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    entry = record.read(only(tmp_path))
    entry.status = "running"
    assert entry.observed_status() == "running"  # this process lives
    entry.segments[-1].process_started -= 100  # another process had this pid
    assert entry.observed_status() == "interrupted"
