"""Schedules against hand-computed rates and torch's own schedulers."""

import itertools
import math

import pytest
import torch

from paperzoo.papers.cosine_decay import cosine, step_decay


def test_cosine_by_hand():
    """4 steps of warm-up, then 8 of decay; step 4 is at the base, step 12 at the end."""
    rates = [cosine(step, 12, 4, base=2.0, final=1.0) for step in range(15)]
    assert rates[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert rates[8] == pytest.approx(1.5)
    assert rates[6] == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2)
    assert rates[12:] == [1.0, 1.0, 1.0]
    assert all(a > b for a, b in itertools.pairwise(rates[4:13]))


def test_without_warm_up_it_starts_at_the_base_and_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 0.4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=0.1)
    for step in range(11):
        assert cosine(step, 10, base=0.4, final=0.1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert cosine(0, 10) == 1.0
    assert cosine(10, 10) == 0.0


def test_restarts_are_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=3, T_mult=2)
    for step in range(21):
        ours = cosine(5 + step, 5 + 21, 5, cycle_steps=3, cycle_factor=2)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()
    assert [cosine(s, 40, cycle_steps=10) for s in (0, 10, 20, 30, 40)] == [1, 1, 1, 1, 0]


def test_step_decay_by_hand_and_torchs():
    rates = [step_decay(step, [6, 3, 6], 0.5, warmup_steps=4) for step in range(8)]
    assert rates == [0.0, 0.25, 0.5, 0.75 * 0.5, 0.5, 0.5, 0.125, 0.125]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], 0.1)
    for step in range(9):
        assert step_decay(step, [2, 5], 0.1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        theirs.step()
    assert step_decay(100, [], 0.1) == 1.0


def test_warm_up_alone():
    assert [cosine(step, 4, 4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cosine(-1, 10), "step=-1"),
        (lambda: cosine(1, 10, 11), "warmup_steps=11: is more than total_steps=10"),
        (lambda: cosine(1, 10, -2), "warmup_steps=-2"),
        (lambda: cosine(1, 10, cycle_steps=0), "cycle_steps=0"),
        (lambda: cosine(1, 10, cycle_steps=3, cycle_factor=0), "cycle_factor=0"),
        (lambda: step_decay(-1, [1], 0.1), "step=-1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
