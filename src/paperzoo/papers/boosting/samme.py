"""SAMME: AdaBoost for any number of classes, over any classifier that takes sample weights.

Zhu, Zou, Rosset, Hastie: Multi-class AdaBoost, Statistics and Its Interface 2 (2009), Algorithm 2. Symbols: w (N,) the
sample weights, err the weighted error of a member, α its weight in the vote, K the number of classes.

The three functions are one stage; ``Samme`` goes through the stages as scikit-learn's AdaBoostClassifier does, its
stopping rules included.
"""

import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_array, check_random_state, check_X_y
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

FORMS: dict[str, Any] = {"accept_sparse": ["csr", "csc"], "ensure_2d": True, "allow_nd": True, "dtype": None}
MOST = 2**31 - 1  # a member's random_state is below it


def weighted_error(wrong: np.ndarray, weights: np.ndarray) -> float:
    """``err = Σ w [wrong] / Σ w`` (step 2b).

    Args:
        wrong: (N,) bool, whether the member is wrong on each sample.
        weights: (N,) float, at least 0, not all of them 0.
    """
    return float(np.average(wrong, weights=weights))


def member_weight(error: float, classes: int, learning_rate: float = 1.0) -> float:
    """``α = ν (log((1 - err) / err) + log(K - 1))`` (step 2c), above 0 where the error is below chance's 1 - 1/K.

    Args:
        error: in (0, 1).
        classes: K, at least 2.
        learning_rate: ν, the shrinkage.

    Raises:
        ValueError: an argument is outside its range.
    """
    if not 0 < error < 1:
        raise ValueError(f"error={error}: must be above 0 and below 1")
    if classes < 2:
        raise ValueError(f"classes={classes}: must be at least 2")
    return float(learning_rate * (np.log((1.0 - error) / error) + np.log(classes - 1.0)))


def reweighted(weights: np.ndarray, wrong: np.ndarray, alpha: float) -> np.ndarray:
    """``w exp(α [wrong])`` (step 2d), before it is normalised; by logarithms, a weight of 0 stays 0.

    Args:
        weights: (N,) float64.
        wrong: (N,) bool.
        alpha: the member's weight.
    """
    with np.errstate(divide="ignore"):
        return np.exp(np.log(weights) + alpha * wrong * (weights > 0))


class Samme(ClassifierMixin, BaseEstimator):
    """AdaBoost-SAMME, in the manner of scikit-learn and equal to its AdaBoostClassifier.

    Args:
        estimator: a classifier whose ``fit`` takes ``sample_weight``; None is a decision tree of depth 1.
        n_estimators: the most members, at least 1.
        learning_rate: ν, above 0.
        random_state: an int, a RandomState or None. Member i is a clone of ``estimator`` whose ``random_state`` is the
            i-th ``check_random_state(random_state).randint(2**31 - 1)``; one that is made of several parts with a
            ``random_state`` each has one draw for each, in the order of their names.

    Attributes:
        estimators_: the members, a list.
        estimator_weights_: (n_estimators,) their α; 0 where boosting stopped before.
        estimator_errors_: (n_estimators,) their weighted errors; 1 where boosting stopped before.
        classes_: (K,) the labels, sorted.
        n_classes_: K.
        n_features_in_: of the samples.

    It stops after a member without an error (weight 1, error 0), and before one that is no better than chance, which is
    left out.
    """

    def __init__(
        self,
        estimator: Any = None,
        n_estimators: int = 50,
        learning_rate: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 - scikit-learn's names
        """Train the members one after the other.

        Args:
            X: (N, D), dense or sparse.
            y: (N,) labels of any type.
            sample_weight: (N,) the weights to begin with; None: all alike.

        Raises:
            ValueError: an argument is outside its range, the estimator takes no sample weights, or the first member
                is no better than chance.
        """
        self._check()
        X, y = check_X_y(X, y, **FORMS)  # noqa: N806
        check_classification_targets(y)
        weights = _initial(sample_weight, len(y))
        left_out = weights == 0
        chance = check_random_state(self.random_state)
        self.n_features_in_ = X.shape[1]
        self.estimators_: list[Any] = []
        self.estimator_weights_ = np.zeros(self.n_estimators)
        self.estimator_errors_ = np.ones(self.n_estimators)
        for number in range(self.n_estimators):
            weights = np.clip(weights, np.finfo(weights.dtype).eps, None)  # a product of many factors may underflow
            weights[left_out] = 0.0
            member = self._member(chance).fit(X, y, sample_weight=weights)
            wrong = member.predict(X) != y
            if not number:
                self.classes_ = member.classes_
                self.n_classes_ = len(self.classes_)
            error = weighted_error(wrong, weights)
            if error <= 0:
                self._keep(number, member, 1.0, 0.0)
                break
            if error >= 1 - 1 / self.n_classes_:
                self._demand_one(error)
                break
            alpha = member_weight(error, self.n_classes_, self.learning_rate)
            self._keep(number, member, alpha, error)
            if number + 1 == self.n_estimators:
                break
            weights = reweighted(weights, wrong, alpha)
            total = weights.sum()
            if not np.isfinite(total):
                warnings.warn(f"sample weights overflow after member {number + 1}: lower learning_rate", stacklevel=2)
                break
            weights /= total
        return self

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """The vote: (N, K), or (N,) of two classes, above 0 for the second.

        A member adds α for its class and ``-α / (K - 1)`` for each other; the sum is divided by that of all α.
        """
        check_is_fitted(self)
        *_, vote = self._votes(self._checked(X))
        return vote

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:  # noqa: N803
        """The labels (N,) that the first member gives, the first two, and so on."""
        check_is_fitted(self)
        for vote in self._votes(self._checked(X)):
            yield self._label(vote)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The labels (N,)."""
        return self._label(self.decision_function(X))

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities (N, K): ``softmax(vote / (K - 1))`` (Eq. 15)."""
        vote = self.decision_function(X)
        if self.n_classes_ == 1:
            return np.ones((len(vote), 1))
        scores = np.stack([-vote, vote], axis=1) / 2 if self.n_classes_ == 2 else vote / (self.n_classes_ - 1)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    # stages

    def _check(self) -> None:
        number, rate = self.n_estimators, self.learning_rate
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise ValueError(f"n_estimators={number!r}: must be a whole number of at least 1")
        if not isinstance(rate, Real) or not 0 < float(rate) < float("inf"):
            raise ValueError(f"learning_rate={rate!r}: must be a number above 0")
        if not has_fit_parameter(self._template(), "sample_weight"):
            raise ValueError(f"estimator={self._template()!r}: its fit takes no sample_weight, which boosting needs")

    def _template(self) -> Any:
        return DecisionTreeClassifier(max_depth=1) if self.estimator is None else self.estimator

    def _member(self, chance: np.random.RandomState) -> Any:
        """An unfitted clone with random states of its own."""
        member = clone(self._template())
        names = [
            name
            for name in sorted(member.get_params(deep=True))
            if name == "random_state" or name.endswith("__random_state")
        ]
        return member.set_params(**{name: chance.randint(MOST) for name in names}) if names else member

    def _keep(self, number: int, member: Any, alpha: float, error: float) -> None:
        self.estimators_.append(member)
        self.estimator_weights_[number], self.estimator_errors_[number] = alpha, error

    def _demand_one(self, error: float) -> None:
        """There is nothing to vote where the first member is no better than chance."""
        if not self.estimators_:
            raise ValueError(
                f"estimator={self._template()!r}: its error {error:.4g} on the samples is no better than chance, "
                f"{1 - 1 / self.n_classes_:.4g} of {self.n_classes_} classes; there is nothing to boost"
            )

    # the vote

    def _checked(self, X: Any) -> Any:  # noqa: N803
        X = check_array(X, **FORMS)  # noqa: N806
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features: must be {self.n_features_in_}, as in fit")
        return X

    def _votes(self, X: Any) -> Iterator[np.ndarray]:  # noqa: N803
        """The vote of the first member, the first two, and so on."""
        classes = self.n_classes_
        if classes == 1:
            yield np.zeros((X.shape[0], 1))
            return
        sums, total = np.zeros((X.shape[0], classes)), 0.0
        for member, alpha in zip(self.estimators_, self.estimator_weights_, strict=False):
            chosen = member.predict(X)[:, None] == self.classes_
            sums = sums + np.where(chosen, alpha, -1 / (classes - 1) * alpha)
            total += alpha
            vote = sums / total
            yield vote[:, 1] - vote[:, 0] if classes == 2 else vote

    def _label(self, vote: np.ndarray) -> np.ndarray:
        return self.classes_.take(vote > 0 if self.n_classes_ == 2 else vote.argmax(axis=1), axis=0)


def _initial(sample_weight: Any, size: int) -> np.ndarray:
    """The weights of the first stage: their sum is 1."""
    if sample_weight is None:
        return np.full(size, 1.0) / size
    weights = np.array(sample_weight, dtype=np.float64)
    if weights.shape != (size,):
        raise ValueError(f"sample_weight is of shape {weights.shape}: must be ({size},)")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("sample_weight: must be finite numbers of at least 0, not all of them 0")
    return weights / weights.sum()
