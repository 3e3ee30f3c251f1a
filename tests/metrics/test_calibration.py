"""Bins of confidence against a loop and torchmetrics; the diagram of a run has the bins of its logged error."""

import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from paperzoo import pictures
from paperzoo.metrics.calibration import bins


def drawn(count, classes=4, scale=4.0):
    chance = torch.Generator().manual_seed(count)
    probabilities = (scale * torch.randn(count, classes, generator=chance)).softmax(1)
    return probabilities, torch.randint(classes, (count,), generator=chance)


def by_loop(confidence, correct, n):
    """Of bins [k/n, (k+1)/n) and of exactly 1: |accuracy - confidence| weighted by the share."""
    total = 0.0
    for k in range(n + 1):
        members = [(c, r) for c, r in zip(confidence, correct, strict=True) if (k / n <= c < (k + 1) / n)]
        if members:
            gap = sum(r for _, r in members) / len(members) - sum(c for c, _ in members) / len(members)
            total += abs(gap) * len(members) / len(confidence)
    return total


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("n", [1, 8, 16])
def test_the_error_is_that_of_a_loop_and_of_torchmetrics(count, n):
    """Powers of two: k/n has no rounding."""
    probabilities, labels = drawn(count)
    confidence, predicted = probabilities.double().max(1)
    correct = (predicted == labels).double()
    found = bins(confidence, correct, n)
    assert int(found.count.sum()) == count
    assert found.ece == pytest.approx(by_loop(confidence.tolist(), correct.tolist(), n))
    reference = multiclass_calibration_error(probabilities.double(), labels, 4, n_bins=n)
    assert found.ece == pytest.approx(float(reference))


def test_by_hand():
    """0.5 and 0.6 in one bin of two, right and wrong: 0.5 against 0.55; 1.0 twice, right: no gap."""
    found = bins(torch.tensor([0.5, 0.6, 1.0, 1.0]), torch.tensor([1, 0, 1, 1]), 2)
    assert found.count.tolist() == [0, 2, 2]
    assert found.accuracy.tolist() == [0, 0.5, 1]
    assert found.ece == pytest.approx(0.05 * 2 / 4)


def test_what_cannot_be_binned():
    with pytest.raises(ValueError, match=r"confidence \(2,\), correct \(3,\)"):
        bins(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        bins(torch.tensor([1.5]), torch.tensor([1]))


def test_the_diagram_draws_the_bins_that_are_not_empty():
    found = bins(torch.tensor([0.1, 0.95, 1.0]), torch.tensor([0, 1, 1]), 15)
    figure = pictures.reliability(*found, ece=found.ece)
    upper = figure.axes[0]
    x, y = upper.lines[1].get_data()
    assert list(x) == pytest.approx([0.1, 0.95, 1.0], abs=1e-6)
    assert list(y) == [0, 1, 1]
    assert f"{found.ece:.4f}" in upper.get_title()
    assert math.isclose(sum(bar.get_height() for bar in figure.axes[1].patches), 1)
