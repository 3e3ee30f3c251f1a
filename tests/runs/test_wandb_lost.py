"""W&B goes away in the middle of a run: the run ends as without it, and says so in one line."""

import os
import signal

import psutil
import pytest
from wandb_server import Server

from paperzoo import tracking
from paperzoo.config import compose
from paperzoo.runs import record
from paperzoo.tasks.classification import ResidualClassifier
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=64", "data.batch_size=16",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2"]  # fmt: skip


def kill_service() -> None:
    """SIGKILL W&B's own process."""
    for process in psutil.Process().children(recursive=True):
        if process.name() == "wandb-core":
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.mark.parametrize("gone", ["service", "server"])
def test_a_run_outlives_wandb(gone, tmp_path, monkeypatch, capsys):
    server = Server()
    monkeypatch.setenv("WANDB_API_KEY", os.urandom(20).hex())
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(tracking, "PATIENCE", 3.0)
    step = ResidualClassifier.training_step

    def alone(self, batch, batch_idx):
        if self.trainer.global_step == 5:
            kill_service() if gone == "service" else server.stop()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ResidualClassifier, "training_step", alone)
    mode = "offline" if gone == "service" else "online"
    entry = train(compose("train", [*WORDS, f"logger.mode={mode}", f"paths.runs_dir={tmp_path}"]))
    if gone == "service":
        server.stop()
    output = capsys.readouterr().out
    assert output.count("note: W&B is lost (") == 1
    assert (entry.status, len(entry.epochs), len(entry.results)) == ("finished", 2, 2)
    assert record.read(next(tmp_path.glob("resnet/*/1"))) == entry
