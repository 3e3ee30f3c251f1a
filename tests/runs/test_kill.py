"""SIGKILL at random steps, several in a row, then resume: equal to the run left alone (``make soak`` runs 200)."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full


@pytest.mark.parametrize(("ranks", "trials", "norm"), [(1, 6, "paper"), (2, 4, "sync_batch"), (2, 2, "mabn")])
def test_killed_runs_end_as_runs_left_alone(ranks, trials, norm):
    script = Path(__file__).with_name("soak.py")
    command = [sys.executable, script, f"trials={trials}", f"ranks={ranks}", f"norm={norm}", "seed=7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-2000:]
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert f"equal {trials}, lost 0" in last
    kills = int(last.split("kills ")[1].split(",")[0])
    assert kills >= trials  # a trial without a kill would prove nothing
