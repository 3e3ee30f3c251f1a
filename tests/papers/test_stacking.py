"""Stacking: folds, out-of-fold predictions and the whole stack against scikit-learn; planted leaks are caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import configured, demand_same, last_checkpoint
from interruption import Died, dying_at
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC
from torch.nn import functional as F

from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.papers.stacking import Stacking, features, out_of_fold, stratified_folds
from paperzoo.papers.stacking.procedure import NEVER, regression
from paperzoo.tasks.making import make_module
from paperzoo.training import train

DATA = {
    "digits": tuple(part[:240] for part in load_digits(return_X_y=True)),
    "wine": load_wine(return_X_y=True),
    "two classes": tuple(part[:200] for part in load_breast_cancer(return_X_y=True)),
}
LEARNERS = [
    ("neighbours", KNeighborsClassifier(3)),
    ("regression", LogisticRegression(max_iter=200)),
    ("vectors", SVC(gamma=0.001)),  # has a decision function, no probabilities
    ("forest", RandomForestClassifier(10, random_state=0)),
]


def scikit(learners, folds, **options):
    return StackingClassifier(learners, final_estimator=LogisticRegression(), cv=PredefinedSplit(folds), **options)


@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("data", DATA)
def test_equals_scikit_learn_given_the_same_folds(data, passthrough):
    x, y = DATA[data]
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    names = np.array([f"class {k}" for k in range(10)])[y]
    folds = stratified_folds(names, 4, seed=1)
    ours = Stacking(LEARNERS, LogisticRegression(), folds, passthrough=passthrough).fit(x, names)
    theirs = scikit(LEARNERS, folds, passthrough=passthrough).fit(x, names)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.meta_.coef_, theirs.final_estimator_.coef_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-8)
    assert ours.predict(x).tolist() == theirs.predict(x).tolist()


@pytest.mark.parametrize("learner", [learner for _, learner in LEARNERS] + [LinearSVC(random_state=0)], ids=repr)
def test_out_of_fold_predictions_equal_scikit_learn(learner):
    x, y = DATA["wine"]
    folds = stratified_folds(y, 5, seed=0)
    method = "predict_proba" if hasattr(learner, "predict_proba") else "decision_function"
    expected = cross_val_predict(clone(learner), x, y, cv=PredefinedSplit(folds), method=method)
    np.testing.assert_allclose(out_of_fold(learner, x, y, folds), expected, rtol=0, atol=1e-12)


class Spy(ClassifierMixin, BaseEstimator):
    """Notes which samples it was fitted on and which it predicts; sample i has i in its first column."""

    notes: list[tuple[set[int], set[int]]] = []  # noqa: RUF012 - clones share it

    def fit(self, x, y):
        self.classes_, self.seen = np.unique(y), {int(i) for i in x[:, 0]}
        return self

    def predict_proba(self, x):
        Spy.notes.append((self.seen, {int(i) for i in x[:, 0]}))
        return np.full((len(x), len(self.classes_)), 1 / len(self.classes_))


def audit(predict) -> list[str]:
    """What is wrong with a way to predict out of fold: samples that were seen, or that are predicted not once."""
    labels = np.arange(60) % 3
    samples, folds = np.arange(60.0)[:, None], stratified_folds(labels, 4, seed=0)
    Spy.notes = []
    predict(Spy(), samples, labels, folds)
    wrong = [f"{len(seen & told)} samples were seen" for seen, told in Spy.notes if seen & told]
    told = sorted(i for _, each in Spy.notes for i in each)
    return wrong + ([] if told == list(range(60)) else ["not each sample once"])


def leaking(learner, samples, labels, folds):
    """As out_of_fold, but fitted on all samples: the leak that is planted."""
    found = np.empty((len(labels), int(labels.max()) + 1))
    for number in np.unique(folds):
        found[folds == number] = clone(learner).fit(samples, labels).predict_proba(samples[folds == number])
    return found


def test_no_sample_is_predicted_by_a_learner_that_has_seen_it_and_a_leak_is_caught():
    assert audit(out_of_fold) == []
    assert audit(leaking) == ["15 samples were seen"] * 4


def test_random_labels_are_not_predicted_and_a_leak_is_caught():
    """A nearest neighbour knows the label of what it has seen, and nothing of others."""
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(400, 5)), chance.integers(0, 4, 400)
    folds = stratified_folds(y, 5, seed=0)
    share = {
        f.__name__: np.mean(f(KNeighborsClassifier(1), x, y, folds).argmax(1) == y) for f in (out_of_fold, leaking)
    }
    assert share["leaking"] == 1
    assert abs(share["out_of_fold"] - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5


def test_folds_are_stratified_and_even():
    y = np.random.default_rng(1).choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    folds = stratified_folds(y, 5, seed=2)
    for k in range(4):
        sizes = np.bincount(folds[y == k], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert np.ptp(np.bincount(folds, minlength=5)) <= 1
    assert (folds == stratified_folds(y, 5, seed=2)).all()
    assert (folds != stratified_folds(y, 5, seed=3)).any()


def test_a_class_that_is_missing_from_a_fold():
    x, y = DATA["wine"]
    x, y = np.vstack([x, x[:1]]), np.append(y, 3)  # one sample of a fourth class
    with pytest.warns(UserWarning, match="class 3 has 1 samples, fewer than folds=3"):
        folds = stratified_folds(y, 3, seed=0)
    found = out_of_fold(KNeighborsClassifier(3), x, y, folds)
    assert found.shape == (179, 4)
    assert (found[folds == folds[-1], 3] == 0).all()
    assert found.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("call", [
    lambda: stratified_folds(np.zeros(3), 4, 0), lambda: stratified_folds(np.zeros(3), 1, 0),
    lambda: out_of_fold(LogisticRegression(), np.zeros((3, 1)), np.zeros(3), np.zeros(3)),
    lambda: Stacking([]).fit(np.zeros((3, 1)), [0, 1, 1]),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="must be at least"):
        call()


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2], [1, 3]])
def test_the_meta_learner_is_scikit_learns(classes):
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(90, 6)), np.array(classes)[np.arange(90) % len(classes)]
    weight, bias = regression(x, y, 4, c=0.5)
    logits = torch.from_numpy(x @ weight.T + bias)
    expected = np.zeros((90, 4))
    expected[:, classes] = LogisticRegression(C=0.5, max_iter=1000).fit(x, y).predict_proba(x)
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected, rtol=0, atol=1e-9)
    assert (bias[[k for k in range(4) if k not in classes]] == NEVER).all()


# the run


WORDS = ["procedure=stacking", "procedure.folds=2", "trainer.max_epochs=2", "data.limit_train=96", "data.image_size=12"]


def stacked(runs, *words):
    return train(configured("stacking", *WORDS, *words, runs=runs))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return stacked(runs), runs


def test_stages_and_what_came_of_them(alone):
    entry, runs = alone
    assert [(s.name, s.kind, s.steps) for s in entry.stages] == [
        ("folds", "loop", 0), ("without fold 0", "fit", 6), ("without fold 1", "fit", 6), ("all", "fit", 12),
        ("meta", "loop", 1),
    ]  # fmt: skip
    saved = last_checkpoint(entry, runs)
    config = configured("stacking", *WORDS)
    data = make_data(config)
    labels = data.tensors("train")[1]
    dealt, first, second, _ = saved["outcomes"]
    assert torch.equal(dealt["labels"], labels)
    assert torch.equal(dealt["folds"], torch.from_numpy(stratified_folds(labels.numpy(), 2, 0)))
    features = torch.empty(96, 20)
    for number, part in enumerate((first, second)):
        features[dealt["folds"] == number] = part["probabilities"]
    weight, bias = regression(features.double().numpy(), labels.numpy(), 10, 1.0)
    state = saved["state_dict"]
    np.testing.assert_allclose(state["network.meta_weight"].numpy(), weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(state["network.meta_bias"].numpy(), bias, rtol=0, atol=1e-6)


def test_the_test_metrics_are_those_of_the_meta_learner(alone):
    entry, runs = alone
    config = configured("stacking", *WORDS)
    data = make_data(config)
    module = make_module(config, data)
    state = last_checkpoint(entry, runs)["state_dict"]
    module.load_state_dict(state)
    module.eval()
    images, labels = data.tensors("test")
    with torch.no_grad():
        p = [member(data._normalise(images)).softmax(1) for member in module.network.members]
    logits = torch.cat(p, 1) @ state["network.meta_weight"].T + state["network.meta_bias"]
    metrics = entry.results["last"].metrics
    assert metrics["test/top1"] == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert metrics["test/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


def test_a_fold_is_predicted_by_a_training_without_it(tmp_path, alone, monkeypatch):
    """Other labels of fold 0 leave its own predictions as they were, bit for bit; a leak would not."""
    from paperzoo.data.images.module import ImageData

    entry, runs = alone
    dealt, first, second, _ = last_checkpoint(entry, runs)["outcomes"]
    held_out = (dealt["folds"] == 0).numpy()
    set_up = ImageData.setup

    def planted(self, stage=None):
        fresh = not self.parts
        set_up(self, stage)
        if fresh:
            part = self.parts["train"]
            labels, rows = part.split.labels.copy(), part.rows[held_out]
            labels[rows] = labels[rows][::-1]
            part.split = replace(part.split, labels=labels)

    monkeypatch.setattr(ImageData, "setup", planted)
    monkeypatch.setattr("paperzoo.papers.stacking.procedure.stratified_folds", lambda *_: dealt["folds"].numpy())
    other = last_checkpoint(stacked(tmp_path), tmp_path)["outcomes"]
    assert not torch.equal(other[0]["labels"], dealt["labels"])
    assert torch.equal(other[1]["probabilities"], first["probabilities"])
    assert not torch.equal(other[2]["probabilities"], second["probabilities"])


@pytest.mark.parametrize("step", [9, pytest.param(3, marks=pytest.mark.full)])
def test_a_kill_within_a_fold_goes_on_exactly(step, alone, tmp_path):
    entry, runs = alone
    words = ["checkpoint.every_steps=2", "resume=auto"]
    with dying_at(step), pytest.raises(Died):
        stacked(tmp_path, *words)
    got = stacked(tmp_path, *words)
    assert len(got.segments) == 2
    demand_same(entry, runs, got, tmp_path)


def test_features_are_pixels_or_the_last_layer():
    config = configured("resnet", "data.limit_train=40")
    data = make_data(config)
    module = make_module(config, data)
    raw, labels = features(module, data, "train")
    images, expected = data.tensors("train")
    assert labels.tolist() == expected.tolist()
    np.testing.assert_array_equal(raw, data._normalise(images).flatten(1).numpy())
    deep, _ = features(module, data, "val", "penultimate")
    images, _ = data.tensors("val")
    with torch.no_grad():
        logits = module.eval()(data._normalise(images))
        torch.testing.assert_close(module.network.fc(torch.from_numpy(deep)), logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="kind=deep: must be one of raw, penultimate"):
        features(module, data, "val", "deep")


def test_a_model_without_members_is_one_line(tmp_path):
    with pytest.raises(UserError, match="procedure=stacking: model=resnet has no members to stack"):
        train(configured("resnet", "procedure=stacking", runs=tmp_path))
