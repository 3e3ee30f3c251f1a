"""scikit-learn's classifiers as layers: scikit-learn fits them, tensors hold them, torch applies them.

So a checkpoint of plain tensors holds a stack with its classical learners, and it is evaluated and exported as any
network. B samples are given, N were fitted on, D features, K classes, k of them seen when it was fitted.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn import functional as F

NEVER = -1e4  # the logit of a class that the learner has not seen


class Learner(nn.Module, ABC):
    """A classifier that is fitted, not trained: its logits' softmax are its probabilities.

    Args:
        num_classes: K.

    Attributes:
        classes: (k,) those that it has seen, a buffer; empty until it is fitted.
    """

    names: ClassVar[tuple[str, ...]]  # of the buffers, whose sizes are those of what it was fitted on
    whole: ClassVar[tuple[str, ...]] = ()  # those that are whole numbers
    classes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64))
        for name in self.names:
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64 if name in self.whole else torch.float32))

    @property
    def fitted(self) -> bool:
        """Whether it is."""
        return self.classes.numel() > 0

    def fit(self, samples: np.ndarray, labels: np.ndarray, seed: int = 0) -> None:
        """Fit scikit-learn's classifier and keep it.

        Args:
            samples: (N, D).
            labels: (N,) int, 0 to K - 1, of at least two classes.
            seed: of what it draws.

        Raises:
            ValueError: there are fewer than two classes.
        """
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"classes {classes.tolist()} among {len(labels)} samples: must be at least two")
        self._put({"classes": classes, **self.learned(samples, labels, seed)})

    @abstractmethod
    def learned(self, samples: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
        """The buffers of a fitted classifier."""

    @abstractmethod
    def scores(self, samples: Tensor) -> Tensor:
        """(B, D) -> (B, k) logits of the classes that it has seen."""

    def forward(self, samples: Tensor) -> Tensor:
        """(B, D) -> logits (B, K)."""
        own = self.scores(samples)
        return own.new_full((samples.shape[0], self.num_classes), NEVER).index_copy(1, self.classes, own)

    def _put(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            before = getattr(self, name)
            setattr(self, name, torch.as_tensor(np.ascontiguousarray(value)).to(before))

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Give the buffers the sizes that they have in a state dict, so that it can be loaded."""
        for name in ("classes", *self.names):
            if name in state:
                before = getattr(self, name)
                setattr(self, name, before.new_empty(state[name].shape))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        self.make_room(own)
        super()._load_from_state_dict(state_dict, prefix, *others)


class Neighbours(Learner):
    """KNeighborsClassifier: the share of each class among the five nearest (all, where there are fewer)."""

    names = ("samples", "labels")
    whole = ("labels",)
    samples: Tensor  # (N, D)
    labels: Tensor  # (N,) places in ``classes``

    def learned(self, samples: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
        """The samples themselves."""
        return {"samples": samples, "labels": np.unique(labels, return_inverse=True)[1]}

    def scores(self, samples: Tensor) -> Tensor:
        """Logarithms of the shares; a class without a neighbour has that of the smallest number above 0."""
        known = self.samples
        distances = known.square().sum(1) - 2 * samples @ known.T  # (B, N), squared, up to a constant of each row
        nearest = distances.topk(min(5, len(known)), largest=False).indices
        votes = F.one_hot(self.labels, len(self.classes)).to(known)[nearest]  # (B, 5, k)
        return votes.mean(1).clamp_min(torch.finfo(known.dtype).tiny).log()

    def reference(self, seed: int = 0) -> Any:
        """scikit-learn's."""
        return KNeighborsClassifier(5)


class Regression(Learner):
    """LogisticRegression, multinomial, C = 1."""

    names = ("weight", "bias")
    weight: Tensor  # (k, D)
    bias: Tensor  # (k,)

    def learned(self, samples: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
        """A row for each class; of two the first has zeros."""
        found = self.reference().fit(samples, labels)
        weight, bias = found.coef_, found.intercept_
        if len(weight) == 1:
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
        return {"weight": weight, "bias": bias}

    def scores(self, samples: Tensor) -> Tensor:
        """The linear function."""
        return F.linear(samples, self.weight, self.bias)

    def reference(self, seed: int = 0) -> Any:
        """scikit-learn's."""
        return LogisticRegression(max_iter=1000)


class Vectors(Learner):
    """SVC with the RBF kernel, C = 1: its decision function, one class against another, votes; see scikit-learn's ovr.

    It has no probabilities; the softmax of the decisions is what the meta-learner sees.
    """

    names = ("vectors", "coefficients", "bias", "gamma")
    vectors: Tensor  # (S, D) the support vectors
    coefficients: Tensor  # (P, S) of each pair of classes, 0 for vectors of others
    bias: Tensor  # (P,)
    gamma: Tensor  # (1,)

    def learned(self, samples: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
        """Its dual coefficients, spread over the pairs."""
        found = self.reference().fit(samples, labels)
        of = np.repeat(np.arange(len(found.classes_)), found.n_support_)  # the class of each vector
        first, second = np.triu_indices(len(found.classes_), 1)
        sign = -1 if len(found.classes_) == 2 else 1  # of two classes scikit-learn turns its decision around
        coefficients = np.zeros((len(first), len(of)))
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            coefficients[pair, of == i] = sign * found.dual_coef_[j - 1, of == i]
            coefficients[pair, of == j] = sign * found.dual_coef_[i, of == j]
        return {
            "vectors": found.support_vectors_,
            "coefficients": coefficients,
            "bias": sign * found.intercept_,
            "gamma": [found._gamma],  # what ``gamma="scale"`` came to
        }

    def scores(self, samples: Tensor) -> Tensor:
        """Votes of the pairs, and the sums of their decisions squeezed into a third of a vote."""
        squares = samples.square().sum(1)[:, None] + self.vectors.square().sum(1) - 2 * samples @ self.vectors.T
        kernel = (-self.gamma * squares.clamp_min(0)).exp()  # (B, S)
        decisions = F.linear(kernel, self.coefficients, self.bias)  # (B, P), above 0 for the first
        first, second = torch.triu_indices(len(self.classes), len(self.classes), 1, device=samples.device)
        ones, twos = (F.one_hot(each, len(self.classes)).to(kernel) for each in (first, second))  # (P, k)
        for_first = (decisions >= 0).to(kernel)
        sums = decisions @ (ones - twos)
        return for_first @ ones + (1 - for_first) @ twos + sums / (3 * (sums.abs() + 1))

    def reference(self, seed: int = 0) -> Any:
        """scikit-learn's."""
        return SVC()


class Forest(Learner):
    """RandomForestClassifier of 100 trees: the mean of the leaves' shares."""

    names = ("feature", "threshold", "left", "right", "shares", "levels")
    whole = ("feature", "left", "right", "levels")
    feature: Tensor  # (T, n) what a node looks at
    threshold: Tensor  # (T, n) up to it a sample goes left
    left: Tensor  # (T, n) a leaf's is itself
    right: Tensor  # (T, n)
    shares: Tensor  # (T, n, k)
    levels: Tensor  # as long as the deepest tree is deep

    def learned(self, samples: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
        """The nodes of all trees, filled up to the largest with leaves that nobody reaches."""
        trees = [each.tree_ for each in self.reference(seed).fit(samples, labels).estimators_]
        shape = (len(trees), max(tree.node_count for tree in trees))
        feature, threshold = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        left, right = (np.tile(np.arange(shape[1]), (shape[0], 1)) for _ in range(2))
        shares = np.zeros((*shape, trees[0].value.shape[2]))
        for number, tree in enumerate(trees):
            inner = np.flatnonzero(tree.children_left >= 0)
            feature[number, inner] = tree.feature[inner]
            threshold[number, inner] = _rounded_down(tree.threshold[inner])
            left[number, inner], right[number, inner] = tree.children_left[inner], tree.children_right[inner]
            value = tree.value[:, 0]
            shares[number, : len(value)] = value / value.sum(1, keepdims=True)
        levels = np.zeros(max(tree.max_depth for tree in trees), np.int64)
        nodes = {"feature": feature, "threshold": threshold, "left": left, "right": right}
        return {**nodes, "shares": shares, "levels": levels}

    def scores(self, samples: Tensor) -> Tensor:
        """Logarithms of the mean shares."""
        given = samples.float().to(self.threshold)  # as scikit-learn does, whose trees see float32
        node = self.left.new_zeros(len(self.left), samples.shape[0])  # (T, B); an exporter would fix B as len() of it
        for _ in range(len(self.levels)):
            value = given.gather(1, self.feature.gather(1, node).T).T  # (T, B)
            goes_left = value <= self.threshold.gather(1, node)
            node = self.left.gather(1, node).where(goes_left, self.right.gather(1, node))
        reached = self.shares.gather(1, node[..., None].expand(-1, -1, self.shares.shape[2]))  # (T, B, k)
        return reached.mean(0).clamp_min(torch.finfo(reached.dtype).tiny).log()

    def reference(self, seed: int = 0) -> Any:
        """scikit-learn's."""
        return RandomForestClassifier(100, random_state=seed)


def _rounded_down(thresholds: np.ndarray) -> np.ndarray:
    """The largest float32 that is no larger: what a float32 is compared with to the same effect."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


LEARNERS: dict[str, type[Learner]] = {
    "knn": Neighbours,
    "logistic_regression": Regression,
    "svm": Vectors,
    "random_forest": Forest,
}
