"""The learning-rate finder: its curve is that of a loop by hand, and it leaves nothing behind."""

import sys

import numpy as np
import pytest
import torch
from composed import compose

from paperzoo import lr_finder
from paperzoo.config.program import taken
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.tasks.making import make_module

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "data.image_size=8", "trainer=cpu", "logger=none",
         "data.limit_train=320", "data.batch_size=16", "data.validation=50", "data.test=50",
         "trainer.precision=64-true"]  # fmt: skip
STEPS, LOWEST, HIGHEST = 18, 1e-3, 1.0


def by_hand(config):
    """Rates, and losses of SGD at a rate that is set before each step, as a mean with weights of 0.98 ** age."""
    data = make_data(config)
    module = make_module(config, data)
    data.trainer = type("Trainer", (), {"precision": "64-true"})()
    optimizer = torch.optim.SGD(module.network.parameters(), 1.0, momentum=0.9, nesterov=True, weight_decay=5e-4)
    module.network.train()
    rates, losses = [], []
    for step, batch in zip(range(STEPS), data.train_dataloader(), strict=False):
        images, labels, *_ = data.on_after_batch_transfer(batch, 0)
        rates.append(LOWEST * (HIGHEST / LOWEST) ** ((step + 1) / STEPS if step else 0))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module.network(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    ages = [0.98 ** np.arange(n)[::-1] for n in range(1, STEPS + 1)]
    return rates, [float((age * losses[: len(age)]).sum() / age.sum()) for age in ages]


def test_the_curve_is_that_of_a_loop_by_hand_and_nothing_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"])
    rates, losses = by_hand(config)
    curve = lr_finder.find(config, STEPS, LOWEST, HIGHEST)
    assert curve.rates == pytest.approx(rates, rel=1e-12)
    assert curve.losses == pytest.approx(losses, rel=1e-8)
    steepest = np.gradient(np.array(losses)[10:-1], np.array(rates)[10:-1]).argmin() + 10
    assert curve.suggestion == pytest.approx(rates[steepest], rel=1e-6)
    lr_finder.show(curve, "title")
    said = capsys.readouterr().out
    assert f"suggested: optimizer.lr={curve.suggestion:.3g}" in said
    assert f"lowest loss: at {rates[int(np.argmin(losses))]:.3g}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_a_loss_that_is_no_longer_finite_ends_nothing():
    curve = lr_finder.find(compose("train", WORDS), 20, 1e-3, 1e30)
    assert 2 <= len(curve.losses) <= 20
    lr_finder.show(curve, "title")


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        ([], {"steps": 12}, "steps=12: must be at least 13"),
        ([], {"lowest": 1.0, "highest": 0.1}, "lowest=1 highest=0.1: must be rates above 0, the second the larger"),
        (["trainer=ddp_cpu"], {}, "trainer=ddp_cpu: the learning rate is looked for on one device"),
    ],
)
def test_mistakes_are_one_line(words, given, said):
    with pytest.raises(UserError, match=said):
        lr_finder.find(compose("train", [*WORDS, *words]), **given)


def test_the_commands_own_options_are_told_from_the_configurations(monkeypatch, capsys):
    own, left = taken(["model=scnet", "steps=20", "optimizer=adamw", "out=lr.png"], lr_finder.OWN)
    assert own == {"steps": "20", "lowest": "1e-5", "highest": "1", "out": "lr.png"}
    assert left == ["model=scnet", "optimizer=adamw"]
    monkeypatch.setattr(sys, "argv", ["lr_finder", "--help"])
    lr_finder.main()
    assert "python -m paperzoo.lr_finder model=scnet" in capsys.readouterr().out
