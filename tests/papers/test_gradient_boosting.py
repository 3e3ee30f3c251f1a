"""Gradient boosting of networks: residuals by automatic differentiation, losses and sums by plain loops."""

import pytest
import torch
from composed import compose
from contract import batch_of, configured, demand_same, last_checkpoint
from interruption import Died, dying_at
from torch.nn import functional as F

from paperzoo.config import build
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.networks.ensemble import additive_vote
from paperzoo.papers.boosting.module import residuals
from paperzoo.papers.boosting.procedure import fit_residuals
from paperzoo.tasks.making import make_module
from paperzoo.training import train

WORDS = ["procedure=gradient_boosting", "procedure.shrinkage=0.5", "model.voting=sum", "model.members=3",
         "trainer.max_epochs=2", "data.limit_train=160", "data.image_size=12", "norm=group",
         "data.augment.crop_padding=0", "optimizer.lr=0.02"]  # fmt: skip


def boosted(runs, *words):
    return train(configured("boosting", *WORDS, *words, runs=runs))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return boosted(runs), runs


@pytest.mark.parametrize("soft", [False, True])
def test_residuals_are_the_negative_gradient(soft):
    torch.manual_seed(0)
    scores = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(6, 4, dtype=torch.float64).softmax(1) if soft else torch.randint(4, (6,))
    (gradient,) = torch.autograd.grad(F.cross_entropy(scores, targets, reduction="sum"), scores)
    torch.testing.assert_close(residuals(scores.detach(), targets), -gradient, rtol=1e-12, atol=1e-12)


def test_a_stages_loss_is_the_squared_distance_to_the_residuals_of_the_sum_before():
    """The members before are in evaluation mode and get no gradient."""
    config = configured("boosting", *WORDS, "norm=paper", "trainer.precision=64-true")
    data = make_data(config)
    module = make_module(config, data)
    batch = batch_of(data, torch.float64)
    module.running = module.make_running()
    fit_residuals(2, [0.5] * 3, module, data)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    losses = module.losses(batch)
    losses["member_2"].backward()
    first, second, own = module.network.members
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("network.members.2.") for name in changed)  # running statistics
    assert all(p.grad is None for member in (first, second) for p in member.parameters())
    assert all(p.grad is not None for p in own.parameters())
    module.load_state_dict(before)
    with torch.no_grad():
        h = own(batch.inputs)
        sums = 0.5 * first.eval()(batch.inputs) + 0.5 * second.eval()(batch.inputs)
    expected = 0.0
    for i, label in enumerate(batch.targets.tolist()):
        p = sums[i].softmax(0)
        expected += sum((float(h[i, k]) - ((k == label) - float(p[k]))) ** 2 for k in range(10)) / 2
    assert list(losses) == ["member_2"]
    assert float(losses["member_2"].detach()) == pytest.approx(expected / len(batch.targets), rel=1e-9)


def test_the_run_is_the_sum_and_each_member_lowers_the_training_loss(alone):
    entry, runs = alone
    saved = last_checkpoint(entry, runs)
    config = configured("boosting", *WORDS)
    data = make_data(config)
    module = make_module(config, data)
    module.load_state_dict(saved["state_dict"])
    module.eval()
    assert saved["state_dict"]["network.weights"].tolist() == [0.5] * 3
    for split in ("train", "test"):
        images, labels = data.tensors(split)
        sums, losses = torch.zeros(len(labels), 10), []
        with torch.no_grad():
            for member in module.network.members:
                losses.append(float(F.cross_entropy(sums, labels)))
                sums += 0.5 * member(data._normalise(images))
        losses.append(float(F.cross_entropy(sums, labels)))
        if split == "train":
            assert losses == sorted(losses, reverse=True)
    metrics = entry.results["last"].metrics
    assert metrics["test/loss"] == pytest.approx(losses[-1], rel=1e-5)
    assert metrics["test/top1"] == pytest.approx(float((sums.argmax(1) == labels).double().mean()))
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={runs}"]))
    assert got == {name: value for name, value in metrics.items() if name.startswith("test/")}


@pytest.mark.full
def test_a_kill_within_a_stage_goes_on_exactly(alone, tmp_path):
    entry, runs = alone
    words = ["checkpoint.every_steps=4", "resume=auto"]
    with pytest.raises(Died), dying_at(25):
        boosted(tmp_path, *words)
    got = boosted(tmp_path, *words)
    assert len(got.segments) == 2
    demand_same(entry, runs, got, tmp_path)


def test_the_sum_by_hand():
    logits = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    assert additive_vote(logits, torch.tensor([0.5, 2.0])).tolist() == [[6.5, -1.0]]


def test_members_must_be_summed(tmp_path):
    words = ["procedure=gradient_boosting", "model.members=2"]
    with pytest.raises(UserError, match=r"members are summed; set model\.voting=sum"):
        train(configured("boosting", *words, runs=tmp_path))


@pytest.mark.parametrize("words", [["loss=label_smoothing"], ["loss=focal"]])
def test_another_loss_would_say_nothing(words):
    config = configured("boosting", *WORDS, *words)
    with pytest.raises(UserError, match=r"loss.*: procedure=gradient_boosting fits .* leave loss=cross_entropy"):
        next(build(config.procedure).stages(config))


@pytest.mark.parametrize("procedure", ["samme", "snapshot"])
def test_members_that_vote_are_not_fitted_to_residuals(procedure):
    config = configured("boosting", f"procedure={procedure}", "model.voting=sum")
    with pytest.raises(UserError, match=rf"procedure={procedure}: model\.voting=sum is of procedure=gradient_boosting"):
        next(build(config.procedure).stages(config))


def test_a_rank_without_images_has_a_loss_of_zero():
    config = configured("boosting", *WORDS)
    data = make_data(config)
    module = make_module(config, data)
    fit_residuals(1, [0.5] * 3, module, data)
    module.running = module.make_running()
    batch = batch_of(data)
    none = batch._replace(inputs=batch.inputs[:0], targets=batch.targets[:0], index=batch.index[:0])
    (loss,) = module.losses(none).values()
    loss.backward()
    assert float(loss.detach()) == 0
