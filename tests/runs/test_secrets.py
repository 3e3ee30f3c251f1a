"""A key in the environment is in no file of a run, whether it logs offline, online or fails."""

import os
import subprocess
from pathlib import Path

import forked
import pytest
import wandb
from wandb_server import Server

from paperzoo.runs import record

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=32", "data.batch_size=16",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=1",
         "trainer.threads=1"]  # fmt: skip


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


def trained(
    runs: Path, key: str, words: list[str], url: str = "http://127.0.0.1:1"
) -> subprocess.CompletedProcess[str]:
    home = runs / "home"
    home.mkdir()
    environment = os.environ | {
        "WANDB_API_KEY": key, "WANDB_BASE_URL": url, "WANDB_ERROR_REPORTING": "false", "HOME": str(home),
    }  # fmt: skip
    return forked.run(TRAIN, *WORDS, *words, f"paths.runs_dir={runs / 'runs'}", env=environment)


def files_with(key: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


@pytest.mark.parametrize(("words", "code", "status"), [
    (["logger.mode=offline"], 0, "finished"),
    (["logger.mode=online"], 0, "finished"),
    (["logger.mode=offline", "optimizer.lr=1e30"], 1, "failed"),
    (["logger.mode=online", "optimizer.lr=1e30"], 1, "failed"),
])  # fmt: skip
def test_no_file_holds_the_key(words, code, status, tmp_path, server):
    key = os.urandom(20).hex()
    done = trained(tmp_path, key, words, server.url)
    assert done.returncode == code, done.stderr
    assert key not in done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*/*/*/run.json")
    assert record.read(path.parent).status == status
    assert list(path.parent.glob("wandb/*/*.wandb"))
    assert not files_with(key, tmp_path / "runs")
    if "logger.mode=online" in words:
        assert server.exit_codes == [code]
        assert code or any("test/top1" in row or "val/top1" in row for row in server.history)
        assert not server.unknown


@pytest.fixture
def service():
    """W&B's service of this process, which its children find in their environment."""
    wandb.setup()
    assert "WANDB_SERVICE" in os.environ
    yield
    wandb.teardown()


def test_a_server_that_cannot_be_reached_costs_the_run_nothing(tmp_path, service):
    key = os.urandom(20).hex()
    done = trained(tmp_path, key, ["logger.mode=online"])
    assert done.returncode == 0, done.stderr
    assert "note: W&B cannot be reached (" in done.stdout
    assert "this run logs offline, `wandb sync " in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stdout + done.stderr
    (path,) = (tmp_path / "runs").glob("*/*/*/run.json")
    assert record.read(path.parent).status == "finished"
    assert list(path.parent.glob("wandb/offline-run-*/*.wandb"))
    assert not files_with(key, tmp_path)
