"""Diversity, bias and variance against cases counted by hand and naive loops."""

import pytest
import torch
from contract import configured

import paperzoo
from paperzoo.data.interface import make_data
from paperzoo.runs import folders
from paperzoo.tasks.diversity import (
    bias_variance_squared,
    bias_variance_zero_one,
    curve_of,
    disagreement,
    double_fault,
    mean_of_pairs,
    picture,
    sizes_of,
    summary,
)
from paperzoo.training import train

# Three members on five samples of three classes.
PREDICTIONS = torch.tensor([[0, 1, 2, 0, 1], [0, 1, 1, 2, 1], [0, 2, 0, 1, 0]])
LABELS = torch.tensor([0, 1, 1, 0, 0])


def test_disagreement_by_hand():
    expected = torch.tensor([[0, 2, 4], [2, 0, 4], [4, 4, 0]]).double() / 5
    torch.testing.assert_close(disagreement(PREDICTIONS), expected)
    assert mean_of_pairs(disagreement(PREDICTIONS)) == pytest.approx(10 / 15)


def test_double_fault_by_hand():
    """Wrong: member 0 on samples 2 and 4, member 1 on 3 and 4, member 2 on 1, 2 and 3."""
    wrong = PREDICTIONS != LABELS
    expected = torch.tensor([[2, 1, 1], [1, 2, 1], [1, 1, 3]]).double() / 5
    torch.testing.assert_close(double_fault(wrong), expected)
    values = summary(PREDICTIONS, LABELS)
    assert values == pytest.approx(
        {"members/top1": 8 / 15, "members/disagreement": 10 / 15, "members/double_fault": 3 / 15}
    )


def test_equal_members_are_not_diverse_and_one_has_no_pairs():
    same = PREDICTIONS[:1].expand(4, -1)
    assert disagreement(same).sum() == 0
    assert mean_of_pairs(double_fault(same != LABELS)) == pytest.approx(2 / 5)
    assert summary(same[:1], LABELS) == {"members/top1": pytest.approx(3 / 5)}


def test_bias_and_variance_of_the_error_by_hand():
    """Main predictions 0, 1, 0 (of three equals the smallest), 0, 1: wrong on samples 2 and 4.

    Right ones are left by 0, 1 and 2 of 3 members; of the wrong ones, 1 of 3 finds the truth on each.
    """
    got = bias_variance_zero_one(PREDICTIONS, LABELS)
    assert got == pytest.approx(
        {"loss": 7 / 15, "bias": 2 / 5, "unbiased": 3 / 15, "biased": 2 / 15, "variance": 1 / 15}
    )
    assert got["loss"] == pytest.approx(got["bias"] + got["variance"])


def test_the_error_is_bias_and_net_variance_whatever_is_predicted():
    chance = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (200,), generator=chance)
    predictions = torch.where(
        torch.rand(9, 200, generator=chance) < 0.4, labels, torch.randint(4, (9, 200), generator=chance)
    )
    got = bias_variance_zero_one(predictions, labels)
    loss = bias = 0.0
    for i, label in enumerate(labels.tolist()):
        votes = predictions[:, i].tolist()
        main = max(range(4), key=lambda k: (votes.count(k), -k))
        bias += (main != label) / 200
        loss += sum(vote != label for vote in votes) / 9 / 200
    assert got["loss"] == pytest.approx(loss)
    assert got["bias"] == pytest.approx(bias)
    assert got["variance"] == pytest.approx(loss - bias)


def test_bias_and_variance_of_the_squared_error_by_hand():
    """p = (.8, .2) and (.4, .6), truth 0: mean (.6, .4), bias 2 * .16, variance 2 * .04; the other is certain."""
    p = torch.tensor([[[0.8, 0.2], [0.0, 1.0]], [[0.4, 0.6], [0.0, 1.0]]])
    got = bias_variance_squared(p, torch.tensor([0, 1]))
    assert got == pytest.approx({"loss": 0.2, "bias": 0.16, "variance": 0.04})
    score = ((p - torch.eye(2)[[0, 1]]) ** 2).sum(-1).mean()  # the Brier score, mean over repetitions and samples
    assert got["loss"] == pytest.approx(float(score))


def test_the_curve_is_in_the_order_of_sizes_and_drawn():
    values = {f"members/first_{k}": 1 - 1 / k for k in (10, 2, 1, *range(3, 10))}
    assert list(curve_of(values)) == list(range(1, 11))
    (axes,) = picture(curve_of(values), 0.25).axes
    vote, alone = axes.get_lines()
    assert list(vote.get_ydata()) == pytest.approx([100 / k for k in range(1, 11)])
    assert list(alone.get_ydata()) == [75, 75]
    assert sizes_of(3) == [1, 2, 3]
    assert sizes_of(100)[-1] == 100
    assert len(sizes_of(100)) <= 32


@pytest.mark.full
def test_a_bagged_run_records_what_its_members_are_to_each_other(tmp_path):
    entry = train(configured("bagging", "model.members=3", "data.image_size=12", "pictures=true", runs=tmp_path))
    data = make_data(configured("bagging", "data.image_size=12"))
    network = paperzoo.load(entry.id, runs_dir=tmp_path)
    images, labels = data.tensors("test")
    with torch.no_grad():
        p = torch.stack([member(data._normalise(images)).softmax(1) for member in network.members])
    predictions = p.argmax(-1)
    expected = summary(predictions, labels)
    expected |= {f"members/first_{k}": float((p[:k].mean(0).argmax(1) == labels).double().mean()) for k in (1, 2, 3)}
    error, squared = bias_variance_zero_one(predictions, labels), bias_variance_squared(p, labels)
    expected |= {f"members/{name}": error[name] for name in ("bias", "variance")}
    expected |= {f"members/brier_{name}": squared[name] for name in ("bias", "variance")}
    metrics = entry.results["last"].metrics
    assert {name: v for name, v in metrics.items() if name.startswith("members/")} == pytest.approx(expected, rel=1e-5)
    assert metrics["members/first_3"] == pytest.approx(metrics["test/top1"])
    assert (folders.find(tmp_path, entry.id) / "figures" / "members.png").is_file()


@pytest.mark.full
def test_one_member_is_no_ensemble_and_a_line_says_so(tmp_path, capsys):
    entry = train(configured("bagging", "model.members=1", "data.image_size=12", runs=tmp_path))
    assert "one member: its vote is its own, and there is no diversity" in capsys.readouterr().out
    metrics = entry.results["last"].metrics
    names = {name for name in metrics if name.startswith("members/")}
    assert names == {"members/top1", "members/first_1"}
    assert metrics["members/top1"] == pytest.approx(metrics["test/top1"])
