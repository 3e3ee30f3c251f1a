"""Classical learners in a stack: as layers they are scikit-learn's, and a run holds, resumes and exports them."""

import numpy as np
import pytest
import torch
from composed import compose
from contract import configured, demand_same, equal_state, last_checkpoint
from interruption import Died, dying_at
from sklearn.datasets import load_digits

import paperzoo
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.inference import loading, safetensors
from paperzoo.inference.exporting import about, traced
from paperzoo.papers.stacking import LEARNERS, out_of_fold
from paperzoo.papers.stacking.learners import NEVER
from paperzoo.papers.stacking.procedure import regression
from paperzoo.tasks.making import make_module
from paperzoo.training import train

X, Y = (part[:300] for part in load_digits(return_X_y=True))
X = X + np.random.default_rng(0).normal(scale=0.01, size=X.shape)  # no two distances are equal
CLASSES = {"all": range(10), "two": (3, 8), "some": (1, 4, 7)}


def fitted(name, classes, **options):
    """A learner fitted on half of the samples of some classes, scikit-learn's, and all samples."""
    own = np.isin(Y, list(CLASSES[classes])) & (np.arange(300) % 2 == 0)
    layer = LEARNERS[name](10).double()
    layer.fit(X[own], Y[own], seed=3)
    return layer, layer.reference(3).fit(X[own], Y[own])


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["knn", "logistic_regression", "random_forest"])
def test_probabilities_are_scikit_learns(name, classes):
    layer, theirs = fitted(name, classes)
    expected = np.zeros((300, 10))
    expected[:, theirs.classes_] = theirs.predict_proba(X)
    got = layer(torch.from_numpy(X)).softmax(1).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("classes", CLASSES)
def test_decisions_of_the_svm_are_scikit_learns(classes):
    layer, theirs = fitted("svm", classes)
    got = layer(torch.from_numpy(X))
    own = got[:, torch.from_numpy(theirs.classes_)].numpy()
    expected = theirs.decision_function(X)
    if classes == "two":  # one number: the side of the second class; votes and thirds keep its order
        assert (own.argmax(1) == (expected > 0)).all()
        sums = 3 * (own[:, 1] - (expected > 0))  # d / (|d| + 1)
        expected, own = expected / (np.abs(expected) + 1), sums
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-9)
    others = [k for k in range(10) if k not in CLASSES[classes]]
    assert (got[:, others] == NEVER).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_one_class_is_refused_and_unfitted_is_known(name):
    layer = LEARNERS[name](10)
    assert not layer.fitted
    with pytest.raises(ValueError, match=r"classes \[4\] among 3 samples: must be at least two"):
        layer.fit(X[:3], np.array([4, 4, 4]))


# the run

WORDS = ["procedure=stacking", "procedure.folds=2", "trainer.max_epochs=1", "data.limit_train=96", "data.image_size=12",
         "model.papers=[resnet]", "model.learners=[knn,logistic_regression,svm,random_forest]"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_forests():
    with pytest.MonkeyPatch.context() as patch:
        from sklearn.ensemble import RandomForestClassifier

        from paperzoo.papers.stacking.learners import Forest

        patch.setattr(Forest, "reference", lambda self, seed=0: RandomForestClassifier(10, random_state=seed))
        yield


def stacked(runs, *words):
    return train(configured("stacking", *WORDS, *words, runs=runs))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return stacked(runs), runs


@pytest.mark.full
def test_out_of_fold_predictions_of_learners_are_scikit_learns_on_the_same_folds(alone):
    """And those of all samples are of learners fitted on all; the meta-learner is upon the out-of-fold ones."""
    entry, runs = alone
    saved = last_checkpoint(entry, runs)
    dealt, first, second, _ = saved["outcomes"]
    data = make_data(configured("stacking", *WORDS))
    images, labels = data.tensors("train")
    rows = data._normalise(images).flatten(1).numpy()
    whole = torch.empty(96, 50)
    for number, part in enumerate((first, second)):
        whole[dealt["folds"] == number] = part["probabilities"]
    for place, name in ((1, "knn"), (2, "logistic_regression"), (4, "random_forest")):
        theirs = out_of_fold(LEARNERS[name](10).reference(0), rows, labels.numpy(), dealt["folds"].numpy())
        np.testing.assert_allclose(whole[:, 10 * place : 10 * place + 10].numpy(), theirs, rtol=0, atol=1e-4)
    weight, bias = regression(whole.double().numpy(), labels.numpy(), 10, 1.0)
    np.testing.assert_allclose(saved["state_dict"]["network.meta_weight"].numpy(), weight, rtol=0, atol=1e-5)
    network = paperzoo.load(entry.id, runs_dir=runs)
    forest = LEARNERS["random_forest"](10).reference(0).fit(rows, labels.numpy())
    x = data._normalise(data.tensors("test")[0])
    got = network.members[4](x.flatten(1)).softmax(1)
    np.testing.assert_allclose(got.numpy(), forest.predict_proba(x.flatten(1).numpy()), rtol=0, atol=1e-5)
    p = torch.cat([network.members[0](x), *(member(x.flatten(1)) for member in network.members[1:])], 1)
    expected = p.unflatten(1, (5, 10)).softmax(-1).flatten(1) @ torch.from_numpy(weight.T).float()
    torch.testing.assert_close(network(x), expected + torch.from_numpy(bias).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.full
def test_one_checkpoint_holds_it_evaluated_loaded_and_written_elsewhere(alone, tmp_path):
    entry, runs = alone
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={runs}"]))
    assert got == {n: v for n, v in entry.results["last"].metrics.items() if n.startswith("test/")}
    trained = loading.read(entry.id, runs_dir=runs)
    path = tmp_path / "stack.safetensors"
    safetensors.write(path, trained.module.network.state_dict(), about(trained))
    again = paperzoo.load(path)
    assert equal_state(again.state_dict(), trained.module.network.state_dict())
    images = torch.rand(3, 1, 12, 12)
    with torch.no_grad():
        logits = again(images)
        exported = traced(again, images).module()(images)  # for any number of images
    torch.testing.assert_close(exported, logits)


@pytest.mark.full
@pytest.mark.parametrize("step", [4, 8])
def test_a_kill_goes_on_exactly(step, alone, tmp_path):
    entry, runs = alone
    words = ["checkpoint.every_steps=2", "resume=auto"]
    with dying_at(step), pytest.raises(Died):
        stacked(tmp_path, *words)
    got = stacked(tmp_path, *words)
    assert len(got.segments) == 2
    demand_same(entry, runs, got, tmp_path)


@pytest.mark.full
def test_a_kill_when_the_learners_are_fitted_goes_on_exactly(alone, tmp_path, monkeypatch):
    from paperzoo.papers.stacking.procedure import Measured

    entry, runs = alone
    with monkeypatch.context() as patch:
        patch.setattr(Measured, "evaluate", lambda *_: (_ for _ in ()).throw(Died()))
        with pytest.raises(Died):
            stacked(tmp_path, "checkpoint.every_steps=2", "resume=auto")
    got = stacked(tmp_path, "checkpoint.every_steps=2", "resume=auto")
    demand_same(entry, runs, got, tmp_path)


@pytest.mark.full
def test_learners_may_see_the_networks_last_layer():
    config = configured("stacking", *WORDS, "model.features=penultimate")
    data = make_data(config)
    network = make_module(config, data).eval().network
    images = torch.rand(4, 1, 12, 12)
    with torch.no_grad():
        rows = network.rows(images)
        torch.testing.assert_close(network.members[0].fc(rows), network.members[0](images))
        network.members[1].fit(rows.repeat(3, 1).numpy(), np.arange(12) % 3)
        assert network.asked() == [0, 1]
        torch.testing.assert_close(network(images, apart=True)[1], network.members[1](rows))


@pytest.mark.parametrize(("words", "line"), [
    (["model.learners=[trees]"], r"model\.learners=trees: must be of knn, logistic_regression, svm, random_forest"),
    (["model.papers=[]"], r"model\.papers=\[\]: must name at least one paper"),
])  # fmt: skip
def test_a_mistake_is_one_line(words, line):
    config = configured("stacking", "model.papers=[resnet]", *words)
    with pytest.raises(UserError, match=line):
        make_module(config, make_data(config))
