"""Losses of classifiers with class weights, and of each class by itself, against naive loops."""

import math

import pytest
import torch

from paperzoo.config import build, compose
from paperzoo.errors import UserError
from paperzoo.tasks.class_weights import WeightedCrossEntropy
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "data.image_size=8", "trainer=cpu", "logger=none"]


def test_class_weights_equal_a_naive_loop():
    logits = torch.randn(6, 3, dtype=torch.float64)
    labels, weights = torch.tensor([0, 2, 2, 1, 0, 2]), [1.0, 0.5, 3.0]
    loss = WeightedCrossEntropy(weights).double()
    numerator = denominator = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        numerator += weights[label] * (log_sum - row[label])
        denominator += weights[label]
    assert float(loss(logits, labels)) == pytest.approx(numerator / denominator, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_of_mixed_labels_are_the_mean_of_both_losses(smoothing):
    """``λ CE(a) + (1 - λ) CE(b)`` of a batch and a permutation of it; at λ = 1 plain training."""
    logits = torch.randn(6, 3, dtype=torch.float64)
    labels, other = torch.tensor([0, 2, 2, 1, 0, 2]), torch.tensor([2, 0, 1, 2, 2, 0])
    loss = WeightedCrossEntropy([1.0, 0.5, 3.0], smoothing).double()
    for share in (1.0, 0.3):
        one_hot = [torch.nn.functional.one_hot(each, 3).double() for each in (labels, other)]
        mixed = share * one_hot[0] + (1 - share) * one_hot[1]
        expected = share * loss(logits, labels) + (1 - share) * loss(logits, other)
        torch.testing.assert_close(loss(logits, mixed), expected)


def test_binary_cross_entropy_equals_a_naive_loop():
    config = compose("train", [*WORDS, "loss=binary_cross_entropy", "loss.smoothing=0.1", "loss.sum_classes=true"])
    logits, labels = torch.randn(4, 3, dtype=torch.float64), [0, 2, 1, 2]
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        for place, value in enumerate(row):
            target = 0.9 * (place == label) + 0.1 / 3
            total -= target * -math.log(1 + math.exp(-value)) + (1 - target) * -math.log(1 + math.exp(value))
    got = build(config.loss)(logits, torch.tensor(labels))
    assert float(got) == pytest.approx(total / 4, rel=1e-9)


def test_another_number_of_weights_is_said_before_there_is_a_folder(tmp_path):
    words = [*WORDS, "loss=weighted_cross_entropy", "loss.class_weights=[1,2]", f"paths.runs_dir={tmp_path}"]
    with pytest.raises(UserError, match="has 2 weights, the data has 10 classes; give each one"):
        train(compose("train", words))
    assert not list(tmp_path.iterdir())
