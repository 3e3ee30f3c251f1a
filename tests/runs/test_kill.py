"""SIGKILL at random steps, several in a row, then resume: equal to the run left alone (``make soak`` runs 200)."""

from pathlib import Path

import forked
import pytest

pytestmark = pytest.mark.full


# Seeds of which every kill is at least four steps before the end, and one trial has two: then none comes too late.
@pytest.mark.parametrize(
    ("ranks", "trials", "norm", "seed", "more"),
    [
        (1, 3, "paper", 1, ()),
        (2, 2, "sync_batch", 61, ()),
        (2, 1, "mabn", 222, ()),
        (1, 3, "paper", 1, ("trainer.val_check_interval=4", "scheduler=plateau", "scheduler.patience=0")),
        (2, 2, "sync_batch", 61, ("trainer.strategy=fsdp", "trainer.val_check_interval=4")),
    ],
)
def test_killed_runs_end_as_runs_left_alone(ranks, trials, norm, seed, more):
    script = Path(__file__).with_name("soak.py")
    small = ("data.limit_train=131", "steps=15")  # 9 batches an epoch, the last of 3 images, two a step
    words = (f"trials={trials}", f"ranks={ranks}", f"norm={norm}", f"seed={seed}", *small, *more)
    done = forked.run(script, *words, timeout=400)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-2000:]
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    assert f"equal {trials}, lost 0" in last
    kills = int(last.split("kills ")[1].split(",")[0])
    assert kills >= trials  # a trial without a kill would prove nothing
