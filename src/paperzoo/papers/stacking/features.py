"""Features for level-0 learners of scikit-learn: pixels, or a network's last layer before its classifier."""

from typing import Any

import numpy as np
from torch import Tensor

from paperzoo.data.interface import Batch, RunData
from paperzoo.errors import UserError
from paperzoo.tasks.classification import Classification
from paperzoo.tasks.ensembles import on_split

KINDS = ("raw", "penultimate")


def features(module: Classification, data: RunData, split: str, kind: str = "raw") -> tuple[np.ndarray, np.ndarray]:
    """The samples of a split as rows, and their labels (N,).

    A network that was trained on samples knows their labels: the penultimate features of its own training split are
    no out-of-fold features, whatever the folds of the learners upon them.

    Args:
        module: a classifier whose network is timm's kind.
        data: set up.
        split: train, val or test.
        kind: "raw", normalised pixels (N, C H W), or "penultimate", (N, D).

    Raises:
        UserError: there is no such kind, or the network has no such layer.
    """
    if kind not in KINDS:
        raise UserError(f"kind={kind}: must be one of {', '.join(KINDS)}")
    if kind == "penultimate" and not hasattr(module.network, "forward_head"):
        raise UserError(f"kind=penultimate: {type(module.network).__name__} has no layer before its classifier to take")

    def rows(batch: Batch) -> Tensor:
        if kind == "raw":
            return batch.inputs.flatten(1)
        network: Any = module.network
        return network.forward_head(network.forward_features(batch.inputs), pre_logits=True).flatten(1)

    found, labels = on_split(module, data, split, rows)
    return found.numpy(), labels.numpy()
