"""The pictures in a run folder say what they show."""

import pytest

from paperzoo import pictures
from paperzoo.metric import Metric

TOP1 = Metric("top1", percent=True, label="top-1 accuracy")


def rows(epochs=4, steps=100):
    return [{"epoch": e, "step": steps * e, "lr": 0.1 * (1 - e / epochs), "train/loss": 2 / e, "val/loss": 1 / e,
             "train/top1": 0.5, "val/top1": 0.6} for e in range(1, epochs + 1)]  # fmt: skip


def test_a_warm_up_within_the_first_epoch_is_drawn():
    within = [{"step": s, "epoch": 1 + (s - 1) // 100, "lr": 0.1 * min(s / 80, 1)} for s in range(20, 201, 20)]
    figure = pictures.learning_curves(rows(), TOP1, within)
    (line,) = figure.axes[2].lines
    epochs, rates = line.get_data()
    assert list(epochs[:5]) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert list(rates[:4]) == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert epochs[-1] == 4
    assert rates[-1] == 0
    assert figure.axes[2].get_ylim()[0] == 0


def test_rows_of_epochs_alone_do():
    (line,) = pictures.learning_curves(rows(), TOP1).axes[2].lines
    assert list(line.get_xdata()) == pytest.approx([1, 2, 3, 4])
    old = [{key: value for key, value in row.items() if key != "step"} for row in rows()]
    (line,) = pictures.learning_curves(old, TOP1).axes[2].lines
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == pytest.approx([row["lr"] for row in old])


def test_the_picture_says_that_training_and_validation_are_measured_otherwise():
    figure = pictures.learning_curves(rows(), TOP1)
    for axes in figure.axes[:2]:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert "augmented" in figure.get_supxlabel()
    assert figure.axes[1].get_ylabel() == "Top-1 accuracy (%)"
    assert list(figure.axes[1].lines[1].get_ydata()) == pytest.approx([60.0] * 4)
