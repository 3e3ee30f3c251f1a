"""Averages over training batches instead of moving averages, and the learned shares that a run leaves."""

import csv

import pytest
import torch
from composed import compose
from torch import nn

from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.norms.batch_average import batch_average
from paperzoo.papers.switchable_norm import SwitchNorm2d
from paperzoo.training import train


def batches(count: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(4, 3, 5, 5, dtype=torch.float64) * (1 + n) + n for n in range(count)]


def test_switchable_norm_gets_the_moments_of_the_mixture_of_batches():
    layer, given = SwitchNorm2d(3).double(), batches(3)
    layer(given[0])  # whatever it was before
    assert batch_average(layer, given) == 3
    every = torch.stack(given)  # (3, 4, 3, 5, 5): batches of one size, so that their mixture is all of them
    torch.testing.assert_close(layer.running_mean.flatten(), every.mean((0, 1, 3, 4)))
    torch.testing.assert_close(layer.running_var.flatten(), every.var((0, 1, 3, 4), correction=0))
    assert layer.using_moving_average
    assert not layer.training


def test_batch_norm_gets_the_mean_of_the_batches_statistics_and_keeps_its_momentum():
    layer, given = nn.BatchNorm2d(3, momentum=0.3).double(), batches(4)
    network = nn.Sequential(layer, nn.Dropout(0.9))
    assert batch_average(network, given) == 4
    torch.testing.assert_close(layer.running_mean, torch.stack([x.mean((0, 2, 3)) for x in given]).mean(0))
    torch.testing.assert_close(layer.running_var, torch.stack([x.var((0, 2, 3)) for x in given]).mean(0))
    assert layer.momentum == 0.3


def test_without_batch_statistics_it_is_refused():
    with pytest.raises(UserError, match="no batch statistics; use moving_average"):
        batch_average(nn.Sequential(nn.GroupNorm(1, 3), SwitchNorm2d(3, using_bn=False)), batches(1))
    with pytest.raises(UserError, match="no batch to average over"):
        batch_average(nn.BatchNorm2d(3), [])


def test_a_run_leaves_its_shares_and_evaluates_both_ways(tmp_path):
    words = ["model=switchable_norm", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=16",
             "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2",
             "logger=none", "pictures=true", f"paths.runs_dir={tmp_path}"]  # fmt: skip
    entry = train(compose("train", words))
    folder = tmp_path / "switchable_norm" / entry.identity / "1"
    with (folder / "norm_ratios.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["epoch"] for row in rows} == {"1", "2"}
    assert rows[0]["layer"] == "bn1"
    for row in rows:
        for what in ("mean", "variance"):
            assert sum(float(row[f"{what}/{kind}"]) for kind in ("instance", "layer", "batch")) == pytest.approx(1)
    assert float(rows[-1]["mean/batch"]) != pytest.approx(1 / 3, abs=1e-6)  # they are learned
    assert (folder / "figures" / "norm_ratios.png").stat().st_size > 5000
    assert entry.metrics["norm/bn1/mean/batch"] == float(next(r for r in rows if r["epoch"] == "2")["mean/batch"])
    values = {}
    for statistics in ("moving_average", "batch_average"):
        chosen = compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={tmp_path}", f"norm_statistics={statistics}"])
        values[statistics] = evaluate(chosen)["test/loss"]
    assert values["moving_average"] == entry.results["last"].metrics["test/loss"]
    assert values["batch_average"] != values["moving_average"]
