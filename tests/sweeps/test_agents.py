"""``python src/sweep.py``: agents, their runs, and what happens when something goes wrong."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import forked
import pytest
import soak_sweep
import yaml

from paperzoo.runs import folders, record
from paperzoo.sweeps.agents import Agents
from paperzoo.sweeps.specification import read
from paperzoo.sweeps.storage import Plan, runs_of

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "src" / "sweep.py"
PLAIN: dict[str, Any] = {
    "program": "tests/sweeps/quick.py",
    "method": "grid",
    "metric": {"name": "val/top1", "goal": "maximize"},
    "parameters": {
        "model": {"value": "resnet"},
        "optimizer.lr": {"values": [0.1, 0.2]},
        "seed": {"values": [0, 1, 2]},
        "trainer.max_epochs": {"value": 3},
    },
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
}


class Case:
    """A sweep file and its runs in a folder of their own."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.path, self.runs = folder / "question.yaml", folder / "runs"
        parameters = PLAIN["parameters"] | changes.pop("parameters", {})
        self.path.write_text(yaml.safe_dump(PLAIN | changes | {"parameters": parameters}))

    def line(self, *words: str) -> tuple[str, ...]:
        """The command's words."""
        return str(self.path), f"runs_dir={self.runs}", *words

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return forked.run(SWEEP, *self.line(*words), cwd=ROOT, timeout=300)

    def start(self, *words: str) -> Any:
        """Begin it."""
        return forked.start(SWEEP, *self.line(*words), log=self.path.with_suffix(".log"), cwd=ROOT)

    @property
    def plan(self) -> Plan:
        """As it stands in the storage."""
        return Plan(read(self.path), "question", f"sqlite:///{self.runs / 'sweeps' / 'question.db'}")

    def finished(self) -> list[str]:
        """The ids of all finished runs."""
        return sorted(entry.id for entry in self.records() if entry.status == "finished")

    def records(self) -> list[record.Record]:
        """Of all runs that have one by now."""
        there = [folder for folder in folders.all_folders(self.runs) if (folder / record.FILE).exists()]
        return [record.read(folder) for folder in there]


def test_a_sweep_runs_to_its_end_again_does_nothing_and_another_runs_what_is_new(tmp_path: Path) -> None:
    case = Case(tmp_path)
    done = case.run("agents=2")
    assert done.returncode == 0, done.stderr
    assert "6 of 6 done, best val/top1 0.6 (" in done.stdout
    assert len(case.finished()) == 6
    assert sorted(run for _, run in runs_of(case.plan)) == case.finished()
    again = case.run()
    assert again.returncode == 0
    assert len(case.finished()) == 6
    # A finished identity is not run again by another sweep.
    other = Case(tmp_path, parameters={"seed": {"values": [0, 1, 2, 3]}})
    other.path = other.path.rename(tmp_path / "other.yaml")
    assert other.run("agents=2").returncode == 0
    assert len(case.finished()) == 8


def test_a_failed_run_is_recorded_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    case = Case(tmp_path, parameters={"optimizer.lr": {"values": [0.1, 2.0, 20.0]}, "seed": {"values": [0, 1]}})
    done = case.run("agents=2")
    assert done.returncode == 1
    assert "failed   optimizer.lr=2.0 seed=0" in done.stdout
    assert "the loss became nan" in done.stdout
    reasons = [trial.user_attrs.get("reason", "") for trial in case.plan.counted().values()]
    assert reasons[:4] == ["", "", "the loss became nan", "the loss became nan"]
    assert reasons[4].startswith("no record was made (exit code 1; see ")
    assert "2 of 6 done, 4 failed" in done.stdout


def test_so_many_failures_stop_the_sweep(tmp_path: Path) -> None:
    case = Case(tmp_path, parameters={"optimizer.lr": {"values": [2.0, 0.1]}})
    done = case.run("max_failures=2")
    assert done.returncode == 1
    assert "stopped: 2 runs failed (max_failures=2); retry_failed=true tries them again" in done.stdout
    assert case.finished() == []
    assert [trial.state.name for trial in case.plan.counted().values()].count("WAITING") == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_all_consistent_and_the_same_command_goes_on(tmp_path: Path, number: int, code: int) -> None:
    case = Case(tmp_path, parameters={"trainer.max_epochs": {"value": 8}})
    process = case.start("agents=2")
    wait_for(lambda: any(entry.epochs for entry in case.records()))
    os.kill(process.pid, number)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == code
    assert "the same command goes on" in said
    assert " interrupted" in said
    assert "failed" not in said
    assert {entry.status for entry in case.records()} <= {"interrupted", "finished"}
    assert not [trial for trial in case.plan.trials() if trial.state.name == "RUNNING"]
    assert case.run("agents=2").returncode == 0
    assert len(case.finished()) == 6
    assert len(list(folders.all_folders(case.runs))) == 6  # what was interrupted went on, in its own folder


def test_a_killed_sweep_takes_its_runs_with_it_and_they_go_on(tmp_path: Path) -> None:
    case = Case(tmp_path, parameters={"trainer.max_epochs": {"value": 8}})
    process = case.start("agents=2")
    wait_for(lambda: any(entry.epochs for entry in case.records()))
    process.kill()
    process.wait()
    wait_for(lambda: all(entry.status != "running" for entry in case.records()))
    assert case.run("agents=2").returncode == 0
    assert len(case.finished()) == 6
    assert len(list(folders.all_folders(case.runs))) == 6


def test_hyperband_stops_a_run_through_its_agent(tmp_path: Path) -> None:
    case = Case(
        tmp_path,
        early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2},
        parameters={
            "optimizer.lr": {"values": [0.9, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01]},
            "seed": {"value": 0},
            "trainer.max_epochs": {"value": 8},
        },
    )
    done = case.run()
    assert done.returncode == 0
    states = [trial.state.name for trial in case.plan.counted().values()]
    assert states[0] == "COMPLETE"
    assert "PRUNED" in states
    assert "stopped early" in done.stdout


def test_two_processes_share_a_sweep(tmp_path: Path) -> None:
    case = Case(tmp_path)
    both = [case.start(), case.start()]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(case.finished()) == 6
    assert len(list(folders.all_folders(case.runs))) == 6
    hosts = {trial.user_attrs["agent"]["pid"] for trial in case.plan.counted().values()}
    assert len(hosts) == 2


def test_real_runs_survive_kills_of_the_sweep(tmp_path: Path) -> None:
    """Ten kills of eight runs: python tests/sweeps/soak_sweep.py."""
    assert soak_sweep.kill_and_restart(tmp_path, kills=1, agents=2, seed=3, cells=4) == []


def test_no_process_is_signalled_that_is_not_the_run(tmp_path: Path, monkeypatch: Any) -> None:
    """A run of another host, or of a process that is gone, has the number of a process of ours."""
    case = Case(tmp_path, parameters={"optimizer.lr": {"value": 0.1}, "seed": {"value": 0}})
    assert case.run("agents=1").returncode == 0
    entry, folder = case.records()[0], next(case.runs.glob("resnet/*/1"))
    told = tmp_path / "0.run"
    told.write_text(str(folder))
    agents = Agents(case.plan, 1, case.runs, max_failures=1)
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    monkeypatch.setattr(record, "SILENT_AFTER", 1.0)
    claim: Any = None

    def waited(**changes: Any) -> float:
        entry.status, entry.segments = "running", [record.new_segment(0).model_copy(update=changes)]
        record.write(folder, entry)
        began = time.monotonic()
        agents._wait_for_orphan(claim, told)
        return time.monotonic() - began

    assert waited(process="another") < 0.4
    assert waited(host="elsewhere") > 0.6
    assert not signals


def wait_for(condition: Any, seconds: float = 60) -> None:
    """Look until it holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
