"""SAMME against scikit-learn's AdaBoostClassifier, and against a case computed by hand."""

import math

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_random_state

from paperzoo.papers.boosting import Samme, member_weight, reweighted, weighted_error


def noisy(classes):
    """Overlapping classes with wrong labels: no member is perfect."""
    return make_classification(
        240, 8, n_informative=5, n_classes=classes, class_sep=0.7, flip_y=0.15, random_state=classes
    )


def words(y):
    """Labels that are strings, whose order is not that of the numbers."""
    return np.array(["zebra", "ant", "cat", "bee", "dog", "elk", "fox", "gnu", "hen", "ibis"])[y]


DATA = {
    "two classes": noisy(2),
    "three classes": noisy(3),
    "five classes": noisy(5),
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "breast cancer": load_breast_cancer(return_X_y=True),
    "digits": tuple(part[:400] for part in load_digits(return_X_y=True)),
}
STUMP = DecisionTreeClassifier(max_depth=1)
MEMBERS = {
    "stump": STUMP,
    "random tree": DecisionTreeClassifier(max_depth=2, max_features=2),
    "bayes": GaussianNB(),
    "forest": RandomForestClassifier(n_estimators=3, max_depth=1),
    "bagged trees": BaggingClassifier(DecisionTreeClassifier(max_depth=2, max_features=2), n_estimators=2),
}


def assert_equal(ours, theirs, x):
    """Weights, errors, the number of members, their random states, votes and predictions."""
    np.testing.assert_allclose(ours.estimator_weights_, theirs.estimator_weights_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.estimator_errors_, theirs.estimator_errors_, rtol=0, atol=1e-8)
    assert len(ours.estimators_) == len(theirs.estimators_)
    for mine, other in zip(ours.estimators_, theirs.estimators_, strict=True):
        states = [
            {name: value for name, value in member.get_params().items() if name.endswith("random_state")}
            for member in (mine, other)
        ]
        assert states[0] == states[1]
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-8)
    assert ours.predict(x).tolist() == theirs.predict(x).tolist()
    for mine, other in zip(ours.staged_predict(x), theirs.staged_predict(x), strict=True):
        assert mine.tolist() == other.tolist()


@pytest.mark.parametrize(("member", "rate"), [(name, 1.0) for name in MEMBERS] + [("stump", 0.5)])
@pytest.mark.parametrize("data", DATA)
def test_equals_scikit_learn(data, member, rate):
    x, y = DATA[data]
    ours = Samme(clone(MEMBERS[member]), 8, rate, 7).fit(x, y)
    theirs = AdaBoostClassifier(clone(MEMBERS[member]), n_estimators=8, learning_rate=rate, random_state=7).fit(x, y)
    assert_equal(ours, theirs, x)


@pytest.mark.parametrize("data", ["two classes", "five classes"])
def test_labels_may_be_strings_and_samples_sparse_or_lists(data):
    x, y = DATA[data][0], words(DATA[data][1])
    theirs = AdaBoostClassifier(STUMP, n_estimators=6, random_state=0).fit(x, y)
    assert_equal(Samme(STUMP, 6, 1.0, 0).fit(x, y), theirs, x)
    assert_equal(Samme(STUMP, 6, 1.0, 0).fit(x.tolist(), y.tolist()), theirs, x)
    assert_equal(Samme(STUMP, 6, 1.0, 0).fit(scipy.sparse.csr_matrix(x), y), theirs, scipy.sparse.csr_matrix(x))


def test_weights_to_begin_with_and_samples_without_weight():
    x, y = DATA["three classes"]
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    theirs = AdaBoostClassifier(STUMP, n_estimators=10, random_state=0).fit(x, y, sample_weight=weights)
    assert_equal(Samme(STUMP, 10, 1.0, 0).fit(x, y, sample_weight=weights), theirs, x)


def test_a_perfect_stage_has_weight_1_and_ends_it():
    x, y = DATA["iris"]
    member = DecisionTreeClassifier()
    ours = Samme(member, 5, 0.5, 0).fit(x, y)
    assert (len(ours.estimators_), ours.estimator_weights_.tolist()) == (1, [1, 0, 0, 0, 0])
    assert ours.estimator_errors_.tolist() == [0, 1, 1, 1, 1]
    assert_equal(ours, AdaBoostClassifier(member, n_estimators=5, learning_rate=0.5, random_state=0).fit(x, y), x)


class Stubborn(ClassifierMixin, BaseEstimator):
    """Gives each sample the label in its first column, whatever the weights."""

    def fit(self, x, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return self.classes_[np.asarray(x)[:, 0].astype(int)]


def test_a_later_stage_that_is_worse_than_chance_is_left_out():
    y = np.arange(60) % 3
    x = np.where(np.arange(60) < 15, (y + 1) % 3, y)[:, None]  # a fourth is wrong
    names = np.array(["ant", "bee", "cat"])[y]
    ours = Samme(Stubborn(), 5, 2.0, 0).fit(x, names)  # doubled, the weights make it worse than chance
    assert len(ours.estimators_) == 1
    assert ours.estimator_weights_ == pytest.approx([2 * math.log(6), 0, 0, 0, 0])
    assert ours.estimator_errors_ == pytest.approx([0.25, 1, 1, 1, 1])
    assert_equal(ours, AdaBoostClassifier(Stubborn(), n_estimators=5, learning_rate=2.0).fit(x, names), x)


def test_a_first_stage_that_is_worse_than_chance_cannot_be_boosted():
    y = np.arange(30) % 3
    x = ((y + 1) % 3)[:, None]
    with pytest.raises(ValueError, match="worse than random"):
        AdaBoostClassifier(Stubborn(), n_estimators=3).fit(x, y)
    with pytest.raises(ValueError, match=r"Stubborn\(\): its error 1 .* no better than chance, 0\.6667 of 3 classes"):
        Samme(Stubborn(), 3, 1.0, 0).fit(x, y)


def test_one_class_is_learned_at_once():
    x = np.arange(10.0)[:, None]
    ours = Samme(STUMP, 3, 1.0, 0).fit(x, ["a"] * 10)
    assert ours.predict(x).tolist() == ["a"] * 10
    assert ours.estimator_weights_.tolist() == [1, 0, 0]


def test_random_states_are_those_that_are_announced():
    x, y = DATA["five classes"]
    ours = Samme(DecisionTreeClassifier(max_depth=2, max_features=2), 4, 1.0, 11).fit(x, y)
    chance = check_random_state(11)
    assert [member.random_state for member in ours.estimators_] == [chance.randint(2**31 - 1) for _ in range(4)]
    fresh = [Samme(DecisionTreeClassifier(max_depth=2, max_features=2), 4, 1.0, 11).fit(x, y).predict(x) for _ in "ab"]
    assert (fresh[0] == fresh[1]).all()
    shared = np.random.RandomState(3)
    a, b = (Samme(MEMBERS["random tree"], 2, 1.0, shared).fit(x, y).estimators_ for _ in "ab")
    assert a[0].random_state != b[0].random_state  # the generator goes on


def test_a_stage_by_hand():
    """Four samples of three classes, the last is wrong: err = 1/4, α = log 3 + log 2, w = 1, 1, 1, 6."""
    weights, wrong = np.full(4, 0.25), np.array([False, False, False, True])
    assert weighted_error(wrong, weights) == pytest.approx(0.25)
    alpha = member_weight(0.25, 3)
    assert alpha == pytest.approx(math.log(6))
    assert reweighted(weights, wrong, alpha) == pytest.approx([0.25, 0.25, 0.25, 1.5])
    assert reweighted(np.array([0.5, 0.0]), np.array([True, True]), 1.0).tolist()[1] == 0
    assert member_weight(0.6, 3) > 0 > member_weight(0.7, 3)  # chance is 2/3
    assert member_weight(0.25, 3, 0.1) == pytest.approx(0.1 * math.log(6))


@pytest.mark.parametrize(("options", "says"), [
    ({"n_estimators": 0}, "n_estimators=0: must be a whole number of at least 1"),
    ({"n_estimators": 2.5}, "n_estimators=2.5"),
    ({"learning_rate": 0}, "learning_rate=0: must be a number above 0"),
    ({"estimator": KNeighborsClassifier()}, "takes no sample_weight"),
])  # fmt: skip
def test_a_bad_argument_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        Samme(**({"estimator": STUMP, "n_estimators": 2, "learning_rate": 1.0} | options)).fit(*DATA["iris"])


@pytest.mark.parametrize("call", [
    lambda: member_weight(0.0, 3), lambda: member_weight(0.5, 1),
    lambda: Samme(STUMP, 2, 1.0, 0).fit(*DATA["iris"], sample_weight=np.ones(3)),
    lambda: Samme(STUMP, 2, 1.0, 0).fit(*DATA["iris"], sample_weight=-np.ones(150)),
    lambda: Samme(STUMP, 2, 1.0, 0).fit(*DATA["iris"]).predict(np.zeros((2, 3))),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError, match="must be"):
        call()


def test_it_is_an_estimator_like_others():
    ours = clone(Samme(LogisticRegression(), n_estimators=3, learning_rate=0.3, random_state=1))
    assert ours.get_params(deep=False)["learning_rate"] == 0.3
    x, y = DATA["wine"]
    assert ours.fit(x, y) is ours
    assert ours.score(x, y) == np.mean(ours.predict(x) == y)
