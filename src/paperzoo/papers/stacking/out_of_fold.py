"""Stacking: level-0 learners predict what they were not fitted on, and a meta-learner learns from that.

Wolpert: Stacked Generalization, Neural Networks 5 (1992). N samples in J folds, K classes, L level-0 learners.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

METHODS = ("predict_proba", "decision_function", "predict")  # the first that a learner has


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each sample, 0 to J - 1: each class as evenly over the folds as can be, and so are all samples.

    Args:
        labels: (N,) of any type.
        folds: J, at least 2. A class with fewer samples is missing from some folds; a warning says so.
        seed: of the order within a class.

    Raises:
        ValueError: there are fewer than two folds, or fewer samples than folds.
    """
    labels = np.asarray(labels)
    if folds < 2 or len(labels) < folds:
        raise ValueError(f"folds={folds}: must be at least 2 and at most the {len(labels)} samples")
    chance = np.random.default_rng(seed)
    classes, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index)
    rare = classes[counts < folds]
    if len(rare):
        warnings.warn(
            f"class {rare[0]} has {counts.min()} samples, fewer than folds={folds}: not in each", stacklevel=2
        )
    of = np.empty(len(labels), dtype=np.int64)
    dealt = 0  # each class goes on where the one before ended, so that folds differ by one sample at most
    for number, count in enumerate(counts):
        own = chance.permutation(np.flatnonzero(index == number))
        of[own] = (dealt + np.arange(count)) % folds
        dealt += count
    return of


def method_of(learner: Any) -> str:
    """How a learner predicts: by probabilities where it has them.

    Raises:
        ValueError: it cannot.
    """
    found = next((method for method in METHODS if hasattr(learner, method)), None)
    if found is None:
        raise ValueError(f"{learner!r}: has none of {', '.join(METHODS)}")
    return found


def out_of_fold(learner: Any, samples: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predict each fold by a clone of the learner that was fitted on the others.

    Args:
        learner: scikit-learn's.
        samples: (N, D).
        labels: (N,) int, 0 to K - 1.
        folds: (N,) the fold of each sample.

    Returns:
        (N, K), or (N, 1) of a decision between two classes or of predicted classes. A class that is missing from the
        other folds has probability 0, and as a decision the smallest number there is.

    Raises:
        ValueError: there are fewer than two folds, or shapes differ.
    """
    numbers = np.unique(folds)
    if len(numbers) < 2 or not len(samples) == len(labels) == len(folds):
        raise ValueError(
            f"{len(numbers)} folds of {len(folds)} samples, {len(samples)} samples, {len(labels)} labels: must be at "
            "least two folds, and a fold and a label for each sample"
        )
    method = method_of(learner)
    classes = int(np.max(labels)) + 1
    found: np.ndarray | None = None
    for number in numbers:
        held_out = folds == number
        fitted = clone(learner).fit(samples[~held_out], labels[~held_out])
        predicted = _columns(getattr(fitted, method)(samples[held_out]), method, fitted.classes_, classes)
        if found is None:
            found = np.empty((len(labels), predicted.shape[1]))
        found[held_out] = predicted
    assert found is not None
    return found


def _columns(predicted: np.ndarray, method: str, own: np.ndarray, classes: int) -> np.ndarray:
    """A column for each class, also for those that a learner has not seen."""
    if predicted.ndim == 1:
        if method == "decision_function" and classes > 2:
            raise ValueError(f"classes {own.tolist()}: a decision between two of {classes} classes; use fewer folds")
        return predicted[:, None].astype(float)
    if len(own) == classes or method == "predict":
        return predicted
    fill = 0.0 if method == "predict_proba" else np.finfo(np.float64).min
    wide = np.full((len(predicted), classes), fill)
    wide[:, own] = predicted
    return wide


class Stacking(ClassifierMixin, BaseEstimator):
    """Stacking in the manner of scikit-learn, equal to its StackingClassifier given the same folds.

    Args:
        learners: ``(name, learner)`` of level 0.
        meta: the learner upon them; None is logistic regression.
        folds: J, or the fold (N,) of each sample.
        seed: of the folds, where their number is given.
        passthrough: whether the meta-learner sees the samples, too.

    Attributes:
        learners_: those of level 0, fitted on all samples.
        meta_: the meta-learner, fitted on the out-of-fold predictions.
        folds_: (N,) the fold of each sample.
        out_of_fold_: L arrays (N, K), what was predicted of each sample.
        classes_: (K,) the labels.
    """

    def __init__(
        self,
        learners: Sequence[tuple[str, Any]],
        meta: Any = None,
        folds: Any = 5,
        seed: int = 0,
        passthrough: bool = False,
    ) -> None:
        self.learners = learners
        self.meta = meta
        self.folds = folds
        self.seed = seed
        self.passthrough = passthrough

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's names
        """Predict out of fold, fit the meta-learner on that, and the learners on all samples.

        Raises:
            ValueError: there is no learner, or the folds do not fit the samples.
        """
        if not self.learners:
            raise ValueError("learners=[]: must be at least one")
        samples = np.asarray(X)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.folds_ = (
            stratified_folds(labels, self.folds, self.seed) if np.ndim(self.folds) == 0 else np.asarray(self.folds)
        )
        self.out_of_fold_ = [out_of_fold(learner, samples, labels, self.folds_) for _, learner in self.learners]
        self.learners_ = [clone(learner).fit(samples, labels) for _, learner in self.learners]
        meta = LogisticRegression() if self.meta is None else self.meta
        self.meta_ = clone(meta).fit(self._joined(self.out_of_fold_, samples), labels)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """What the meta-learner sees of samples (N, D)."""
        check_is_fitted(self)
        samples = np.asarray(X)
        found = []
        for learner in self.learners_:
            predicted = getattr(learner, method_of(learner))(samples)
            found.append(predicted[:, None] if predicted.ndim == 1 else predicted)
        return self._joined(found, samples)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The labels (N,)."""
        return self.classes_[self.meta_.predict(self.transform(X))]

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Probabilities (N, K)."""
        return self.meta_.predict_proba(self.transform(X))

    def _joined(self, predicted: list[np.ndarray], samples: np.ndarray) -> np.ndarray:
        """Side by side; of two classes' probabilities the second, which says all."""
        parts = [part[:, 1:] if len(self.classes_) == 2 and part.shape[1] == 2 else part for part in predicted]
        return np.hstack([*parts, samples] if self.passthrough else parts)
