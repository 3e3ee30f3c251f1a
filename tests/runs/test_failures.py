"""Runs that fail: the cause in one line, the state kept, nothing secret written, the record true."""

import errno
import os
import signal
import time
from pathlib import Path

import forked
import pytest
import torch
from composed import compose
from interruption import stopped_by
from torch.optim.optimizer import register_optimizer_step_post_hook

from paperzoo.errors import Interrupted, RunError, UserError
from paperzoo.runs import checkpoints, compare, exact_state, record
from paperzoo.runs.history import History
from paperzoo.tasks.classification import ResidualClassifier
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=16", "logger=none",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2"]  # fmt: skip
TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"


def only(runs: Path, attempt: int = 1) -> Path:
    (path,) = runs.glob(f"*/*/{attempt}/run.json")
    return path.parent


def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path, monkeypatch):
    step = ResidualClassifier.training_step

    def diverging(self, batch, batch_idx):
        if self.trainer.global_step == 7:
            batch = batch._replace(inputs=batch.inputs * torch.inf)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "training_step", diverging)
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

    monkeypatch.setattr(ResidualClassifier, "training_step", too_large)
    with pytest.raises(RunError, match=r"halve data.batch_size and double"):
        train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    assert record.read(only(tmp_path)).failure.kind == "OutOfMemory"


def test_an_operation_without_a_deterministic_form_is_named(tmp_path, monkeypatch):
    """On a CPU torch has few of them; max_unpool2d is one."""
    step = ResidualClassifier.training_step

    def unpooling(self, batch, batch_idx):
        pooled, places = torch.nn.functional.max_pool2d(batch[0], 2, return_indices=True)
        torch.nn.functional.max_unpool2d(pooled, places, 2)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "training_step", unpooling)
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


def test_a_disk_that_takes_nothing_more_at_all(tmp_path, monkeypatch):
    """Not even the record of the failure: the line is told all the same, and the last state stands."""
    runs = f"paths.runs_dir={tmp_path}"
    sync, taken = os.fsync, 0

    def full(descriptor):
        nonlocal taken
        taken += 1
        if taken > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunError, match=rf"^the disk is full; free some space \({tmp_path}/\S+/1\); .* the last exact state"
    ):
        train(compose("train", [*WORDS, "checkpoint.every_steps=1", runs]))
    left = checkpoints.load(checkpoints.newest_state(only(tmp_path)))["global_step"]
    assert left >= 1
    assert record.read(only(tmp_path)).status == "running"  # it could not be written; once we are gone: interrupted
    with pytest.raises(UserError, match=r"^paths.runs_dir=\S+: cannot write to it \(.*No space left"):
        train(compose("train", [*WORDS, runs]))
    monkeypatch.undo()
    entry = record.read(only(tmp_path).parent / "1")
    entry.segments[-1].process = "another"  # it died
    record.write(only(tmp_path), entry)
    assert train(compose("train", [*WORDS, "resume=auto", runs])).segments[1].from_step == left


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_checkpoint_on_a_full_disk_is_the_disks_error():
    """torch.save hides it behind its own."""
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left") as caught:  # noqa: PTH123
        checkpoints._write({"x": torch.zeros(10**5)}, file)
    assert caught.value.errno == errno.ENOSPC


def test_weights_that_became_nan_are_no_state_to_go_on_from(tmp_path):
    """The gradient of a finite loss can be NaN: the step is taken, and no loss has told yet."""
    count = 0

    def spoil(optimizer, *_):
        nonlocal count
        count += 1
        if count == 4:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(torch.nan)

    handle = register_optimizer_step_post_hook(spoil)
    try:
        with pytest.raises(RunError, match="became nan at step 4"):
            train(compose("train", [*WORDS, "checkpoint.every_steps=1", f"paths.runs_dir={tmp_path}"]))
    finally:
        handle.remove()
    assert checkpoints.load(checkpoints.newest_state(only(tmp_path)))["global_step"] == 3


def test_a_second_ctrl_c_does_not_wait_and_is_an_interruption_too(tmp_path, monkeypatch):
    step = ResidualClassifier.training_step

    def impatient(self, batch, batch_idx):
        if self.trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "training_step", impatient)
    with pytest.raises(Interrupted) as caught:
        train(compose("train", [*WORDS, "checkpoint.every_steps=3", f"paths.runs_dir={tmp_path}"]))
    assert caught.value.exit_code == 130
    assert record.read(only(tmp_path)).status == "interrupted"
    assert checkpoints.load(checkpoints.newest_state(only(tmp_path)))["global_step"] == 3


def test_nan_in_evaluation_is_in_its_loss(tmp_path, monkeypatch):
    """torchmetrics' mean leaves NaNs out, so that the loss of a network that fails on some images looked sound."""
    forward = ResidualClassifier.forward

    def failing(self, images):
        logits = forward(self, images)
        return logits if self.training else torch.cat([logits[:1] * torch.nan, logits[1:]])

    monkeypatch.setattr(ResidualClassifier, "forward", failing)
    words = [*WORDS, "trainer.max_epochs=1", f"paths.runs_dir={tmp_path}"]
    first, second = train(compose("train", words)), train(compose("train", words))
    assert first.epochs[0]["val/loss"] != first.epochs[0]["val/loss"]  # NaN
    assert compare.first_difference(record.read(only(tmp_path, 1)), second) is None


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
    words += ["data.in_memory=false", "data.workers=2"]
    log = tmp_path.parent / f"{tmp_path.name}.log"
    process = forked.start(TRAIN, *words, log=log, env=os.environ | {"WANDB_API_KEY": key})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*/*/metrics.csv")):  # an epoch is done
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert record.read(only(tmp_path)).observed_status() == "running"
    os.killpg(process.pid, signal.SIGTERM)  # data workers hear it, too
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
    entry.segments[-1].process_started -= 3600  # the clock was set
    assert entry.observed_status() == "running"
    entry.segments[-1].process = "another"  # had this pid
    assert entry.observed_status() == "interrupted"
    entry.segments[-1].process = None  # a record of schema 1, or a system without /proc
    assert entry.observed_status() == "interrupted"
    entry.segments[-1].process_started += 3600
    assert entry.observed_status() == "running"


@pytest.mark.parametrize(("patience", "step"), [(10.0, 6), (0.0, None)])
def test_a_signal_during_validation_waits_for_its_end_and_the_state_is_saved(patience, step, tmp_path, monkeypatch):
    """6 steps an epoch; a validation that takes too long is left at once."""
    validate = ResidualClassifier.validation_step

    def stopping(self, batch, batch_idx):
        if not self.trainer.sanity_checking and self.trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "validation_step", stopping)
    monkeypatch.setattr(exact_state, "PATIENCE", patience)
    with pytest.raises(Interrupted):
        train(compose("train", [*WORDS, "checkpoint.every_seconds=null", f"paths.runs_dir={tmp_path}"]))
    found = checkpoints.newest_state(only(tmp_path))
    assert (None if found is None else checkpoints.load(found)["global_step"]) == step
