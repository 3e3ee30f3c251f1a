"""Triplet losses against a triple loop in float64 and pytorch-metric-learning."""

import math
import subprocess
import sys

import pytest
import torch

from paperzoo.papers.triplet import TripletLoss, batch_all, batch_hard, mined, semi_hard
from paperzoo.papers.triplet.distances import all_pairs, squared_for_mining

MARGINS = [0.0, 0.3, 2.0, "soft"]


def distance(a, b):
    square = (a - b).square().sum()
    return square.sqrt() if square > 0 else square


def hinge(difference, margin):
    return torch.log1p(difference.exp()) if margin == "soft" else torch.relu(difference + margin)


def triple_loop(x, labels, margin, keep=lambda ap, an: True):
    """All losses of valid triplets, one by one."""
    losses, places = [], range(len(x))
    for a in places:
        for p in places:
            for n in places:
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    ap, an = distance(x[a], x[p]), distance(x[a], x[n])
                    if keep(float(ap), float(an)):
                        losses.append(hinge(ap - an, margin))
    return losses


def hard_loop(x, labels, margin):
    losses, places = [], range(len(x))
    for a in places:
        positives = [distance(x[a], x[p]) for p in places if p != a and labels[p] == labels[a]]
        negatives = [distance(x[a], x[n]) for n in places if labels[n] != labels[a]]
        if positives and negatives:
            losses.append(hinge(max(positives) - min(negatives), margin))
    return losses


def mean(losses):
    return sum(losses) / len(losses)


def drawn(labels, dimensions=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(len(labels), dimensions, dtype=torch.float64), torch.tensor(labels)


UNEVEN = [3, 1, 1, 7, 3, 3, 2, 7]  # one identity has a single sample


def equal(ours, naive, x):
    results = []
    for function in (ours, naive):
        y = x.clone().requires_grad_()
        value = function(y)
        results.append((value, torch.autograd.grad(value, y)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("labels", [UNEVEN, [0, 0, 1, 1, 2, 2], [0, 0, 0, 1]])
def test_values_and_gradients_against_loops(margin, labels):
    x, labels = drawn(labels)
    equal(lambda y: batch_hard(y, labels, margin), lambda y: mean(hard_loop(y, labels, margin)), x)
    equal(lambda y: batch_all(y, labels, margin), lambda y: mean(triple_loop(y, labels, margin)), x)
    equal(
        lambda y: batch_all(y, labels, margin, "nonzero"),
        lambda y: mean([loss for loss in triple_loop(y, labels, margin) if loss > 0]),
        x,
    )


def test_semi_hard_against_a_loop():
    x, labels = drawn(UNEVEN)
    keep = lambda ap, an: ap < an < ap + 2.0  # noqa: E731
    assert len(triple_loop(x, labels, 2.0, keep)) > 3
    equal(lambda y: semi_hard(y, labels, 2.0), lambda y: mean(triple_loop(y, labels, 2.0, keep)), x)


def test_values_against_pytorch_metric_learning():
    from pytorch_metric_learning import losses, miners  # in the lock: its absence is a failure, not a skip
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.reducers import AvgNonZeroReducer, MeanReducer

    x, labels = drawn([0, 0, 0, 1, 1, 1, 2, 2, 2])
    euclidean = LpDistance(normalize_embeddings=False)

    def theirs(reducer, miner=None):
        loss = losses.TripletMarginLoss(0.5, distance=euclidean, reducer=reducer)
        return loss(x, labels, miner(x, labels) if miner else None)

    torch.testing.assert_close(batch_all(x, labels, 0.5), theirs(MeanReducer()))
    torch.testing.assert_close(batch_all(x, labels, 0.5, "nonzero"), theirs(AvgNonZeroReducer()))
    hard = miners.BatchHardMiner(distance=euclidean)
    torch.testing.assert_close(batch_hard(x, labels, 0.5), theirs(MeanReducer(), hard))
    semi = miners.TripletMarginMiner(0.5, "semihard", distance=euclidean)
    torch.testing.assert_close(semi_hard(x, labels, 0.5), theirs(MeanReducer(), semi))


@pytest.mark.parametrize(("p", "k"), [(18, 4), (3, 2), (5, 1)])
def test_numbers_of_triplets(p, k):
    x, labels = drawn([i // k for i in range(p * k)])
    assert int(mined(x, labels, 0.3, "batch_all").triplets) == p * k * (p * k - k) * (k - 1)
    assert int(mined(x, labels, 0.3, "batch_hard").triplets) == (p * k if k > 1 else 0)


def test_the_active_share():
    x, labels = drawn(UNEVEN)
    every = triple_loop(x, labels, 0.3)
    found = mined(x, labels, 0.3, "batch_all")
    assert float(found.active) == pytest.approx(sum(float(loss) > 0 for loss in every) / len(every), rel=1e-6)
    assert float(mined(x, labels, "soft", "batch_all").active) == 1


NOTHING = {
    "one identity": (torch.randn(4, 3), [5, 5, 5, 5]),
    "no positive pair": (torch.randn(4, 3), [1, 2, 3, 4]),
    "one sample": (torch.randn(1, 3), [1]),
    "no sample": (torch.zeros(0, 3), []),
    "nothing violated": (torch.tensor([[0.0], [0.0], [9.0], [9.0]]), [0, 0, 1, 1]),
}


@pytest.mark.parametrize("case", NOTHING)
@pytest.mark.parametrize("margin", [0.5, "soft"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nothing_to_average_is_zero_with_a_graph(case, margin, dtype):
    x, labels = NOTHING[case]
    if margin == "soft" and case == "nothing violated":
        pytest.skip("softplus is never 0")
    labels = torch.tensor(labels, dtype=torch.int64)
    for function in (batch_hard, batch_all, lambda *a: batch_all(*a, average="nonzero"), _semi_hard):
        y = x.to(dtype, copy=True).requires_grad_()
        loss = function(y, labels, margin)
        assert loss.dim() == 0
        assert loss.dtype == dtype
        assert float(loss) == 0
        loss.backward()
        assert torch.equal(y.grad, torch.zeros_like(y))


def _semi_hard(x, labels, margin):
    return semi_hard(x, labels, 0.1 if margin == "soft" else margin)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_and_duplicate_embeddings_have_finite_gradients(margin, dtype):
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    duplicates = torch.randn(6, 4)
    duplicates[1] = duplicates[0]
    duplicates[2] = duplicates[0]
    for x in (torch.ones(6, 4), torch.zeros(6, 4), duplicates, 1e3 * torch.randn(6, 4)):
        for function in (batch_hard, batch_all, _semi_hard):
            y = x.to(dtype, copy=True).requires_grad_()
            loss = function(y, labels, margin)
            loss.backward()
            assert loss.isfinite()
            assert y.grad.isfinite().all()
    value = float(batch_hard(torch.ones(6, 4).double(), labels, margin))
    assert value == pytest.approx(math.log(2) if margin == "soft" else margin)


def test_the_closest_negative_is_not_a_masked_zero():
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert float(batch_hard(x, torch.tensor([0, 0, 1, 1]), 10.0)) == pytest.approx((1 - 10 + 10 + 1 - 9 + 10) / 2)


@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_gradients(margin):
    x, labels = drawn(UNEVEN)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: batch_hard(y, labels, margin), x)
    assert torch.autograd.gradcheck(lambda y: batch_all(y, labels, margin), x)


def test_far_from_the_origin_in_float32():
    """|a|² + |b|² - 2ab would lose all digits here."""
    x, labels = drawn([0, 0, 0, 1, 1, 1, 2, 2, 2])
    moved = (x + 1000).float()
    exact = moved.double()
    for function in (batch_hard, batch_all):
        torch.testing.assert_close(
            function(moved, labels, 0.5).double(), function(exact, labels, 0.5), rtol=1e-5, atol=1e-6
        )
    torch.testing.assert_close(squared_for_mining(moved).sqrt(), all_pairs(exact), rtol=1e-6, atol=1e-5)


LARGE = """
import pathlib, resource, torch
from paperzoo.papers.triplet import batch_hard
torch.set_num_threads(1)
x, labels = torch.randn(4096, 128, requires_grad=True), torch.arange(4096) // 4
batch_hard(x[:8], labels[:8], 0.3).backward()
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
batch_hard(x, labels, 0.3).backward()
assert x.grad.isfinite().all()
try:
    torch.empty(2**30, dtype=torch.uint8).fill_(0)
except (RuntimeError, MemoryError):
    print("limited")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_batch_hard_at_4096_stays_under_one_gibibyte():
    """In a process that may take one gibibyte more than it has when it begins."""
    result = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "limited\n"


def test_the_module_remembers_what_it_averaged():
    x, labels = drawn(UNEVEN)
    loss = TripletLoss("batch_all", 0.3, "nonzero")
    torch.testing.assert_close(loss(x, labels), batch_all(x, labels, 0.3, "nonzero"))
    assert int(loss.latest.triplets) == len(triple_loop(x, labels, 0.3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: batch_hard(x, y, -0.1), r"margin=-0\.1"),
        (lambda x, y: batch_hard(x, y, "hard"), "margin='hard'"),
        (lambda x, y: batch_all(x, y, 0.1, "some"), "average='some'"),
        (lambda x, y: mined(x, y, 0.1, "all"), "mining='all'"),
        (lambda x, y: mined(x, y, "soft", "semi_hard"), "give a number"),
        (lambda x, y: batch_hard(x, y[:2], 0.1), r"labels \(2,\)"),
        (lambda x, y: batch_hard(x[0], y, 0.1), r"embeddings \(3,\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))
