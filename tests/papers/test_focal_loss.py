"""Focal loss against torchvision, cross-entropy and naive float64 loops, and where numbers saturate."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss as torchvisions

from paperzoo.errors import UserError
from paperzoo.papers.focal_loss import (
    FocalLoss,
    linear_focal_loss,
    over_positives,
    prior_bias,
    set_prior,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

GAMMAS = [0.0, 0.5, 1.0, 2.0, 5.0]


def drawn(*shape):
    torch.manual_seed(len(shape))
    return 3 * torch.randn(*shape, dtype=torch.float64), (torch.rand(*shape) < 0.3).double()


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    return value, torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("soft", [False, True])
def test_sigmoid_form_is_torchvisions(gamma, alpha, reduction, soft):
    logits, targets = drawn(4, 3, 5)
    targets = torch.rand_like(targets) if soft else targets
    ours = value_and_gradient(lambda x: sigmoid_focal_loss(x, targets, alpha, gamma, reduction), logits)
    theirs = value_and_gradient(
        lambda x: torchvisions(x, targets, -1 if alpha is None else alpha, gamma, reduction), logits
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_softmax_form_against_a_naive_loop(gamma, weighted, classes):
    logits, _ = drawn(6, classes)
    labels = torch.arange(6) % classes
    alpha = torch.linspace(0.1, 2, classes, dtype=torch.float64) if weighted else None

    def naive(x):
        losses = []
        for row, label in zip(x, labels, strict=True):
            p = row.exp()[label] / row.exp().sum()
            losses.append(-(1 if alpha is None else alpha[label]) * (1 - p) ** gamma * p.log())
        return torch.stack(losses)

    ours = value_and_gradient(lambda x: softmax_focal_loss(x, labels, gamma, alpha), logits)
    torch.testing.assert_close(ours, value_and_gradient(naive, logits))
    assert ours[0].shape == (6,)


def test_gamma_zero_is_cross_entropy():
    logits, targets = drawn(6, 4)
    labels = torch.arange(6) % 4
    torch.testing.assert_close(
        sigmoid_focal_loss(logits, targets, None, 0.0),
        F.binary_cross_entropy_with_logits(logits, targets, reduction="none"),
    )
    torch.testing.assert_close(
        softmax_focal_loss(logits, labels, 0.0, reduction="mean"), F.cross_entropy(logits, labels)
    )


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradients(gamma):
    logits, targets = drawn(3, 4)
    labels = torch.tensor([0, 3, 1])
    soft = torch.rand(3, 4, dtype=torch.float64).softmax(1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets, 0.25, gamma), logits)
    assert torch.autograd.gradcheck(lambda x: softmax_focal_loss(x, labels, gamma), logits)
    assert torch.autograd.gradcheck(lambda x: FocalLoss(gamma)(x, soft), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e4, 90.0, 40.0])
def test_saturated_logits(gamma, dtype, size):
    """A correct one has loss and gradient 0 (as far as the number format goes), a wrong one is linear."""
    logits = torch.tensor([size, -size, size, -size], dtype=dtype, requires_grad=True)
    targets = torch.tensor([1, 0, 0, 1], dtype=dtype)
    losses = sigmoid_focal_loss(logits, targets, None, gamma)
    gradient = torch.autograd.grad(losses.sum(), logits)[0]
    big = float(torch.tensor(size, dtype=dtype))
    torch.testing.assert_close(
        losses.double(), torch.tensor([0, 0, big, big], dtype=torch.float64), atol=1e-15, rtol=1e-6
    )
    torch.testing.assert_close(gradient.double(), torch.tensor([0.0, 0, 1, -1]).double(), atol=1e-15, rtol=1e-6)
    if size == 1e4:
        assert losses[:2].tolist() == gradient[:2].tolist() == [0, 0]

    pairs = torch.tensor([[size / 2, -size / 2], [-size / 2, size / 2]], dtype=dtype, requires_grad=True)
    for loss in (
        lambda x: softmax_focal_loss(x, torch.tensor([0, 0]), gamma),
        lambda x: FocalLoss(gamma, reduction="none")(x, torch.tensor([[1.0, 0.0], [1.0, 0.0]])),
    ):
        losses = loss(pairs)
        gradient = torch.autograd.grad(losses.sum(), pairs)[0]
        assert losses.dtype == dtype
        expected = torch.tensor([0, big], dtype=torch.float64)
        torch.testing.assert_close(losses.double(), expected, atol=1e-15, rtol=1e-6)
        torch.testing.assert_close(gradient.double(), torch.tensor([[0.0, 0], [-1, 1]]).double(), atol=1e-15, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_float32_is_accurate_where_one_minus_p_cancels(gamma):
    """1 - p by subtraction has no digit left at a margin of 20 in float32."""
    logits = torch.tensor([[14.0, -6.0, -8.0]])
    exact = softmax_focal_loss(logits.double(), torch.tensor([0]), gamma)
    torch.testing.assert_close(softmax_focal_loss(logits, torch.tensor([0]), gamma).double(), exact, rtol=1e-4, atol=0)
    exact = sigmoid_focal_loss(logits.double(), torch.ones(1, 3).double(), None, gamma)
    torch.testing.assert_close(
        sigmoid_focal_loss(logits, torch.ones(1, 3), None, gamma).double(), exact, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_one_class_and_nothing(gamma):
    logits = torch.randn(3, 1, requires_grad=True)
    losses = softmax_focal_loss(logits, torch.zeros(3, dtype=torch.int64), gamma)
    assert losses.tolist() == [0, 0, 0]
    assert torch.autograd.grad(losses.sum(), logits)[0].tolist() == [[0], [0], [0]]
    empty = torch.zeros(0, 4, requires_grad=True)
    assert softmax_focal_loss(empty, torch.zeros(0, dtype=torch.int64), gamma).shape == (0,)
    assert float(FocalLoss(gamma)(empty, torch.zeros(0, dtype=torch.int64))) == 0
    assert float(sigmoid_focal_loss(empty, torch.zeros(0, 4), gamma=gamma, reduction="sum")) == 0


def test_the_linear_form_by_its_name():
    logits, y = drawn(20)
    p = logits.sigmoid()
    expected = -(y * (1 - p) * p.log() + (1 - y) * p * (1 - p).log())
    torch.testing.assert_close(linear_focal_loss(logits, y), expected)


def test_divided_by_the_positives_of_the_whole_batch_and_by_one_without_any():
    losses = torch.ones(2, 6)
    targets = torch.zeros(2, 6)
    targets[0, :4] = 1
    assert float(over_positives(losses, targets)) == 3
    assert float(over_positives(losses, torch.zeros(2, 6))) == 12


def test_the_prior_is_what_the_layer_says_before_training():
    assert prior_bias() == pytest.approx(-4.595, abs=5e-4)
    layer = torch.nn.Conv2d(3, 4, 3)
    set_prior(layer)
    torch.testing.assert_close(layer(torch.zeros(1, 3, 3, 3)).sigmoid(), torch.full((1, 4, 1, 1), 0.01))
    set_prior(layer, [0.1, 0.2, 0.3, 0.4])
    torch.testing.assert_close(layer.bias.sigmoid(), torch.tensor([0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(ValueError, match="prior=1"):
        prior_bias(1)
    with pytest.raises(ValueError, match="has no bias"):
        set_prior(torch.nn.Linear(2, 2, bias=False))


def test_the_module_averages_and_takes_class_weights_and_soft_targets():
    logits, _ = drawn(6, 3)
    labels = torch.arange(6) % 3
    weights = [1.0, 2.0, 0.5]
    loss = FocalLoss(1.5, weights)
    expected = softmax_focal_loss(logits, labels, 1.5, torch.tensor(weights)).mean()
    torch.testing.assert_close(loss(logits, labels), expected)
    torch.testing.assert_close(loss(logits, F.one_hot(labels, 3).double()), expected)
    other = labels.roll(1)
    mixed = 0.3 * F.one_hot(labels, 3).double() + 0.7 * F.one_hot(other, 3).double()
    torch.testing.assert_close(loss(logits, mixed), 0.3 * loss(logits, labels) + 0.7 * loss(logits, other))


@pytest.mark.parametrize("info", [{"num_classes": 3}, {"inputs": 1, "outputs": 3}, {"vocabulary": "abc"}])
def test_another_number_of_weights_is_said_before_training(info):
    FocalLoss(2.0, [1.0, 2.0, 3.0]).check(info)
    FocalLoss(2.0).check(info)
    with pytest.raises(UserError, match=r"loss\.alpha: has 2 weights, the data has 3 classes; give each one"):
        FocalLoss(2.0, [1.0, 2.0]).check(info)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t: sigmoid_focal_loss(x, t, gamma=-1.0), "gamma=-1"),
        (lambda x, t: sigmoid_focal_loss(x, t, alpha=1.2), r"alpha=1\.2"),
        (lambda x, t: sigmoid_focal_loss(x, t, reduction="batch"), "reduction='batch'"),
        (lambda x, t: sigmoid_focal_loss(x, t[:1]), "targets of shape"),
        (lambda x, t: softmax_focal_loss(x, t, 2.0), "labels"),
        (lambda x, t: softmax_focal_loss(x, torch.tensor([0, 1]), math.nan), "gamma=nan"),
        (lambda x, t: softmax_focal_loss(x, torch.tensor([0, 1]), 2.0, torch.ones(4)), "alpha of shape"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2, 3), torch.zeros(2, 3))
