"""W&B's own programs against a stand-in for its server: sweep, agent, online runs, sync of offline ones."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import forked
import pytest
from wandb_server import Server

from paperzoo.runs import folders, record
from paperzoo.tracking import automatic_mode

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "src" / "train.py"
TINY = ["model=resnet", "model.width=4", "data.limit_train=32", "data.batch_size=16", "data.image_size=12",
        "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2", "trainer.threads=1"]  # fmt: skip
SWEEP = """
program: src/train.py
project: paperzoo
method: grid
metric: {name: test/top1, goal: maximize}
parameters:
  model: {value: resnet}
  model.width: {value: 4}
  data.limit_train: {value: 32}
  data.batch_size: {value: 16}
  data.image_size: {value: 12}
  data.validation: {value: 50}
  data.test: {value: 50}
  trainer: {value: cpu}
  trainer.max_epochs: {value: 1}
  trainer.threads: {value: 1}
  seed: {values: [3]}
command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
"""


@pytest.fixture
def server():
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def do(server, tmp_path):
    """Runs a command as a user of W&B on this machine would."""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"} | {
        "WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": server.url, "WANDB_ERROR_REPORTING": "false",
        "HOME": str(tmp_path), "RUNS_DIR": str(tmp_path / "runs"), "WANDB_DIR": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip

    def run(*command) -> str:
        if command[0] == TRAIN:
            done = forked.run(*command, env=environment, cwd=ROOT)
        else:
            done = subprocess.run(list(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True,
                                  timeout=300, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def entries(runs: Path) -> list[record.Record]:
    return [record.read(folder) for folder in folders.all_folders(runs)]


def test_an_agent_runs_the_sweep_and_the_server_has_what_the_records_have(do, server, tmp_path):
    file = tmp_path / "question.yaml"
    file.write_text(SWEEP)
    assert "sweep0" in do("wandb", "sweep", file)
    do("wandb", "agent", "someone/paperzoo/sweep0")
    local = {entry.seed: entry for entry in entries(tmp_path / "runs")}
    assert {seed: entry.status for seed, entry in local.items()} == {3: "finished"}
    assert server.sweeps["sweep0"]["state"] == "FINISHED"
    assert {run["state"] for run in server.runs.values()} == {"finished"}
    for name, cell in server.sweeps["sweep0"]["given"].items():
        run = server.runs[name]
        assert run["sweep"] == "sweep0"
        summary = json.loads(run["summary"])
        assert {key: summary[key] for key in local[cell["seed"]].metrics} == local[cell["seed"]].metrics
        assert any("val/top1" in row for row in run["history"])
    assert not server.unknown


def test_an_offline_run_is_synchronised_later(do, server, tmp_path):
    do(TRAIN, *TINY, "trainer.max_epochs=1")
    (entry,) = entries(tmp_path / "runs")
    assert not server.runs  # auto is offline without an agent
    do("wandb", "sync", *(tmp_path / "runs").glob("*/*/*/wandb/offline-run-*"))
    run = server.runs[entry.id]
    summary = json.loads(run["summary"])
    assert {key: summary[key] for key in entry.metrics} == entry.metrics
    assert run["state"] == "finished"


def test_a_server_that_goes_away_in_the_middle_costs_nothing(do, server, tmp_path):
    def leave() -> None:
        while not server.runs:  # until the run is known there
            time.sleep(0.05)
        server.away = True

    threading.Thread(target=leave, daemon=True).start()
    start = time.monotonic()
    said = do(TRAIN, *TINY, "logger.mode=online", "trainer.max_epochs=3", "data.limit_train=320")
    assert time.monotonic() - start < 120
    assert server.away
    (entry,) = entries(tmp_path / "runs")
    assert entry.status == "finished"
    assert len(entry.epochs) == 3
    assert "wandb sync --no-skip-online" in said.replace("\n", " ")
    server.away = False
    do("wandb", "sync", "--no-skip-online", *(tmp_path / "runs").glob("*/*/*/wandb/run-*"))
    summary = json.loads(server.runs[entry.id]["summary"])
    assert summary["test/top1"] == entry.metrics["test/top1"]


@pytest.mark.parametrize(("environment", "mode"), [
    ({}, "offline"), ({"WANDB_SWEEP_ID": "x"}, "online"), ({"WANDB_MODE": "online"}, "online"),
    ({"WANDB_SWEEP_ID": "x", "WANDB_MODE": "offline"}, "offline"),
])  # fmt: skip
def test_the_automatic_mode(environment, mode, monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert automatic_mode() == mode
