"""Bagging: counts, votes and out-of-bag estimate against scikit-learn; members together against members alone."""

import numpy as np
import pytest
import torch
from composed import compose
from contract import batch_of, configured, equal_state
from sklearn.datasets import load_digits, load_wine
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch.nn import functional as F

from paperzoo.data import samplers
from paperzoo.data.interface import make_data
from paperzoo.errors import RunError, UserError
from paperzoo.evaluation import evaluate
from paperzoo.networks.ensemble import Ensemble, samme_vote
from paperzoo.papers.bagging import bootstrap_counts, counts_of, hard_vote, member_state, out_of_bag, soft_vote
from paperzoo.papers.boosting import Samme
from paperzoo.runs import checkpoints, folders
from paperzoo.runs.identity import code_of
from paperzoo.tasks.making import make_module
from paperzoo.training import train

DATA = {"digits": tuple(part[:300] for part in load_digits(return_X_y=True)), "wine": load_wine(return_X_y=True)}


def fitted(data, member, members=7):
    x, y = DATA[data]
    theirs = BaggingClassifier(member, n_estimators=members, oob_score=True, random_state=3).fit(x, y)
    indices = torch.from_numpy(np.stack(theirs.estimators_samples_)).long()
    return x, y, theirs, indices


# the parts, given scikit-learn's indices


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("member", [DecisionTreeClassifier(max_depth=4), LogisticRegression(max_iter=50), "neighbours"])
def test_counts_vote_and_out_of_bag_equal_scikit_learn(data, member):
    member = KNeighborsClassifier(3) if member == "neighbours" else member
    x, _, theirs, indices = fitted(data, member)
    counts = counts_of(indices, len(x))
    assert counts.tolist() == [np.bincount(own, minlength=len(x)).tolist() for own in indices.numpy()]
    probabilities = torch.from_numpy(np.stack([own.predict_proba(x) for own in theirs.estimators_]))
    vote = soft_vote(probabilities.log(), torch.ones(len(indices))).exp()
    np.testing.assert_allclose(vote.numpy(), theirs.predict_proba(x), rtol=0, atol=1e-12)
    found = out_of_bag(probabilities, counts)
    np.testing.assert_allclose(found.numpy(), theirs.oob_decision_function_, rtol=0, atol=1e-12)
    known = found.isfinite().all(1).numpy()
    assert np.isnan(theirs.oob_decision_function_[~known]).all()


def test_members_fitted_on_counts_are_scikit_learns():
    """From its indices alone: the counts as sample weights give its trees, votes and predictions."""
    x, y, theirs, indices = fitted("digits", DecisionTreeClassifier(max_depth=5, random_state=0))
    logits = []
    for own, counts in zip(theirs.estimators_, counts_of(indices, len(x)), strict=True):
        tree = DecisionTreeClassifier(max_depth=5, random_state=own.random_state).fit(x, y, sample_weight=counts)
        logits.append(torch.from_numpy(tree.predict_proba(x)).log())
    vote = soft_vote(torch.stack(logits), torch.ones(len(logits)))
    assert theirs.classes_[vote.argmax(1)].tolist() == theirs.predict(x).tolist()


def test_hard_vote_is_scikit_learns_of_members_without_probabilities():
    x, _, theirs, _ = fitted("digits", LinearSVC(C=1e-5, random_state=0))
    chosen = torch.from_numpy(np.stack([own.predict(x) for own in theirs.estimators_]))
    vote = hard_vote(F.one_hot(chosen, 10).double(), torch.ones(len(chosen), dtype=torch.float64)).exp()
    np.testing.assert_allclose(vote.numpy(), theirs.predict_proba(x), rtol=0, atol=1e-12)
    assert vote.argmax(1).tolist() == theirs.predict(x).tolist()


def test_votes_by_hand():
    p = torch.tensor([[[0.9, 0.1, 0.0]], [[0.2, 0.5, 0.3]], [[0.3, 0.4, 0.3]]]).double()  # (M, B, K)
    weights = torch.tensor([1.0, 1.0, 2.0]).double()
    torch.testing.assert_close(soft_vote(p.log(), weights).exp(), torch.tensor([[1.7, 1.4, 0.9]]).double() / 4)
    torch.testing.assert_close(hard_vote(p.log(), weights).exp(), torch.tensor([[1.0, 3.0, 0.0]]).double() / 4)
    # members for class 0 with 1, for class 1 with 3 of 4: f = 1/4 - 3/8, 3/4 - 1/8, -1/2; over K - 1 = 2
    expected = torch.tensor([[-0.125, 0.625, -0.5]]).double() / 2
    torch.testing.assert_close(samme_vote(p.log(), weights), expected)
    left_out = torch.tensor([1.0, 1.0, 0.0]).double()
    torch.testing.assert_close(soft_vote(p.log(), left_out), soft_vote(p[:2].log(), left_out[:2]))


def test_samme_vote_is_that_of_samme():
    x, y = DATA["wine"]
    ours = Samme(DecisionTreeClassifier(max_depth=1), 5, 0.7, 0).fit(x, y)
    chosen = torch.from_numpy(np.stack([own.predict(x) for own in ours.estimators_]))
    logits = samme_vote(F.one_hot(chosen, 3).double(), torch.from_numpy(ours.estimator_weights_))
    np.testing.assert_allclose(logits.softmax(1).numpy(), ours.predict_proba(x), rtol=0, atol=1e-12)


def test_counts_are_a_function_of_seed_and_number_and_multinomial():
    counts = bootstrap_counts(500, 40, seed=5)
    assert counts.sum(1).tolist() == [500] * 40
    assert torch.equal(bootstrap_counts(500, 3, seed=5, first=2), counts[2:5])
    assert not torch.equal(bootstrap_counts(500, 1, seed=6), counts[:1])
    order = samplers.bootstrap(500, None, seed=5, epoch=3, batch_size=1, ranks=1, draw=2)
    assert torch.equal(torch.bincount(order, minlength=500), counts[2])
    share = (counts == 0).double().mean()
    assert float(share) == pytest.approx((1 - 1 / 500) ** 500, abs=5 * (0.37 * 0.63 / 20000) ** 0.5)


@pytest.mark.parametrize("call", [
    lambda: counts_of(torch.tensor([[0, 5]]), 5), lambda: counts_of(torch.tensor([0, 1]), 5),
    lambda: bootstrap_counts(0, 1, 0), lambda: out_of_bag(torch.ones(2, 3, 4), torch.ones(3, 2)),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="must be"):
        call()


# the module


def small(*words, runs=None):
    return configured("bagging", "model.width=2", "data.image_size=12", "trainer.precision=64-true", *words, runs=runs)


def state_of(entry, runs):
    return checkpoints.load(folders.find(runs, entry.id) / entry.checkpoints["last"])["state_dict"]


def test_each_member_trained_together_equals_the_member_trained_alone(tmp_path):
    """Weight decay, momentum, mixing, clipping by each member's norm; 8 steps in float64."""
    words = ["trainer.max_epochs=2", "mix=mixup_paper", "loss=cross_entropy", "trainer.gradient_clip_val=0.5"]
    together = train(small("model.members=2", *words, runs=tmp_path))
    state = state_of(together, tmp_path)
    for number in range(2):
        alone = train(small("model.members=1", f"model.first={number}", *words, runs=tmp_path))
        own = state_of(alone, tmp_path)
        assert torch.equal(own["counts"][0], state["counts"][number])
        ours, theirs = member_state(own, 0), member_state(state, number)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-9)
    a, b = member_state(state, 0), member_state(state, 1)
    assert not torch.allclose(a["fc.weight"], b["fc.weight"], atol=1e-3)


def test_a_member_learns_what_a_plain_loop_over_its_bootstrap_sample_learns():
    """The gradient is that of the mean over copies: each sample of the batch as often as it was drawn."""
    config = small("model.members=2", "norm=group", "loss=cross_entropy")
    data = make_data(config)
    module = make_module(config, data)
    batch = batch_of(data, torch.float64)
    module.running = module.make_running()
    sum(module.losses(batch).values()).backward()
    for number, member in enumerate(module.network.members):
        copies = module.counts[number][batch.index].long()
        assert 0 in copies
        assert int(copies.max()) > 1
        got = {name: p.grad.clone() for name, p in member.named_parameters()}
        member.zero_grad()
        images, labels = batch.inputs.repeat_interleave(copies, 0), batch.targets.repeat_interleave(copies)
        (F.cross_entropy(member(images), labels, reduction="sum") / len(batch.targets)).backward()
        for name, parameter in member.named_parameters():
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return train(configured("bagging", "model.members=3", "trainer.max_epochs=2", runs=runs)), runs


def test_out_of_bag_estimate_is_recorded_and_that_of_a_plain_loop(trained):
    entry, runs = trained
    config = configured("bagging", "model.members=3", "trainer.max_epochs=2", runs=runs)
    data = make_data(config)
    module = make_module(config, data)
    module.load_state_dict(state_of(entry, runs))
    module.eval()
    images, labels = data.tensors("train")
    x = data._normalise(images)
    with torch.no_grad():
        probabilities = [member(x).softmax(1) for member in module.network.members]
    right, known = 0, 0
    for i in range(len(labels)):
        unseen = [p[i] for p, counts in zip(probabilities, module.counts, strict=True) if not counts[i]]
        if unseen:
            known += 1
            right += int(sum(unseen).argmax()) == int(labels[i])
    metrics = entry.results["last"].metrics
    assert metrics["oob/share"] == pytest.approx(known / len(labels))
    assert 0 < known < len(labels)
    assert metrics["oob/top1"] == pytest.approx(right / known)


def test_the_counts_of_a_run_are_in_its_checkpoint_and_depend_on_its_seed(trained):
    entry, runs = trained
    counts = state_of(entry, runs)["counts"]
    assert counts.shape == (3, 64)
    assert counts.sum(1).tolist() == [64] * 3
    other = configured("bagging", "model.members=3", "seed=1")
    assert not torch.equal(make_module(other, make_data(other)).counts, counts)


def test_evaluation_gives_the_record(trained):
    entry, runs = trained
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={runs}"]))
    on_record = entry.results["last"].metrics
    assert got == {name: value for name, value in on_record.items() if name.startswith("test/")}


def test_a_member_is_a_model_of_its_own(trained, tmp_path):
    entry, runs = trained
    state = state_of(entry, runs)
    torch.save(member_state(state, 1), tmp_path / "member.pt")
    config = configured("resnet", f"model.checkpoint={tmp_path / 'member.pt'}")
    data = make_data(config)
    alone = make_module(config, data, checkpoints.read_plain(tmp_path / "member.pt")).eval()
    whole = configured("bagging", "model.members=3")
    ensemble = make_module(whole, data)
    ensemble.load_state_dict(state)
    images = batch_of(data).inputs
    assert torch.equal(alone(images), ensemble.eval().network.members[1](images))
    assert torch.equal(ensemble.member_logits(images)[1], alone(images))
    with pytest.raises(UserError, match="member 7: these weights have no such member"):
        member_state(state, 7)


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_the_logits_are_the_vote(voting):
    config = configured("bagging", f"model.voting={voting}", "model.members=3")
    data = make_data(config)
    module = make_module(config, data).eval()
    images = batch_of(data).inputs
    p = module.member_logits(images).softmax(-1)
    expected = p.mean(0) if voting == "soft" else F.one_hot(p.argmax(-1), 10).double().mean(0)
    torch.testing.assert_close(module(images).softmax(1).double(), expected.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model", "words"), [
    ("bagging", ["model.members=2"]), ("boosting", ["model.members=2"]), ("stacking", ["model.papers=[resnet]"]),
])  # fmt: skip
def test_an_ensemble_is_exported_with_the_weights_that_it_was_given(model, words):
    """What votes is decided before, not looked up in a buffer at each call."""
    config = configured(model, "model.width=2", "data.image_size=12", *words)
    data = make_data(config)
    network = make_module(config, data).eval().network
    state = network.state_dict()
    if model == "stacking":
        state |= {"meta_weight": torch.randn(10, 10), "meta_bias": torch.randn(10), "fitted": torch.tensor(True)}
    else:
        state["weights"] = torch.tensor([0.0, 2.0])
    network.load_state_dict(state)
    images = batch_of(data).inputs
    with torch.no_grad():
        logits = network(images)
        exported = torch.export.export(network, (images,)).module()(images)
        last = network.members[-1](images)
    torch.testing.assert_close(exported, logits)
    expected = last.softmax(1) @ state["meta_weight"].T + state["meta_bias"] if model == "stacking" else last
    torch.testing.assert_close(logits, expected)


def poisoned(module):
    with torch.no_grad():
        module.network.members[1].fc.bias[0] = float("nan")


@pytest.mark.parametrize("diverged", ["stop", "drop"])
def test_a_member_that_diverges_is_named_and_stops_the_run_or_is_left_out(diverged, tmp_path, monkeypatch, capsys):
    from paperzoo.papers.bagging.module import Bagging

    begin = Bagging.on_train_start

    def start(self):
        begin(self)
        poisoned(self)

    words = ["model.members=3", f"model.diverged={diverged}", "trainer.max_epochs=1"]
    monkeypatch.setattr(Bagging, "on_train_start", start)
    if diverged == "stop":
        with pytest.raises(RunError, match="the loss became nan"):
            train(configured("bagging", *words, runs=tmp_path))
        assert "member 1 diverged" in capsys.readouterr().out
        return
    entry = train(configured("bagging", *words, runs=tmp_path))
    assert "member 1 diverged: its loss is not finite; it is left out" in capsys.readouterr().out
    state = state_of(entry, tmp_path)
    assert state["network.weights"].tolist() == [1, 0, 1]
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert not member_state(state, 1)["fc.weight"].any()
    assert entry.results["last"].metrics["test/loss"] < 10


def test_any_classifier_may_be_the_member_and_its_code_counts():
    config = configured("bagging", "model.member=scnet", "model.members=2")
    assert config.model.member_network == "scnet_small"
    data = make_data(config)
    names = {type(part).__name__ for part in make_module(config, data).network.members[0].modules()}
    assert "SCConv" in names or any("SC" in name for name in names)
    assert any("papers/scnet/" in name for name in code_of(config))
    assert not any("papers/scnet/" in name for name in code_of(configured("bagging")))


@pytest.mark.parametrize(("words", "line"), [
    (["model.member=scnett"], "model.member=scnett: there is no such paper; .* Did you mean scnet"),
    (["model.member=htc"], "model.member=htc: does not do classification"),
    (["model.members=0"], "model.members=0: must be"),
    (["model.members=[3]"], r"model.members=\[3\]: must be .*or a list of finished runs, \[run:<id>"),
    (["model.voting=loud"], "model.voting=loud: must be one of soft, hard"),
])  # fmt: skip
def test_a_mistake_is_one_line(words, line):
    with pytest.raises(UserError, match=line):
        configured("bagging", *words)


def test_a_network_that_is_not_there_is_one_line():
    config = configured("bagging", "model.member_network=resnet_huge")
    with pytest.raises(UserError, match=r"model\.member_network=resnet_huge: there is no such network of resnet"):
        make_module(config, make_data(config))


def test_an_ensemble_of_any_size_has_the_same_member():
    make = lambda: torch.nn.Linear(3, 2)  # noqa: E731
    torch.manual_seed(4)
    large = Ensemble([make] * 5)
    drawn = torch.rand(1)
    torch.manual_seed(4)
    one = Ensemble([make], first=3)
    assert torch.equal(torch.rand(1), drawn)  # it draws nothing from the generator of others
    assert equal_state(one.members[0].state_dict(), large.members[3].state_dict())
