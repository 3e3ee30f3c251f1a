"""Accuracy under mixup as the official code counts it, and what a network does between samples."""

from dataclasses import replace

import drawn_report
import pytest
import torch
from composed import compose
from torch import nn

from paperzoo.papers.mixup import Mixup, report_pictures
from paperzoo.papers.mixup.between import LAMBDAS, between_samples, pairs
from paperzoo.papers.mixup.mixup import beta
from paperzoo.tasks.classification import RunningMixed, RunningTop
from paperzoo.training import train

SMALL = ["trainer=cpu", "trainer.max_epochs=1", "logger=none", "data.limit_train=64", "data.batch_size=16",
         "data.validation=50", "data.test=50", "model.width=4"]  # fmt: skip


def read(running, count):
    loss = torch.tensor(0.5)
    running.update(loss, {"loss": loss}, count)
    return running.read()


@pytest.mark.parametrize("per_sample", [False, True])
def test_accuracy_under_mixup_is_the_official_codes(per_sample):
    """``correct += λ pred.eq(y_a) + (1 - λ) pred.eq(y_b)``, sample by sample."""
    torch.manual_seed(3)
    images, labels = torch.randn(12, 2, dtype=torch.float64), torch.randint(7, (12,))
    logits = torch.randn(12, 7, dtype=torch.float64)
    state = torch.get_rng_state()
    _, targets = Mixup(1.0, 7, per_sample)(images, labels)
    torch.set_rng_state(state)
    partner = torch.randperm(12)
    weight = beta(1.0, 12 if per_sample else 1).expand(12)
    correct = {1: 0.0, 5: 0.0}
    for i in range(12):
        ranked = sorted(range(7), key=lambda k: -float(logits[i, k]))
        for top in correct:
            for share, label in ((weight[i], labels[i]), (1 - weight[i], labels[partner[i]])):
                correct[top] += float(share) * (int(label) in ranked[:top])
    running = RunningMixed(4, 7, torch.device("cpu"))
    running.add(logits, targets)
    got = read(running, 12)
    assert got["top1"] == pytest.approx(correct[1] / 12, abs=1e-6)
    assert got["top5"] == pytest.approx(correct[5] / 12, abs=1e-6)


def test_without_mixing_it_is_the_usual_accuracy_bit_for_bit():
    torch.manual_seed(0)
    logits, labels = torch.randn(13, 10), torch.randint(10, (13,))
    both = [kind(4, 10, torch.device("cpu")) for kind in (RunningMixed, RunningTop)]
    for running in both:
        running.add(logits, labels)
    assert read(both[0], 13) == read(both[1], 13)


def test_a_linear_network_is_as_steep_everywhere():
    linear = nn.Linear(6, 4).double()
    a, b = torch.randn(2, 5, 6, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0])
    found = between_samples(linear, a, b, labels, (labels + 1) % 4)
    torch.testing.assert_close(found.gradient_norm, linear.weight.norm().detach().expand(len(LAMBDAS)))


def test_gradient_norm_by_hand():
    """f(x) = (x1², x1 x2): the Jacobian is ((2 x1, 0), (x2, x1)); between (1, 0) and (0, 2) at 1/4."""
    network = lambda x: torch.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1]], 1)  # noqa: E731
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    found = between_samples(network, a, b, torch.tensor([0]), torch.tensor([1]), [0.25])
    x1, x2 = 0.25, 1.5
    assert float(found.gradient_norm) == pytest.approx((4 * x1**2 + x2**2 + x1**2) ** 0.5)


def test_misses_are_predictions_of_neither_class():
    """The network predicts class 1 near 0, 0 near a = -1 and 2 near b = 1."""
    network = lambda x: torch.cat([-x, 0.5 - x.abs(), x], 1)  # noqa: E731
    a, b = torch.tensor([[-1.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    found = between_samples(network, a, b, torch.tensor([0, 1]), torch.tensor([2, 2]), [0.0, 0.5, 1.0])
    assert found.misses.tolist() == [0, 0.5, 0.5]
    with pytest.raises(ValueError, match="there are no pairs"):
        between_samples(network, a[:0], b[:0], torch.tensor([]), torch.tensor([]))
    with pytest.raises(ValueError, match=r"must be \(P, ...\) twice"):
        between_samples(network, a, b[:1], torch.tensor([0, 1]), torch.tensor([2]))


def test_pairs_are_of_different_classes():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    first, second = pairs(labels, 10, torch.Generator().manual_seed(0))
    assert len(first) > 0
    assert (labels[first] != labels[second]).all()
    assert len(set(first.tolist())) == len(first)
    assert len(pairs(labels, 2, torch.Generator().manual_seed(0))[0]) <= 2
    assert not len(pairs(torch.zeros(5), 4, torch.Generator())[0])


@pytest.mark.full
@pytest.mark.parametrize("mix", ["mixup_paper", "none"])
def test_a_run_has_the_experiment_between_samples(mix, tmp_path):
    entry = train(
        compose("train", [*SMALL, "model=mixup", f"mix={mix}", "pictures=true", f"paths.runs_dir={tmp_path}"])
    )
    metrics = entry.results["last"].metrics
    norms = [metrics[f"between/{weight:.1f}/gradient_norm"] for weight in LAMBDAS]
    assert min(norms) > 0
    assert all(0 <= metrics[f"between/{weight:.1f}/misses"] <= 1 for weight in LAMBDAS)
    (picture,) = tmp_path.glob("mixup/*/1/figures/between_samples.png")
    assert picture.stat().st_size > 5000
    assert 0 <= entry.epochs[-1]["train/top1"] <= 1


def test_reports_compare_variants_between_samples():
    report = drawn_report.report(("none", "mixup"), 2)
    runs = []
    for run, norm in zip(report.variants[1].runs, (1.0, 3.0), strict=True):
        metrics = {"test/top1": 0.8, "between/0.0/gradient_norm": norm, "between/0.5/gradient_norm": 2 * norm}
        results = {"last": run.results["last"].model_copy(update={"metrics": metrics})}
        runs.append(run.model_copy(update={"results": results}))
    report = replace(report, variants=(report.variants[0], replace(report.variants[1], runs=tuple(runs))))
    (figure,) = report_pictures.figures(report).values()
    (line,) = figure.axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [(0.0, 2.0), (0.5, 4.0)]
    assert report_pictures.figures(drawn_report.report()) == {}
