"""What a run shows of its loss while it goes on."""

import math
from types import SimpleNamespace

import pytest

from paperzoo import display
from paperzoo.metric import LOSS
from paperzoo.runs.history import History


@pytest.fixture
def shown(monkeypatch):
    """A display without a terminal that says a line at every step."""
    monkeypatch.setattr(display, "QUIET", -1.0)
    made = display.Display()
    made.start(3, LOSS)
    return made


def lines(capsys):
    return [line.strip() for line in capsys.readouterr().out.splitlines() if "batches" in line]


def test_a_line_within_an_epoch_says_nothing_of_a_loss_that_is_not_known_yet(shown, capsys):
    shown.step(0, 1, 1000, 12.0, math.nan)
    shown.step(0, 20, 1000, 12.0, 0.25)
    assert lines(capsys) == [
        "epoch 1/3: 1 of 1,000 batches, 12 images/s",
        "epoch 1/3: 20 of 1,000 batches, loss 0.2500, 12 images/s",
    ]


@pytest.mark.parametrize(("at_once", "expected"), [(True, "loss 2.0000"), (False, "loss 0.5000")])
def test_where_the_newest_loss_is_not_looked_at_that_of_the_window_is_shown(shown, capsys, at_once, expected):
    running = SimpleNamespace(
        counts=[4], full=True, looks_at_once=at_once, read=lambda: {"loss": 0.5},
        latest=lambda before: 2.0 if at_once else before,
    )  # fmt: skip
    trainer = SimpleNamespace(world_size=2, current_epoch=0, num_training_batches=9, global_step=1)
    History(shown, None).on_train_batch_end(trainer, SimpleNamespace(running=running), None, None, 0)
    assert expected in lines(capsys)[0]
