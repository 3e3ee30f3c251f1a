"""Label smoothing against torch's, hand-computed targets and naive sums in float64."""

import math
from dataclasses import replace

import drawn_report
import pytest
import torch
from torch.nn import functional as F

from paperzoo.papers.label_smoothing import CONVENTIONS, LabelSmoothingCrossEntropy, report_pictures, smooth

FORMULAS = {  # t is 0 or 1
    "uniform": lambda t, e, k: (1 - e) * t + e / k,
    "others": lambda t, e, k: 1 - e if t else e / (k - 1),
    "classy_vision": lambda t, e, k: (t + e / k) / (1 + e),
}


def naive(logits, labels, epsilon, convention):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        top = max(row)
        norm = top + math.log(sum(math.exp(x - top) for x in row))
        for k, x in enumerate(row):
            total -= FORMULAS[convention](int(k == label), epsilon, len(row)) * (x - norm)
    return total / len(labels)


def drawn(size=7, classes=5, dtype=torch.float64):
    torch.manual_seed(classes)
    return 3 * torch.randn(size, classes, dtype=dtype), torch.randint(classes, (size,))


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("classes", [2, 5])
def test_value_against_a_naive_sum(epsilon, convention, classes):
    logits, labels = drawn(classes=classes)
    loss = LabelSmoothingCrossEntropy(epsilon, convention)(logits, labels)
    assert float(loss) == pytest.approx(naive(logits, labels, epsilon, convention), rel=1e-12)
    soft = F.one_hot(labels, classes).double()
    torch.testing.assert_close(LabelSmoothingCrossEntropy(epsilon, convention)(logits, soft), loss)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("soft", [False, True])
def test_uniform_is_torchs_label_smoothing_with_gradients(epsilon, soft):
    logits, target = drawn()
    target = torch.rand(7, 5, dtype=torch.float64).softmax(1) if soft else target
    results = []
    for function in (
        LabelSmoothingCrossEntropy(epsilon),
        lambda x, t: F.cross_entropy(x, t, label_smoothing=epsilon),
    ):
        x = logits.clone().requires_grad_()
        loss = function(x, target)
        results.append((loss, torch.autograd.grad(loss, x)[0]))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gradients_of_soft_targets(convention):
    logits, _ = drawn()
    target = torch.randn(7, 5, dtype=torch.float64).softmax(1)
    loss = LabelSmoothingCrossEntropy(0.3, convention)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


def test_two_classes_by_hand():
    """eps 0.2: the paper's [0.1, 0.9]; with ε shared by the others alone [0.2, 0.8]."""
    target = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(smooth(target, 0.2), torch.tensor([[0.1, 0.9]], dtype=torch.float64))
    torch.testing.assert_close(smooth(target, 0.2, "others"), torch.tensor([[0.2, 0.8]], dtype=torch.float64))
    torch.testing.assert_close(
        smooth(target, 0.2, "classy_vision"), torch.tensor([[0.1 / 1.2, 1.1 / 1.2]], dtype=torch.float64)
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits_are_finite(convention, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    loss = LabelSmoothingCrossEntropy(0.1, convention)(logits, torch.tensor([1, 0]))
    loss.backward()
    assert loss.dtype == dtype
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert float(loss.detach()) > 1e4


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_class_and_no_samples_are_zero(convention):
    for size, classes in ((3, 1), (0, 4)):
        logits = torch.randn(size, classes, requires_grad=True)
        loss = LabelSmoothingCrossEntropy(0.1, convention)(logits, torch.zeros(size, dtype=torch.int64))
        loss.backward()
        assert float(loss.detach()) == 0
        assert not logits.grad.any()


def test_places_and_ignored_ones_are_torchs():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randint(4, (2, 3, 5))
    labels[0, 1] = 255
    for reduction in ("mean", "sum", "none"):
        ours = LabelSmoothingCrossEntropy(0.1, reduction=reduction, ignore_index=255)(logits, labels)
        theirs = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction=reduction, ignore_index=255)
        torch.testing.assert_close(ours, theirs)
    nothing = torch.full_like(labels, 255)
    assert float(LabelSmoothingCrossEntropy(0.1, ignore_index=255)(logits, nothing)) == 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"convention='paper': must be one of uniform, others, classy_vision"):
        LabelSmoothingCrossEntropy(0.1, "paper")
    with pytest.raises(ValueError, match=r"epsilon=1\.5"):
        LabelSmoothingCrossEntropy(1.5)
    with pytest.raises(ValueError, match="reduction='batchmean'"):
        LabelSmoothingCrossEntropy(0.1, reduction="batchmean")
    loss = LabelSmoothingCrossEntropy(0.1)
    with pytest.raises(ValueError, match=r"target of shape \(2,\): must be \(3,\)"):
        loss(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="soft target"):
        loss(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="must be 0 to 3"):
        loss(torch.zeros(3, 4), torch.tensor([0, 1, 4]))


def test_reports_compare_the_bins_of_variants():
    """Two runs of one variant: counts are added, means weighted by them; the other variants have none."""
    report = drawn_report.report(("cross_entropy", "smoothing"), 2)
    runs = []
    for run, (count, confidence) in zip(report.variants[1].runs, ((30, 0.9), (10, 0.5)), strict=True):
        own = {"count": count, "confidence": confidence, "accuracy": 0.8}
        metrics = {"test/top1": 0.8, **{f"calibration/13/{name}": float(value) for name, value in own.items()}}
        results = {"last": run.results["last"].model_copy(update={"metrics": metrics})}
        runs.append(run.model_copy(update={"results": results}))
    report = replace(report, variants=(report.variants[0], replace(report.variants[1], runs=tuple(runs))))
    bins = report_pictures.bins_of(report.variants[1])
    assert bins == {13: (40, pytest.approx((30 * 0.9 + 10 * 0.5) / 40), pytest.approx(0.8))}
    assert report_pictures.ece(bins) == pytest.approx(0.0)
    (figure,) = report_pictures.figures(report).values()
    assert [line.get_label() for line in figure.axes[0].lines][1:] == ["smoothing: ECE 0.0000"]
    assert report_pictures.figures(drawn_report.report()) == {}
