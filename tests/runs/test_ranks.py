"""Two ranks as a user starts them: one folder, every sample counted once, other random numbers on each rank."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paperzoo.config import compose
from paperzoo.evaluation import evaluate
from paperzoo.runs import random_state, record

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=8",
         "data.image_size=12", "data.validation=51", "data.test=53", "data.eval_batch_size=16",
         "trainer=ddp_cpu", "trainer.max_epochs=2", "trainer.threads=1"]  # fmt: skip


def test_two_processes_make_one_run_and_count_every_sample_once(tmp_path):
    command = [sys.executable, TRAIN, *WORDS, f"paths.runs_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" begins in ") == 1  # rank 0 alone speaks
    (path,) = tmp_path.glob("*/*/*/run.json")
    entry = record.read(path.parent)
    assert (entry.ranks, entry.global_batch_size) == (2, 16)
    assert len(list(tmp_path.glob("*/*/*/wandb/offline-run-*"))) == 1
    again = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={tmp_path}"]))  # on one rank
    on_record = entry.results["last"].metrics
    assert again["test/top1"] == on_record["test/top1"]
    assert again["test/loss"] == pytest.approx(on_record["test/loss"], rel=1e-6)
    assert again["test/ece"] == pytest.approx(on_record["test/ece"], rel=1e-4)


def test_ranks_draw_other_numbers_and_repeat_them():
    drawn = []
    for rank in (0, 1, 0):
        random_state.seed_everything(3, "training", "rank", rank)
        drawn.append(torch.rand(8))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_saved_state_goes_on_with_the_same_numbers():
    random_state.seed_everything(1)
    torch.rand(3)
    saved = random_state.state()
    expected = torch.rand(5)
    random_state.restore(saved)
    assert torch.equal(torch.rand(5), expected)
