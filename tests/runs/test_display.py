"""What a run shows of its loss while it goes on, and the commands that it prints at its end."""

import math
from types import SimpleNamespace

import pytest
from drawn_report import record

from paperzoo import display, summary
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


def test_the_commands_that_are_printed_find_the_run(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RUNS_DIR", raising=False)
    entry = record("x", 0, 0.5)
    session = SimpleNamespace(folder=tmp_path / "runs" / "x" / "0" / "1")

    def printed():
        summary.show(display.Display(), session, entry)
        return [line.split("  ", 1)[1].strip() for line in capsys.readouterr().out.splitlines() if "python" in line]

    elsewhere = f" runs_dir={tmp_path / 'runs'}"
    commands = [f"python src/evaluate.py run={entry.id}", f"python src/reproduce.py {entry.id}"]
    assert printed() == [command + elsewhere for command in commands]
    monkeypatch.chdir(tmp_path)
    assert printed() == commands
    monkeypatch.chdir("/")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    assert printed() == commands
