"""Members that diverge, in each kind of ensemble, and what else the literature has a rule for: a line says so."""

import math
from types import SimpleNamespace

import pytest
import torch
from contract import batch_of, configured, equal_state, last_checkpoint
from interruption import Died, dying_at

from paperzoo.config import build
from paperzoo.data.interface import make_data
from paperzoo.errors import RunError, UserError
from paperzoo.papers.bagging import missing_classes
from paperzoo.papers.boosting import procedure as boosting
from paperzoo.papers.stacking import procedure as stacking
from paperzoo.runs import compare
from paperzoo.tasks.diverging import DivergingClassification
from paperzoo.tasks.making import make_module
from paperzoo.training import train

SMALL = ["data.image_size=12", "trainer.max_epochs=1", "data.augment.crop_padding=0", "optimizer.lr=0.05"]
BOOSTING = ["model.members=3", *SMALL, "norm=group", "data.limit_train=160"]
full = pytest.mark.full


@pytest.fixture
def poison(monkeypatch):
    """Which member's weights become NaN where its training begins."""
    chosen: list[int] = []
    begin = DivergingClassification.on_train_start

    def start(self):
        begin(self)
        network = self.network
        for number in chosen if self.trainer.global_step == 0 else ():
            if network.active in (None, number) and number in network.voters:
                with torch.no_grad():
                    network.members[number].fc.bias[0] = float("nan")

    monkeypatch.setattr(DivergingClassification, "on_train_start", start)
    return chosen.extend


def run(model, runs, *words):
    return train(configured(model, *words, runs=runs))


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


@full
def test_a_boosted_member_that_diverges_ends_the_run_and_is_named(poison, tmp_path, capsys):
    poison([1])
    with pytest.raises(RunError, match="the loss became nan"):
        run("boosting", tmp_path, *BOOSTING)
    assert "member 1 diverged: its loss is not finite; it ends the run (model.diverged=stop)" in said(capsys)


@full
def test_a_boosted_member_that_diverges_is_left_out(poison, tmp_path, capsys):
    poison([1])
    words = [*BOOSTING, "model.diverged=drop", "checkpoint.every_steps=4", "resume=auto"]
    entry = run("boosting", tmp_path / "a", *words)
    text = said(capsys)
    assert "member 1 diverged: its loss is not finite; it is left out from now on" in text
    assert "member 1 diverged: it has no vote" in text
    saved = last_checkpoint(entry, tmp_path / "a")
    state, outcomes = saved["state_dict"], saved["outcomes"]
    votes = state["network.weights"].tolist()
    assert votes[1] == 0
    assert votes[0] > 0
    assert votes[2] > 0
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert [row["members"] for row in entry.epochs[-2:]] == [1, 2]
    assert entry.epochs[-1]["weight"] == pytest.approx(votes[2], rel=1e-6)
    # the third is weighed by the errors of the first alone: its own error follows from these weights
    first, third = outcomes[0], outcomes[2]
    wrong = first["wrong"].double()
    weights = 1 + wrong * ((1 - first["error"]) / first["error"] * 9 - 1)
    expected = float((weights * third["wrong"]).sum() / weights.sum())
    assert third["error"] == pytest.approx(expected, rel=1e-9)
    # killed while nothing is trained
    with dying_at(15), pytest.raises(Died):
        run("boosting", tmp_path / "b", *words)
    again = run("boosting", tmp_path / "b", *words)
    assert compare.first_difference(entry, again) is None
    assert equal_state(state, last_checkpoint(again, tmp_path / "b")["state_dict"])


@full
@pytest.mark.parametrize("words", [
    ["procedure=snapshot", "model.voting=soft", "trainer.max_epochs=3"],
    ["procedure=gradient_boosting", "model.voting=sum", "procedure.shrinkage=0.5"],
])  # fmt: skip
def test_others_go_on_without_it(words, poison, tmp_path, monkeypatch):
    """A snapshot from the weights of the last that did not diverge; a summed member upon the sum of the others."""
    poison([1])
    begun = {}
    select = DivergingClassification.on_train_start

    def start(self):
        state = self.network.state_dict()
        begun[self.network.active] = {name: value.clone() for name, value in state.items()}
        select(self)

    monkeypatch.setattr(DivergingClassification, "on_train_start", start)
    entry = run("boosting", tmp_path, *BOOSTING, *words, "model.diverged=drop")
    state = last_checkpoint(entry, tmp_path)["state_dict"]
    vote = 1.0 if "procedure=snapshot" in words else 0.5
    assert state["network.weights"].tolist() == [vote, 0, vote]
    if vote == 1:
        assert torch.equal(begun[2]["members.2.fc.weight"], state["network.members.0.fc.weight"])
    else:
        assert begun[2]["weights"].tolist() == [0.5, 0, 0.5]
    assert entry.results["last"].metrics["test/loss"] < 10


@full
def test_without_a_member_that_is_left_the_run_fails(poison, tmp_path):
    poison([0])
    with pytest.raises(RunError, match="every member diverged"):
        run("boosting", tmp_path, *BOOSTING, "model.members=1", "model.diverged=drop")


@full
def test_a_stacked_network_that_diverges_has_no_column(poison, tmp_path, capsys):
    poison([1])
    words = ["procedure=stacking", "procedure.folds=2", "data.limit_train=96", *SMALL, "model.papers=[resnet,resnet]",
             "model.learners=[knn]"]  # fmt: skip
    entry = run("stacking", tmp_path, *words, "model.diverged=drop")
    assert said(capsys).count("member 1 diverged") == 1  # in the first fold; it stays out
    state = last_checkpoint(entry, tmp_path)["state_dict"]
    weight = state["network.meta_weight"]
    assert not weight[:, 10:20].any()
    assert weight[:, :10].any()
    assert weight[:, 20:].any()
    config = configured("stacking", *words, "model.diverged=drop")
    data = make_data(config)
    module = make_module(config, data)
    module.load_state_dict(state)
    network = module.eval().network
    images, labels = data.tensors("test")
    x = data._normalise(images)
    with torch.no_grad():
        p = torch.cat([network.members[0](x).softmax(1), network.members[2](x.flatten(1)).softmax(1)], 1)
        logits = p @ weight[:, [*range(10), *range(20, 30)]].T + state["network.meta_bias"]
        torch.testing.assert_close(network(x), logits)
    assert entry.results["last"].metrics["test/top1"] == pytest.approx(
        float((logits.argmax(1) == labels).double().mean())
    )


# classes, samples, errors


def test_classes_that_a_bootstrap_sample_misses_by_hand():
    counts = torch.tensor([[1, 0, 2, 1], [4, 0, 0, 0], [0, 2, 1, 1]], dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 3])  # of class 2 there is none at all
    assert missing_classes(counts, labels, 4) == {1: [1, 3]}


@full
def test_a_class_that_a_bootstrap_sample_misses_is_named(tmp_path, capsys):
    entry = run("bagging", tmp_path, "model.members=3", *SMALL, "data.limit_train=20", "data.batch_size=20")
    counts = last_checkpoint(entry, tmp_path)["state_dict"]["counts"]
    labels = make_data(configured("bagging", "data.limit_train=20", "data.batch_size=20")).tensors("train")[1]
    text = said(capsys)
    missing = 0
    for number, row in enumerate(counts.tolist()):
        drawn = {int(label) for label, count in zip(labels, row, strict=True) if count}
        absent = sorted(set(labels.tolist()) - drawn)
        missing += len(absent)
        line = f"member {number}: no sample of class {', '.join(map(str, absent))} in its bootstrap sample"
        assert (line in text) == bool(absent)
    assert missing  # or the sizes of this test do not show what it is for


def test_a_class_with_fewer_samples_than_folds_is_named(monkeypatch, capsys):
    labels = torch.tensor([0] * 6 + [1] * 2 + [2] * 4)
    monkeypatch.setattr(stacking, "on_split", lambda *_: (labels, labels))
    module, data = SimpleNamespace(num_classes=3), SimpleNamespace(rank=0)
    dealt = stacking.deal(3, 0, module, data)
    assert "class 1 has 2 samples, fewer than folds=3" in said(capsys)
    assert torch.bincount(dealt["folds"]).tolist() == [4, 4, 4]
    with pytest.raises(UserError, match=r"procedure\.folds=13: must be at most the 12 training samples"):
        stacking.deal(13, 0, module, data)


@pytest.mark.parametrize(("active", "wrong", "line"), [
    (2, [0, 0, 0, 0], "member 2 makes no error on the training samples: weight 1, and boosting ends"),
    (1, [1, 1, 1, 0], "member 1: error 0.75 is no better than chance; it has no vote, and boosting ends"),
    (0, [1, 1, 1, 0], "member 0: error 0.75 is no better than chance; it is kept, as there is no other"),
])  # fmt: skip
def test_a_perfect_stage_and_one_no_better_than_chance_are_named(active, wrong, line, monkeypatch, capsys):
    monkeypatch.setattr(boosting, "on_split", lambda *_: (torch.tensor(wrong), torch.zeros(4).long()))
    network = SimpleNamespace(active=active, voters=[0, 1, 2])
    found = boosting.judge(None, SimpleNamespace(network=network, num_classes=3), SimpleNamespace(rank=0))
    assert line in said(capsys)
    assert found["error"] == sum(wrong) / 4


def test_the_first_member_that_did_not_diverge_is_what_there_is():
    """Though it is no better than chance; those after one that diverged see the weights that it saw."""
    stages = boosting.SammeStages().stages(configured("boosting", "model.members=4", "trainer.precision=64-true"))
    wrong = torch.tensor([True, False, False, False])
    next(stages)
    diverged = {"wrong": ~wrong, "error": 0.9, "classes": 3, "diverged": True}
    assert stages.send(diverged).weights is None
    second = stages.send({"wrong": wrong, "error": 0.25, "classes": 3}).weights
    assert torch.equal(stages.send(diverged).weights, second)
    vote = stages.send({"wrong": ~wrong, "error": 0.7, "classes": 3})
    assert vote.votes == pytest.approx([0, math.log(6), 0, 0])
    assert vote.tries == 1
    stages = boosting.SammeStages().stages(configured("boosting", "model.members=2"))
    next(stages)
    stages.send(diverged)
    assert stages.send({"wrong": ~wrong, "error": 0.75, "classes": 3}).votes == [0, 1]
    stages = boosting.SammeStages().stages(configured("boosting", "model.members=1"))
    next(stages)
    with pytest.raises(RunError, match="every member diverged"):
        stages.send(diverged)


def test_finished_runs_are_not_boosted():
    config = configured("bagging", "procedure=samme", "model.members=[run:0]")
    with pytest.raises(UserError, match=r"procedure=samme: model\.members names finished runs"):
        next(boosting.SammeStages().stages(config))


def test_what_is_frozen_stays_so_whichever_member_is_trained():
    config = configured("boosting", "model.members=2", "model.freeze=[members.*.layer1]")
    network = make_module(config, make_data(config)).network
    for active in (0, 1, None):
        network.select(active)
        for name, parameter in network.members.named_parameters():
            chosen = active is None or name.startswith(f"{active}.")
            assert parameter.requires_grad == (chosen and ".layer1." not in name)
    whole = make_module(
        configured("boosting", "model.members=2", "model.freeze=[members.0]"), make_data(config)
    ).network
    with pytest.raises(UserError, match=r"model\.freeze: leaves nothing of member 0 to train"):
        whole.select(0)


@pytest.mark.parametrize(("model", "procedure"), [
    ("bagging", "bagging"), ("boosting", "samme"), ("stacking", "stacking"),
])  # fmt: skip
def test_a_stream_has_no_samples_to_weigh(model, procedure):
    config = configured(model, f"procedure={procedure}")
    stream = config.model_copy(update={"data": SimpleNamespace(is_stream=True)})
    with pytest.raises(UserError, match=rf"data\.streaming=true: procedure={procedure} weighs, chooses or predicts"):
        next(build(config.procedure).stages(stream))


def test_the_losses_of_a_member_that_was_left_out_are_no_longer_shown():
    config = configured("bagging", "model.members=3", "model.diverged=drop")
    data = make_data(config)
    module = make_module(config, data)
    module.running, batch = module.make_running(), batch_of(data)
    for diverged in (None, 1, 0):
        with torch.no_grad():
            if diverged is not None:
                module.network.members[diverged].fc.bias[0] = float("nan")
        losses = module.losses(batch)
        module.running.update(sum(losses.values()), losses, len(batch.targets))
        left = {None: [0, 1, 2], 1: [0, 2], 0: [2]}[diverged]
        assert [name for name in module.running.read() | module.running.epoch() if name.startswith("member")] == [
            f"member_{number}" for number in left if len(left) > 1
        ]
