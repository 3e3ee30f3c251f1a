"""Two ranks train a detector as one process does with the joint batch."""

import csv
from pathlib import Path

import forked
import pytest
import torch
from composed import compose

from paperzoo.detection import losses, sampling
from paperzoo.training import train

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
WORDS = ["norm=sync_batch", "logger=none", "trainer.precision=64-true", "trainer.max_epochs=2", "trainer.threads=1",
         "trainer.log_every_n_steps=1", "data.images=12", "data.image_size=64", "data.digit_size=[18,40]",
         "model.channels=8", "model.hidden=16", "model.regions=8", "model.proposals=20",
         "checkpoint.every_seconds=null"]  # fmt: skip


def curves(runs):
    (path,) = runs.glob("*/*/*/steps.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0] if name.startswith("train/")}


@pytest.mark.full
def test_two_ranks_with_two_images_follow_one_with_four(monkeypatch, tmp_path):
    """With synchronised statistics, though the ranks have different numbers of objects and of sampled regions.

    Regions are the first instead of drawn, since ranks draw different ones; the ranks are forks, where this holds too.
    """
    monkeypatch.setattr(sampling, "choose", lambda candidates, count, _: candidates[:count])
    words = ["model=htc", *WORDS]
    train(compose("train", [*words, "trainer=cpu", "data.batch_size=4", f"paths.runs_dir={tmp_path / 'one'}"]))
    ranks = ["trainer=ddp_cpu", "data.batch_size=2", f"paths.runs_dir={tmp_path / 'two'}"]
    for process in forked.start_ranks(TRAIN, *words, *ranks, ranks=2, logs=tmp_path / "logs"):
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 0, output[-3000:]
    alone, together = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert len(alone["train/loss"]) == 6
    assert alone.keys() == together.keys() >= {"train/loss"}
    for name, curve in alone.items():
        assert together[name] == pytest.approx(curve, rel=1e-7), name


def weighted(rank: int, counts: list[int]) -> tuple[float, float]:
    """A rank's classification loss and mask loss of as many rows as it has, and zero of none."""
    rows = torch.arange(sum(counts)).split(counts)[rank]
    logits = torch.sin(torch.arange(sum(counts) * 12, dtype=torch.float64)).view(-1, 3, 2, 2)[rows]
    labels = rows % 3
    of_classes = losses.classification_loss(logits[..., 0, 0], labels)
    return float(of_classes), float(losses.mask_loss(logits, labels, (logits[:, 0] > 0).double()))


@pytest.mark.parametrize("counts", [[3, 3], [5, 1], [0, 4], [0, 0]])
def test_the_mean_of_ranks_is_that_of_all_regions(counts, ranks):
    expected = weighted(0, [sum(counts)])
    found = torch.tensor(ranks.run(2, weighted, counts), dtype=torch.float64)
    assert found.mean(dim=0).tolist() == pytest.approx(expected, rel=1e-6)
